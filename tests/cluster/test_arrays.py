"""Arrays of an output: what one worker writes of a part is what zarr reads as that chunk."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from frostline.cluster.arrays import Array


@pytest.mark.parametrize(("dtype", "width", "missing"), [("float32", 3, np.nan), ("int8", None, 0)])
def test_chunks_that_are_written_alone_are_read_as_one_array(tmp_path, dtype, width, missing):
    """The last part has fewer cells, and one that nobody has written holds what stands for missing."""
    array = Array("a", dtype, width)
    array.make(tmp_path / "a", 4, 10)
    values = np.arange(10 * (width or 1)).reshape(array.shape(10)).astype(dtype)
    for part, rows in ((0, slice(0, 4)), (2, slice(8, 10))):
        (tmp_path / array.file(part)).write_bytes(array.chunk(4, values[rows]))
    read = zarr.open_array(tmp_path / "a", mode="r")
    assert (read.shape, read.chunks, read.dtype) == (array.shape(10), array.shape(4), dtype)
    values[4:8] = missing
    np.testing.assert_array_equal(read[:], values)
    assert dict(read.attrs) == {"encoding-type": "array", "encoding-version": "0.2.0"}

"""An array of an output: each part is one chunk of zarr, so a file that one worker writes alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ARRAY: dict[str, Any] = {"encoding-type": "array", "encoding-version": "0.2.0"}
"""How anndata marks an array."""


@dataclass(frozen=True)
class Array:
    """An array of the output with a row for each cell; each part is one chunk of it."""

    place: str
    """Below the folder of the output: `store/obsm/X_scGPT`, or `codes/label` for what is made into a column at last."""
    dtype: str
    width: int | None = None
    """Columns; None for an array of one dimension."""

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of so many rows."""
        return (rows,) if self.width is None else (rows, self.width)

    def file(self, part: int) -> str:
        """Name of the file that holds a part, below the folder of the output."""
        return f"{self.place}/{part}" + ("" if self.width is None else ".0")

    def chunk(self, rows: int, values: NDArray[Any]) -> bytes:
        """Content of the file that holds a part of at most so many rows."""
        import zarr

        store: dict[str, Any] = {}
        memory, layout = zarr.storage.MemoryStore(store), self._layout(rows, len(values))
        made = zarr.create_array(memory, **layout, config={"write_empty_chunks": True})
        made[:] = np.ascontiguousarray(values, dtype=self.dtype)
        content: bytes = store["0" if self.width is None else "0.0"].to_bytes()
        return content

    def make(self, folder: Path, rows: int, n_cells: int) -> None:
        """Make the array of all cells, in parts of so many rows, without its values."""
        import zarr

        zarr.create_array(folder, **self._layout(rows, n_cells), attributes=dict(ARRAY), overwrite=True)

    def _layout(self, rows: int, n: int) -> dict[str, Any]:
        """Arguments of zarr: a part is a chunk, in the version of the format that all readers know."""
        return {
            "shape": self.shape(n),
            "chunks": self.shape(rows),
            "dtype": self.dtype,
            "fill_value": np.nan if np.dtype(self.dtype).kind == "f" else 0,
            "zarr_format": 2,
        }

"""Two processes of Dask that all tests of this room share."""

from __future__ import annotations

import pytest

from frostline.cluster.connections import Workers, connected


@pytest.fixture(scope="session")
def client():
    """Of two processes with 2 GB each, one thread each, that declare a GPU which nobody looks for."""
    with connected(Workers(number=2, memory="2GB", resources={"GPU": 1})) as client:
        yield client

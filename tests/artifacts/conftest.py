"""Fixtures of the artifacts: most tests of a file check almost the same folder."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _computed_once(computed_once):
    """In all of these files."""

"""Limits that the command line states, apart from what holds values to them, which `--help` need not wait for."""

from __future__ import annotations

SEEDS = 2**32 - 1
"""The largest seed."""
SHORTEST, LONGEST = 2, 100_000
"""Tokens of a sequence: `<cls>` and a gene at least."""

"""The command line states limits without loading what holds values to them."""

from __future__ import annotations

import subprocess
import sys


def test_help_loads_no_numbers_and_no_checks_of_them():
    code = "import frostline.cli, sys; print({'numpy', 'pydantic', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

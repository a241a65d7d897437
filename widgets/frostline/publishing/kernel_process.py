"""The process of a notebook's kernel: it ends with the process that started it, also when that one is killed.

Run as a script, by its path, so that it needs nothing but ipykernel to start.
"""

import atexit
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path

PAUSE = 0.5
"""Seconds between two looks at the parent."""


def end_with(parent: int) -> None:
    """Wait until another process is the parent, then end at once, with all that was started from here."""
    while os.getppid() == parent:
        time.sleep(PAUSE)
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Run the kernel that the arguments describe."""
    # The folder of this script would hide other packages; the one that holds the package comes last, so that the
    # notebook imports what started it even where that was found by a path of its own.
    folder = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != folder]
    sys.path.append(str(folder.parents[1]))
    parent = int(os.environ.get("JPY_PARENT_PID", 0))
    if parent and hasattr(os, "killpg"):
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    atexit.register(gc.freeze)  # the last thing done: to look for garbage among all modules takes a second or two
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()

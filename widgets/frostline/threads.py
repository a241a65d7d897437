"""Threads of linear algebra in NumPy, SciPy and scikit-learn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_blocks = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """In this block each product is computed by one thread, also where other threads enter and leave such blocks.

    The number is, of most libraries, one of the whole process: it comes back when the last block ends. Many small
    products are faster so, a decomposition, in which OpenBLAS's threads wait for each other at every step, takes twenty
    times as long with two as soon as another program is busy, and the last bits of a product depend on how it is
    divided.

    Examples
    --------
    >>> import numpy as np
    >>> from threadpoolctl import threadpool_info
    >>> with one_blas_thread():
    ...     {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
    {1}
    """
    global _blocks, _limit
    from threadpoolctl import threadpool_limits

    with _lock:
        if not _blocks:
            _limit = _in_another_thread(lambda: threadpool_limits(1, user_api="blas"))
        _blocks += 1
    try:
        with threadpool_limits(1, user_api="blas"):  # OpenBLAS on OpenMP has a number for each thread
            yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _in_another_thread(_limit.restore_original_limits)


def _in_another_thread(do: Callable[[], Any]) -> Any:
    """Do it in a thread that ends with it: for threadpoolctl, who sets the number is its master as long as it lives."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(do).result()

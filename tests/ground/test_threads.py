"""One thread of linear algebra, for as long as anybody asks for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from frostline.threads import one_blas_thread


def numbers() -> set[int]:
    """Threads of every library of linear algebra that is loaded."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def three():
    """Set by a thread that ends: for threadpoolctl, who sets the number is its master as long as it lives."""
    with ThreadPoolExecutor(1) as before:
        limit = before.submit(threadpool_limits, 3, user_api="blas").result()
    yield
    with ThreadPoolExecutor(1) as after:
        after.submit(limit.restore_original_limits).result()


def test_it_holds_until_the_last_of_several_blocks_ends_and_leaves_the_number_as_it_was():
    with ThreadPoolExecutor(1) as other:
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        other.submit(second.__enter__).result()
        assert numbers() == {1}
        first.__exit__(None, None, None)
        assert numbers() == {1}
        other.submit(second.__exit__, None, None, None).result()
    assert numbers() == {3}


def test_a_block_that_fails_ends_too():
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert numbers() == {3}

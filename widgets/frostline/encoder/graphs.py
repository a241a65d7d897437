"""CUDA graphs: what a GPU computed for a batch of one shape, captured once and replayed for each further one.

A training step of an encoder is hundreds of small computations. The host takes longer to launch each of them than a
GPU to compute it; a graph is launched at once.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from frostline.errors import FrostlineError

DEVICE = "cuda"
MOST = 16
"""Shapes that are captured; batches of others are computed as they come."""
MULTIPLE = {DEVICE: 64}
"""Cells of a batch are padded to a multiple of so many tokens on a device: few shapes come, and come again."""
Computed = Sequence[Tensor | None]
_one_draws = threading.Lock()
"""A GPU's random stream must not be drawn from while a graph is captured; all threads share it."""


class Graphed:
    """A function of tensors, which a GPU computes from a graph as soon as it has seen their shapes twice.

    Elsewhere it is called as it is. The graph computes the same, with the random numbers that would be drawn without.

    Parameters
    ----------
    compute
        Returns tensors of the same shapes for all inputs, and None in the same places. It must not wait for the GPU,
        and must read nothing that changes, other than its inputs and the values of parameters.

    Raises
    ------
    FrostlineError
        From a call: what is computed waits for the GPU.

    Examples
    --------
    >>> double = Graphed(lambda x: (2 * x, None))
    >>> double(torch.ones(2))
    (tensor([2., 2.]), None)
    """

    def __init__(self, compute: Callable[..., Computed]) -> None:
        self._compute = compute
        self._seen: set[tuple[torch.Size, ...]] = set()
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]] = {}
        self._results: Computed = ()
        self._most = MOST

    def __call__(self, *inputs: Tensor) -> Computed:
        """Compute it; on a GPU the next call overwrites the tensors that are returned."""
        if inputs[0].device.type != DEVICE:
            return self._compute(*inputs)
        shapes = tuple(each.shape for each in inputs)
        with _one_draws:
            if shapes in self._seen and shapes not in self._graphs and len(self._graphs) < self._most:
                self._capture(shapes, inputs)
            self._seen.add(shapes)
            if shapes not in self._graphs:
                return self._compute(*inputs)
            graph, places = self._graphs[shapes]
            for place, each in zip(places, inputs, strict=True):
                place.copy_(each)
            graph.replay()
        return self._results

    def _capture(self, shapes: tuple[torch.Size, ...], inputs: Sequence[Tensor]) -> None:
        """Capture a graph; all share memory and the tensors they write. Where memory is full there will be no more."""
        graph, places = torch.cuda.CUDAGraph(), [torch.empty_like(each) for each in inputs]
        pool = next((earlier.pool() for earlier, _ in self._graphs.values()), None)
        try:
            with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
                found = self._compute(*places)
                for result, new in zip(self._results or found, found, strict=True):
                    if result is not new and result is not None and new is not None:
                        result.copy_(new)
        except torch.OutOfMemoryError:
            self._most = 0
            return
        except RuntimeError as error:  # torch does not recover from it: random numbers are refused afterwards
            raise FrostlineError(
                f"a step could not be captured as a CUDA graph ({str(error).splitlines()[0]}); restart the kernel or "
                "the command, with memory='low', which captures none"
            ) from error
        self._results = self._results or found
        self._graphs[shapes] = graph, places

"""Memory, streams and events of one GPU: all calls of ``torch.cuda`` that feeders make.

Tests replace ``Cuda`` by an emulation, so that feeders run where there is no GPU.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from mapix.errors import UnsupportedError
from mapix.gpu.driver import Kernel, reads_host_memory

__all__ = ["Cuda"]


class Cuda:
    """One GPU, as feeders use it.

    Parameters
    ----------
    device : torch.device
        A device of type "cuda"; of another type, only ``sent`` works.

    Raises
    ------
    UnsupportedError
        PyTorch finds no GPU.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UnsupportedError(f"device {device}: PyTorch finds no CUDA GPU")
        self.device = device

    def using(self) -> AbstractContextManager[Any]:
        """Make this GPU the current one, for a ``with`` statement."""
        context: AbstractContextManager[Any] = torch.cuda.device(self.device)
        return context

    def bind(self) -> None:
        """Let calls of the driver in this thread use the context that PyTorch uses."""
        torch.cuda.Event().record(self.current())

    def kernel(self) -> Kernel:
        """Load the kernel into the context that PyTorch uses."""
        with self.using():
            torch.zeros(1, device=self.device)  # PyTorch creates its context with a first tensor
            return Kernel()

    def reads_host_memory(self) -> bool:
        """Return whether the GPU can read memory that is registered as read-only."""
        with self.using():
            return reads_host_memory(torch.cuda.current_device())

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a new tensor on the GPU."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a new tensor of zeros in pinned memory of the host."""
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def sent(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a copy of a tensor on the GPU."""
        return tensor.to(self.device, dtype)

    def stream(self) -> Any:
        """Return a new stream."""
        return torch.cuda.Stream(self.device)

    def event(self) -> Any:
        """Return a new event."""
        return torch.cuda.Event()

    def current(self) -> Any:
        """Return the stream that is current for this GPU."""
        return torch.cuda.current_stream(self.device)

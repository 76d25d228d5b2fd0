"""Batches as PyTorch tensors, on the CPU or a GPU: the parts of ``mapix.torch.Loader``."""

from mapix.feeding.loader import Loader

__all__ = ["Loader"]

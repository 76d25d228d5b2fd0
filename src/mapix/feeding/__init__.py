"""Batches as PyTorch's tensors, where they are wanted: what ``mapix.torch.Loader`` is made of."""

from mapix.feeding.loader import Loader

__all__ = ["Loader"]

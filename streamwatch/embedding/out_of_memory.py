"""Which of torch's errors mean that memory was short, and how to give back what it keeps."""

from __future__ import annotations

import gc

import torch

_SAYS = (
    "can't allocate memory",  # torch's allocator for the CPU
    "not enough memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the same work in smaller parts may go well."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator and the libraries below CUDA have no exception of their own.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAYS)


def uses_gpu(embedder: object) -> bool:
    """Whether an embedder computes elsewhere than on the CPU."""
    device = getattr(embedder, "device", None)
    return isinstance(device, torch.device) and device.type != "cpu"


def release_memory() -> None:
    """Give back what is unused. Call it after the `except` block: a traceback holds the tensors of its frames."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

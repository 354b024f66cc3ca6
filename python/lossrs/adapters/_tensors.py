"""Tensors as arrays."""

from typing import Any


def array(value: Any) -> Any:
    """Return the array of a tensor, on whatever device; bfloat16, which NumPy lacks, as float32."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()

"""Torch's tensors as memory: how they are stored, where they lie, whether machine code may work on them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from adamite.storage import (
    BFLOAT16,
    EIGHT_BIT_SIGNED,
    EIGHT_BIT_UNSIGNED,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Format,
    Layout,
)

FORMATS: dict[torch.dtype, Format] = {
    torch.float16: FLOAT16,
    torch.bfloat16: BFLOAT16,
    torch.float32: FLOAT32,
    torch.float64: FLOAT64,
    torch.complex64: FLOAT32,  # as pairs of real numbers
    torch.complex128: FLOAT64,
}
TYPES: dict[Format, torch.dtype] = {  # of real numbers, and of codes
    **{format: dtype for dtype, format in FORMATS.items() if not dtype.is_complex},
    EIGHT_BIT_SIGNED: torch.uint8,
    EIGHT_BIT_UNSIGNED: torch.uint8,
}
_COMPLEX = {FLOAT32: torch.complex64, FLOAT64: torch.complex128}
_IN_NUMPY = {dtype: format.dtype for format, dtype in TYPES.items()}


def local(tensor: Any) -> Any:
    """What of a tensor lies in this process: a DTensor's own part, else the tensor."""
    return getattr(tensor, "_local_tensor", tensor)


def shard(g: Any, p: Any) -> Any:
    """What of a gradient belongs to the part of its parameter that lies in this process."""
    if getattr(g, "placements", None) not in (None, p.placements):
        g = g.detach().redistribute(p.device_mesh, p.placements)
    return local(g)


def format_of(p: Tensor) -> Format:
    """The format of a parameter."""
    format = FORMATS.get(p.dtype)
    if format is None:
        raise TypeError(
            f"adamite optimizes float16, bfloat16, float32, float64, complex64 and complex128 tensors, got {p.dtype}"
        )
    return format


def optimizable(p: Tensor) -> bool:
    """Whether a parameter without a gradient could be a row."""
    return p.dtype in FORMATS and not isinstance(p, torch.nn.parameter.UninitializedParameter)


def kept_type(p: Tensor, format: Format | None = None) -> torch.dtype:
    """The type of a parameter's states, of those in a format of their own or of the others."""
    if format is not None and format is not format.compute:
        return TYPES[format]
    return p.dtype if p.is_complex() else TYPES[format_of(p).compute]


def gradient_type(p: Tensor, layout: Layout) -> torch.dtype:
    """The type in which a parameter's gradient is read."""
    if layout.wide is None:
        return p.dtype
    return _COMPLEX[layout.wide] if p.is_complex() else TYPES[layout.wide]


def with_gradient(layout: Layout, g: Any) -> Layout:
    """A parameter's layout for this gradient, None where it has none."""
    return layout if g is None else layout.with_gradient(FORMATS.get(g.dtype, layout.x))


def of_rows(g: Any) -> bool:
    """Whether a gradient, if there is one, is of rows."""
    return g is not None and g.layout is torch.sparse_coo


def elements(p: Tensor) -> int:
    """How many numbers a tensor holds."""
    return p.numel() * (2 if p.is_complex() else 1)


def native(p: Tensor) -> bool:
    """Whether machine code may work on a tensor where it lies."""
    return p.device.type == "cpu" and p.layout is torch.strided and not is_traceable_wrapper_subclass(p)


def view(t: Tensor) -> np.ndarray[Any, Any]:
    """A CPU tensor's memory as NumPy sees it: pairs for complex numbers, integers for bfloat16.

    Made from the address, since after torch's own `numpy()` a storage can't be resized. It holds while the tensor does.
    """
    t = t.detach()
    if t.is_complex():
        t = torch.view_as_real(t)
    strides = [stride * t.element_size() for stride in t.stride()]
    reach = sum(stride * (size - 1) for stride, size in zip(strides, t.shape)) + t.element_size() if t.numel() else 0
    memory: Any = (ctypes.c_char * reach).from_address(t.data_ptr())
    array: np.ndarray[Any, Any] = np.ndarray(tuple(t.shape), _IN_NUMPY[t.dtype], memory, strides=strides)
    return array


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory."""
    return a.stride() == b.stride() or (a.is_contiguous() and b.is_contiguous())


def dense(t: Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in whatever order of axes."""
    extent = 1
    for stride, size in sorted((s, n) for s, n in zip(t.stride(), t.shape) if n != 1):
        if stride != extent:
            return t.numel() == 0
        extent *= size
    return True

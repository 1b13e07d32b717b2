"""Where adamite.torch departs from torch.optim on purpose: what, and why."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One departure."""

    what: str
    why: str


TORCH = (
    Difference("differentiable=True is refused", "the step is machine code, which autograd can't look into"),
    Difference(
        "foreach, fused and capturable are accepted and change nothing",
        "there is one engine; combinations that torch refuses are refused",
    ),
    Difference(
        "torch's tests that mock its own functions don't apply",
        "they ask which of torch's kernels was called, not what came out",
    ),
    Difference(
        "centered RMSprop never takes the root of a negative number",
        "torch's variance falls below zero by rounding where gradients are constant, and its weights become NaN",
    ),
    Difference(
        "float16 and bfloat16 parameters keep float32 moments, and are computed in float32 and rounded once",
        "torch keeps them in the parameter's type, where second moments vanish or stop decaying",
    ),
    Difference(
        "load_state_dict matches by name where both sides have names, checks shapes, keeps types, copies",
        "torch matches by position, unchecked, casts to the parameter's type, and shares the tensors",
    ),
    Difference(
        "gradients of other strides, and nesterov's, are never misread or written",
        "torch's fused steps permute the first, its foreach step writes the second",
    ),
    Difference(
        "a state below 16 times the smallest normal number counts as zero",
        "arithmetic on subnormal numbers is many times slower",
    ),
    Difference("NAdam's mu_product is float64", "torch's float32 product is off by 1e-9 after a few steps"),
    Difference(
        "clip_norm divides by the norm; clip_grad_norm_ by the norm + 1e-6",
        "the clipped gradients' norm is the one that was asked for",
    ),
    Difference(
        "sparse gradients, of SGD and Adagrad, are made dense for the step",
        "the numbers are the same; on large embeddings torch, which touches the rows alone, is faster",
    ),
    Difference(
        "isinstance(optimizer, torch.optim.Adam) is False, of torch.optim.Optimizer True",
        "the classes share torch's base, not its steps",
    ),
    Difference("a parameter listed twice gives SGD's second listing no first step", "it has a momentum by then"),
)

"""CUDA graphs, which would replay the step numbers and coefficients of one step."""

from __future__ import annotations

import torch

# Builds without CUDA have it too, and it only raises.
_NO_GRAPHS = None if torch.version.cuda or torch.version.hip else torch.cuda.is_current_stream_capturing


def refuse_capturing(owner: str) -> None:
    """Raise if a graph of this step is being captured."""
    capturing = torch.cuda.is_current_stream_capturing
    if capturing is not _NO_GRAPHS and capturing():
        raise RuntimeError(
            f"Attempting CUDA graph capture of step() for an instance of {owner}, whose step numbers and coefficients "
            "are computed on the host: a replay would repeat those of this step. Capture the forward and backward "
            "pass alone, or take torch.optim's with capturable=True"
        )

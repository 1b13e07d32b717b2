"""A small transformer learns to write Python, character by character, with adamite's AdamW and with torch's.

The text is Python's own standard library, which is on every machine. Both runs start from the same weights and see the
same batches, so that their loss curves lie on each other; what differs is one import.

    pip install 'adamite[torch,lab]'
    python examples/character_transformer.py --steps 1500 --out transformer.png
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import adamite.torch

CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 64, 96, 4, 3, 16
MODULES = (
    *("argparse", "ast", "collections/__init__", "dataclasses", "datetime", "decimal", "difflib", "inspect", "pathlib"),
    *("random", "statistics", "subprocess", "tarfile", "textwrap", "threading", "typing", "unittest/mock", "zipfile"),
)


def text() -> str:
    """Source files of the standard library, as far as this Python has them."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [folder / f"{name}.py" for name in MODULES]
    found = "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())
    if len(found) < 100_000:
        raise SystemExit(f"There are too few sources of the standard library in {folder}")
    return found


class Writer(nn.Module):
    """Predicts each character from the ones before it."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, LAYERS, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters)
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        h = self.embed(x) + self.place(torch.arange(length))
        h = self.blocks(h, mask=self.get_buffer("mask")[:length, :length], is_causal=True)
        logits: Tensor = self.head(self.norm(h))
        return logits


class Corpus:
    """The text as numbers; its last tenth is for validation."""

    def __init__(self, content: str) -> None:
        self.alphabet = sorted(set(content))
        codes = torch.tensor([self.alphabet.index(c) for c in content])
        self.train, self.valid = codes[: -len(codes) // 10], codes[-len(codes) // 10 :]

    def batch(self, codes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(0, len(codes) - CONTEXT - 1, (BATCH,), generator=generator)
        windows = torch.stack([codes[s : s + CONTEXT + 1] for s in starts])
        return windows[:, :-1], windows[:, 1:]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def train(library: Any, label: str, corpus: Corpus, steps: int) -> tuple[nn.Module, list[float], float]:
    """The model, its losses, and the validation loss."""
    torch.manual_seed(0)
    model = Writer(len(corpus.alphabet))
    groups = adamite.torch.param_groups(model, weight_decay=0.1)
    optimizer = library.AdamW(groups, lr=4e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    losses = []
    for step in track(range(steps), f"{label:14}", console=Console(stderr=True)):
        optimizer.zero_grad()
        value = loss(model, corpus.batch(corpus.train, step))
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    with torch.no_grad():
        valid = sum(loss(model, corpus.batch(corpus.valid, seed)).item() for seed in range(20)) / 20
    return model, losses, valid


def sample(model: nn.Module, corpus: Corpus, start: str, length: int) -> str:
    """Text that the model generates from a prompt."""
    torch.manual_seed(1)
    codes = torch.tensor([[corpus.alphabet.index(c) for c in start]])
    with torch.no_grad():
        for _ in range(length):
            chances = (model(codes[:, -CONTEXT:])[:, -1] / 0.7).softmax(-1)
            codes = torch.cat([codes, torch.multinomial(chances, 1)], 1)
    return "".join(corpus.alphabet[c] for c in codes[0])


def draw(curves: dict[str, list[float]], place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for (label, losses), style in zip(curves.items(), ({"lw": 4, "alpha": 0.35}, {"lw": 1.2})):
        axes.plot(smoothed(losses), label=label, **style)  # type: ignore[arg-type]
    axes.set(xlabel="step", ylabel="loss (nats a character), mean of 20 steps")
    axes.set_title("A transformer learns to write Python")
    axes.grid(alpha=0.25)
    axes.legend()
    figure.savefig(place, dpi=150)


def smoothed(losses: list[float], width: int = 20) -> list[float]:
    return [sum(part) / len(part) for k in range(len(losses)) if (part := losses[max(0, k - width + 1) : k + 1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500, help="training steps; 1500 take half a minute per optimizer")
    parser.add_argument("--out", type=Path, default=Path("transformer.png"), help="the picture of the loss curves")
    options = parser.parse_args()
    if options.steps < 20:
        parser.error(f"--steps must be at least 20, got {options.steps}")
    if not options.out.absolute().parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.absolute().parent}")

    corpus = Corpus(text())
    curves: dict[str, list[float]] = {}
    table = Table("", "first loss", "last 20", "validation")
    for label, library in (("torch.optim", torch.optim), ("adamite.torch", adamite.torch)):
        model, losses, valid = train(library, label, corpus, options.steps)
        curves[label] = losses
        numbers = losses[0], sum(losses[-20:]) / 20, valid
        table.add_row(label, *(f"{n:.4f}" for n in numbers))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"\nWhat it writes now:\n\n{sample(model, corpus, 'def ', 200)}\n")
    draw(curves, options.out)
    console.print(f"The loss curves: {options.out}", soft_wrap=True)


if __name__ == "__main__":
    main()

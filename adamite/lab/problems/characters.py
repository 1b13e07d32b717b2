"""A recurrent network that predicts the next character of a play, in PyTorch.

Data: the first 50 kB of Shakespeare's "Coriolanus" (1608, in the public domain), as Karpathy's
"tiny Shakespeare" has it (2015), in ``coriolanus.txt`` beside this file. 80 % of it are trained
on, the next tenth chooses the settings, the last tests.

Model: a vector of 32 numbers for each character, a gated recurrent unit (Cho et al., 2014) of
64, a score for each character: 24,539 parameters. Batches are 16 windows of 32 characters.
"""

import functools
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

WIDTH, HIDDEN, WINDOW, BATCH = 32, 64, 32, 16


@functools.cache
def load() -> tuple[tuple[Tensor, Tensor, Tensor], int]:
    """Codes of the characters to train on, to choose settings by, and to test on; the size of the alphabet."""
    text = Path(__file__).with_name("coriolanus.txt").read_text(encoding="ascii")
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    codes = torch.tensor([alphabet[character] for character in text])
    tenth = len(codes) // 10
    return (codes[: -2 * tenth], codes[-2 * tenth : -tenth], codes[-tenth:]), len(alphabet)


class Reader(nn.Module):
    """The score of each character, after each character."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(characters, WIDTH)
        self.unit = nn.GRU(WIDTH, HIDDEN, batch_first=True)
        self.scores = nn.Linear(HIDDEN, characters)

    def forward(self, codes: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.unit(self.vectors(codes))[0])
        return scores


def surprise(model: nn.Module, windows: Tensor) -> Tensor:
    """The mean log-loss of each next character."""
    return functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


@declare(
    name="characters",
    source="Shakespeare 1608",
    steps=500,
    metric="test loss",
    tuned="validation loss",
    target=2.0,
)
def problem(seed: int) -> Run:
    """The next character of a play, by a recurrent network."""
    (train, valid, test), characters = load()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = Reader(characters)
    generator = torch.Generator().manual_seed(seed)
    ahead = torch.arange(WINDOW + 1)

    def loss() -> Tensor:
        places = torch.randint(len(train) - WINDOW, (BATCH, 1), generator=generator)
        return surprise(model, train[places + ahead])

    @torch.no_grad()
    def measure() -> dict[str, float]:
        parts = {"test loss": test, "validation loss": valid}
        return {name: surprise(model, part.unfold(0, WINDOW + 1, WINDOW)).item() for name, part in parts.items()}

    return Run(model, loss, measure)

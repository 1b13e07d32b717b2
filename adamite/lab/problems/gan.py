"""A GAN: one network draws points, the other distinguishes them from a ring of eight Gaussians.

Model: Goodfellow et al., "Generative Adversarial Nets" (2014, arXiv 1406.2661), with its
non-saturating loss, in PyTorch. Data: made here, the ring of Metz et al., "Unrolled Generative
Adversarial Networks" (2016, arXiv 1611.02163), of radius 1 and with a deviation of 0.05. A
generator that has collapsed draws from a few of the eight.

One optimizer moves both. One backward gives each its own gradient, since the loss is a sum of
two terms: the critic's sees drawn points as constants, the generator's sees the critic so.

Measured is the energy distance (Székely and Rizzo, 2013) of 1,000 drawn points to 1,000 of the
ring, 0 for equal distributions, and how many of the eight are drawn from.
"""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

MODES, RADIUS, DEVIATION = 8, 1.0, 0.05
NOISE, HIDDEN, BATCH, SAMPLES = 4, 64, 64, 1000
ANGLES = torch.arange(MODES) * (2 * math.pi / MODES)
CENTRES = RADIUS * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)

Network = list[Tensor]


def ring(count: int, generator: torch.Generator) -> Tensor:
    """Points of the true distribution."""
    modes = torch.randint(MODES, (count,), generator=generator)
    return CENTRES[modes] + DEVIATION * torch.randn(count, 2, generator=generator)


def network(sizes: tuple[int, ...], generator: torch.Generator) -> Network:
    """Weights as He et al. (2015) draw them, with a smaller last layer, and biases."""
    made: Network = []
    for before, after in itertools.pairwise(sizes):
        made += [torch.randn(after, before, generator=generator) * math.sqrt(2 / before), torch.zeros(after)]
    made[-2] *= 0.3  # else training starts with points far from the ring and a confident critic
    return [p.requires_grad_() for p in made]


def apply(network: Network, x: Tensor) -> Tensor:
    for k in range(0, len(network), 2):
        x = functional.linear(x if k == 0 else functional.leaky_relu(x, 0.2), network[k], network[k + 1])
    return x


def players_loss(drawer: Network, critic: Network, noise: Tensor, true: Tensor) -> Tensor:
    """The critic's loss and the generator's: each has gradients for its own parameters only."""
    drawn = apply(drawer, noise)
    constant = [p.detach() for p in critic]
    critics = functional.softplus(-apply(critic, true)) + functional.softplus(apply(critic, drawn.detach()))
    drawers = functional.softplus(-apply(constant, drawn))
    return critics.mean() + drawers.mean()


def distance(a: Tensor, b: Tensor) -> float:
    """An unbiased estimate of the energy distance of two samples."""
    within = sum(torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(2 * torch.cdist(a, b).mean() - within)


def modes(points: Tensor) -> int:
    """The number of modes with at least a quarter of their share of the points within three deviations."""
    near = (torch.cdist(points, CENTRES) < 3 * DEVIATION).sum(dim=0)
    return int((near >= len(points) / MODES / 4).sum())


@declare(name="gan", source="Goodfellow et al. 2014", steps=2000, metric="distance", target=0.02)
def problem(seed: int) -> Run:
    """A GAN draws points from a ring of eight Gaussians."""
    generator = torch.Generator().manual_seed(seed)
    drawer = network((NOISE, HIDDEN, HIDDEN, 2), generator)
    critic = network((2, HIDDEN, HIDDEN, 1), generator)
    truth, noise = ring(SAMPLES, generator), torch.randn(SAMPLES, NOISE, generator=generator)

    def loss() -> Tensor:
        return players_loss(drawer, critic, torch.randn(BATCH, NOISE, generator=generator), ring(BATCH, generator))

    @torch.no_grad()
    def measure() -> dict[str, float]:
        drawn = apply(drawer, noise)
        return {"distance": distance(drawn, truth), "modes": modes(drawn)}

    return Run([*drawer, *critic], loss, measure)

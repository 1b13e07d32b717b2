"""The article's network on MNIST, in PyTorch: 32 convolutions of 3 x 3, max-pooling, ten scores.

Data: MNIST (LeCun, Cortes and Burges), read from its four files as `adamite.lab.mnist` says.
A run is to take seconds, so it is short: 300 batches of 64 from the first 20,000 images, each
seen at most once. Settings are chosen by 1,000 images that follow them; the accuracy is that on the
first 1,000 test images. Of a part of MNIST, as the tests have it, the last 1,000 images choose.

Weights are drawn as Keras draws them for the article's program (Glorot and Bengio, 2010).
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional

from adamite.lab import mnist
from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

BATCH, TRAIN, VALID, TEST = 64, 20_000, 1_000, 1_000
FILTERS, CLASSES = 32, 10
FEATURES = FILTERS * 13 * 13  # 28 pixels, 26 after the convolution, 13 after pooling

Part = tuple[Tensor, Tensor]


@functools.cache
def load() -> tuple[Part, Part, Part]:
    """Images and labels to train on, to choose settings by, and to test on.

    Raises:
        FileNotFoundError: that says where to put the data.
        ValueError: that names a file with too few images, or damaged.
    """
    place = mnist.folder()
    if place is None:
        raise FileNotFoundError(
            f"MNIST isn't in {mnist.cache()}: put its four idx files there, or name their folder with {mnist.VARIABLE}"
        )
    train, test = mnist.load(place)
    count = min(TRAIN, len(train[0]) - VALID)
    if count < BATCH:
        raise ValueError(f"{place} has {len(train[0])} training images: at least {VALID + BATCH:,} are needed.")
    return _part(train, slice(count)), _part(train, slice(count, count + VALID)), _part(test, slice(TEST))


def _part(of: mnist.Part, rows: slice) -> Part:
    images, labels = (torch.from_numpy(array[rows].copy()) for array in of)
    return images[:, None], labels.long()


def start(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    convolution, dense = torch.empty(FILTERS, 1, 3, 3), torch.empty(CLASSES, FEATURES)
    for weight in (convolution, dense):
        torch.nn.init.xavier_uniform_(weight, generator=generator)
    return [p.requires_grad_() for p in (convolution, torch.zeros(FILTERS), dense, torch.zeros(CLASSES))]


def scores(params: list[Tensor], images: Tensor) -> Tensor:
    convolution, shift, dense, bias = params
    h = functional.conv2d(images / 255, convolution, shift).relu()
    return functional.linear(functional.max_pool2d(h, 2).flatten(1), dense, bias)


@declare(
    name="mnist",
    source="LeCun et al. 1998",
    steps=300,
    metric="accuracy",
    higher=True,
    tuned="validation loss",
    target=0.95,
    needs=load,
)
def problem(seed: int) -> Run:
    """A network of 54,410 parameters on 20,000 images of MNIST."""
    (images, labels), valid, test = load()
    params = start(seed)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []

    def loss() -> Tensor:
        if len(order) < BATCH:
            order[:] = torch.randperm(len(labels), generator=generator).tolist()
        rows = [order.pop() for _ in range(BATCH)]
        return functional.cross_entropy(scores(params, images[rows]), labels[rows])

    @torch.no_grad()
    def measure() -> dict[str, float]:
        tested, validated = (torch.cat([scores(params, x) for x in part[0].chunk(16)]) for part in (test, valid))
        return {
            "accuracy": (tested.argmax(1) == test[1]).double().mean().item(),
            "validation loss": functional.cross_entropy(validated, valid[1]).item(),
        }

    return Run(params, loss, measure)

"""The article's training of its network as it stands: five epochs of MNIST in batches of 64, a tenth left out."""

import functools

import torch
from torch import Tensor
from torch.nn import functional

from adamite.lab import mnist as data
from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare
from adamite.lab.problems import mnist

EPOCHS, TRAIN = 5, 54_000  # validation_split=0.1 leaves out the last images
STEPS = EPOCHS * -(-TRAIN // mnist.BATCH)


@functools.cache
def load() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images and labels to train on, and all that there are to test on.

    Raises:
        OSError, ValueError: that say what is missing.
    """
    mnist.load()  # which says where the data are missing
    place = data.folder()
    assert place is not None
    train, test = data.load(place)
    if len(train[0]) < TRAIN:
        raise ValueError(f"{place} has {len(train[0])} of MNIST's 60,000 training images: the article's is all of it.")
    images, labels = (torch.from_numpy(array[:TRAIN].copy()) for array in train)
    seen = torch.from_numpy(test[0].copy()), torch.from_numpy(test[1].copy()).long()
    return (images[:, None], labels.long()), (seen[0][:, None], seen[1])


@declare(name="article", source="Adam Optimizer", steps=STEPS, metric="accuracy", higher=True, target=0.975, needs=load)
def problem(seed: int) -> Run:
    """The article's training of its network on MNIST, all of it."""
    (images, labels), (tested, answers) = load()
    params = mnist.start(seed)
    generator = torch.Generator().manual_seed(seed)
    order: list[Tensor] = []

    def loss() -> Tensor:
        if not order:
            order.extend(torch.split(torch.randperm(TRAIN, generator=generator), mnist.BATCH))
        rows = order.pop()
        return functional.cross_entropy(mnist.scores(params, images[rows]), labels[rows])

    @torch.no_grad()
    def accuracy() -> dict[str, float]:
        read = torch.cat([mnist.scores(params, part).argmax(1) for part in torch.split(tested, 500)])
        return {"accuracy": (read == answers).double().mean().item()}

    return Run(params, loss, accuracy)

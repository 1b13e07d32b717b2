"""The article's training of its network: five epochs of MNIST in batches of 64, with a tenth left out."""

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
    """The images and labels to train on, and the whole test set.

    Raises:
        OSError, ValueError: data are missing; the message says which.
    """
    mnist.load()  # raises an error that says which data are missing
    folder = data.folder()
    assert folder is not None
    train, test = data.load(folder)
    if len(train[0]) < TRAIN:
        raise ValueError(
            f"{folder} has {len(train[0])} of MNIST's 60,000 training images; the article trains on all of them"
        )
    images, labels = (torch.from_numpy(array[:TRAIN].copy()) for array in train)
    test_images, test_labels = (torch.from_numpy(array.copy()) for array in test)
    return (images[:, None], labels.long()), (test_images[:, None], test_labels.long())


@declare(name="article", source="Adam Optimizer", steps=STEPS, metric="accuracy", higher=True, target=0.975, needs=load)
def problem(seed: int) -> Run:
    """The article's training of its network, on all of MNIST."""
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
        predicted = torch.cat([mnist.scores(params, part).argmax(1) for part in torch.split(tested, 500)])
        return {"accuracy": (predicted == answers).double().mean().item()}

    return Run(params, loss, accuracy)

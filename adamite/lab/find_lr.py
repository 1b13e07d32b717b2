"""The learning rate range test (Smith 2017, arXiv 1506.01186, section 3.3).

A short training whose learning rate grows by the same factor at every step, from one that moves nothing to one that
diverges. Where the loss falls steepest, the rate works; a little beyond the lowest loss it no longer does.

    from adamite.lab.find_lr import find_lr, find_lr_keras, find_lr_torch
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import adamite
from adamite import schedules
from adamite.lab import fault
from adamite.language.rule import Rule
from adamite.numpy.tree import Tree

if TYPE_CHECKING:
    import keras
    import torch

    from adamite.lab.compare.entrants import Entrant
    from adamite.lab.plots import Painter
    from adamite.lab.problem import Problem

LOW, HIGH, STEPS = 1e-7, 10.0, 200
FEWEST = 20
SMOOTHING = 0.98  # as in fastai and Lightning: an exponential moving average with bias correction
BROKEN = 4  # the test stops at this multiple of the lowest smoothed loss, as theirs do
# Theirs skip the first 10 points of 100, and take slopes between neighbours: with noisy losses the steepest slope then
# lies, by chance, near the lowest rate, where the average is still over few points.
SKIPPED, SPAN = 1 / 4, 1 / 20  # fractions of the steps: skipped at the start; on both sides of a slope


class FindLRError(ValueError):
    """The test can't be run; the message says why."""


@dataclass(frozen=True)
class Result:
    """The result of a range test: for each learning rate the loss before the step with it."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    steps: int  # the planned number
    stopped: str = ""  # why it stopped early, if it did
    chance: str = ""  # a warning if a problem of compare isn't determined by its seed

    @property
    def lowest(self) -> int:
        """The index of the lowest smoothed loss after the skipped points."""
        first = min(int(SKIPPED * self.steps), len(self.smoothed) - 1)
        return first + int(np.argmin(self.smoothed[first:]))

    @property
    def suggestion(self) -> float | None:
        """The lr where the smoothed loss falls steepest against log lr, before its lowest; None if it never falls."""
        span, steepest, suggested = max(1, int(SPAN * self.steps)), 0.0, None
        for point in range(int(SKIPPED * self.steps), self.lowest + 1):
            left, right = point - span, min(point + span, self.lowest)
            slope = (self.smoothed[right] - self.smoothed[left]) / (right - left)
            if slope < steepest - 1e-9 * abs(self.smoothed[left]):  # by more than rounding
                steepest, suggested = slope, self.lrs[point]
        return suggested

    @property
    def tenth(self) -> float | None:
        """A tenth of the learning rate with the lowest smoothed loss: the older rule of thumb."""
        return None if self.suggestion is None else self.lrs[self.lowest] / 10


def check_rates(low: float, high: float) -> None:
    """Refuse an invalid range of learning rates."""
    if not 0 < low < high < math.inf:
        raise FindLRError(f"low must be above 0 and below high, and both finite; got low {low:g}, high {high:g}")


class _Test:
    """A range test that takes one loss at a time."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        check_rates(low, high)
        if steps < FEWEST:
            raise FindLRError(f"steps must be at least {FEWEST}, got {steps}")
        self.schedule = schedules.exponential(low, rate=high / low, steps=steps - 1)
        self.result = Result([], [], [], steps)
        self._average = 0.0

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self.schedule(len(self.result.lrs))

    def add(self, loss: float) -> bool:
        """Record the loss before the step; return whether to continue."""
        result, lr = self.result, self.lr
        if not math.isfinite(loss):
            if not result.lrs:
                raise FindLRError(f"the loss is {loss} at the first step, before anything has moved")
            self._stop(f"the loss was {loss} at lr {lr:.2g}")
            return False
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        result.lrs.append(lr)
        result.losses.append(loss)
        result.smoothed.append(self._average / (1 - SMOOTHING ** len(result.lrs)))
        lowest = min(result.smoothed)
        if result.smoothed[-1] > lowest + (BROKEN - 1) * abs(lowest):  # works for losses below zero too
            self._stop(f"at lr {lr:.2g} the smoothed loss was {BROKEN} times its lowest")
            return False
        return len(result.lrs) < result.steps

    def _stop(self, why: str) -> None:
        self.result = replace(self.result, stopped=why)


def range_test(step: Callable[[float], float], low: float = LOW, high: float = HIGH, steps: int = STEPS) -> Result:
    """Run the test with any training.

    Args:
        step: makes a step with the given learning rate, and returns the loss before it.
        low, high: the first and the last learning rate, 0 < low < high.
        steps: the number of steps from low to high, at least 20; noisy losses need 200 or more.

    Returns:
        The losses and the suggestion.

    Raises:
        FindLRError: a number is out of range, or the first loss isn't finite.

    >>> result = range_test(lambda lr: 1 / (1 + lr) + lr**2, 1e-4, 10)
    >>> result.stopped
    'at lr 4.4 the smoothed loss was 4 times its lowest'
    """
    test = _Test(low, high, steps)
    with np.errstate(all="ignore"):
        while test.add(float(step(test.lr))):
            pass
    return test.result


def find_lr(
    params: Any,
    loss_and_gradient: Callable[[], tuple[Any, Any]],
    optimizer: str | Rule = "adam",
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    **options: Any,
) -> Result:
    """Run the test with NumPy arrays, and restore them afterwards.

    Args:
        params: an array, or any nesting of arrays.
        loss_and_gradient: the loss of the next batch, and its gradient, nested as the parameters are.
        optimizer: its name, or a rule.
        low, high, steps: see `range_test`.
        options: options of the optimizer.

    Returns:
        The losses and the suggestion.

    Raises:
        FindLRError: see `range_test`.
        ValueError: the optimizer is unknown, or has no lr.

    >>> w = np.zeros(3)
    >>> result = find_lr(w, lambda: (((w - 1) ** 2).sum(), 2 * (w - 1)), "sgd")
    >>> f"{result.suggestion:.1g}", w
    ('0.07', array([0., 0., 0.]))
    """
    leaves = Tree(params).leaves
    before = [np.copy(leaf) for leaf in leaves]
    moving = adamite.optimizer(optimizer)(params, lr=low, **options)

    def step(lr: float) -> float:
        loss, gradient = loss_and_gradient()
        if math.isfinite(loss):
            moving.lr = lr
            moving.step(gradient)
        return float(loss)

    try:
        return range_test(step, low, high, steps)
    finally:
        for leaf, value in zip(leaves, before, strict=True):
            leaf[...] = value


def find_lr_torch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[torch.nn.Module, Any], torch.Tensor],
    batches: Iterable[Any],
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
) -> Result:
    """Run the test with a torch model, and restore it and its optimizer afterwards, also after an error.

    Restored are parameters, buffers, gradients, the optimizer's state and groups, and torch's random state. The model
    stays in its mode. Groups keep the ratios of their learning rates: the suggestion is for the largest.

    Args:
        model: the model.
        optimizer: adamite's or torch's, of this model.
        loss: the loss of the model on a batch, such as `lambda model, batch: mse_loss(model(batch[0]), batch[1])`.
        batches: a data loader, or anything else that can be iterated again when it ends.
        low, high, steps: see `range_test`.

    Returns:
        The losses and the suggestion.

    Raises:
        FindLRError: see `range_test`; also if the batches end.
    """
    largest = max(float(group["lr"]) for group in optimizer.param_groups)
    shares = [float(group["lr"]) / largest if largest else 1.0 for group in optimizer.param_groups]
    again = _again(batches)

    def step(lr: float) -> float:
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            if hasattr(group["lr"], "fill_"):  # a tensor, which a compiled step refers to
                group["lr"].fill_(lr * share)
            else:
                group["lr"] = lr * share
        optimizer.zero_grad()
        current = loss(model, next(again))
        if math.isfinite(value := float(current.detach())):
            current.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return value

    with _torch_restored(model, optimizer):
        return range_test(step, low, high, steps)


@contextmanager
def _torch_restored(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    values = [(tensor, tensor.detach().clone()) for tensor in tensors]
    gradients = [(tensor, tensor.grad if tensor.grad is None else tensor.grad.clone()) for tensor in tensors]
    state = copy.deepcopy(optimizer.state_dict())
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)
        for tensor, gradient in gradients:
            tensor.grad = gradient
        optimizer.load_state_dict(state)


def _again(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, repeated without end."""
    while True:
        count = 0
        for batch in batches:
            count += 1
            yield batch
        if not count:
            raise FindLRError("the batches ended; give a data loader, or anything else that can be iterated again")


def find_lr_keras(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    **fit: Any,
) -> Result:
    """Run the test with a compiled Keras model, and restore it afterwards, also after an error.

    Restored are the variables of the model and the optimizer, including the learning rate, and dropout's random state.

    Args:
        model: a compiled model that is built, and whose learning rate is a number.
        x, y: see `model.fit`.
        low, high, steps: see `range_test`.
        fit: further arguments of `model.fit`, such as batch_size.

    Returns:
        The losses and the suggestion.

    Raises:
        FindLRError: see `range_test`; also if the model isn't ready, or the data end.
    """
    import keras

    optimizer: Any = getattr(model, "optimizer", None)
    if optimizer is None or not model.built:
        missing = "isn't compiled" if optimizer is None else "has no weights yet: call it on a batch"
        raise FindLRError(f"the model {missing}")
    test = _Test(low, high, steps)

    class Grow(keras.callbacks.Callback):  # type: ignore[misc]
        """One step is an epoch, since that is when Keras's callbacks can change a learning rate, on every backend."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            optimizer.learning_rate = test.lr

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if "loss" not in (logs or {}):
                raise FindLRError("the data ended; give arrays, or anything else that can be iterated again")
            if not test.add(float(logs["loss"])):
                self.model.stop_training = True

    with _keras_restored(model):
        try:
            optimizer.learning_rate = low
        except TypeError:
            raise FindLRError("the optimizer follows a schedule: compile the model with a number for it") from None
        model.fit(x, y, epochs=steps, steps_per_epoch=1, callbacks=[Grow()], verbose=0, **fit)
    return test.result


@contextmanager
def _keras_restored(model: keras.Model) -> Iterator[None]:
    import keras

    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [(variable, np.array(keras.ops.convert_to_numpy(variable.value))) for variable in variables]
    try:
        with _same_dropout(keras.backend.backend()):
            yield
    finally:
        for variable, value in values:
            variable.assign(value)


@contextmanager
def _same_dropout(backend: str) -> Iterator[None]:
    """Restore dropout's random state on torch, where it isn't in a Keras variable."""
    if backend != "torch":
        yield
        return
    import torch

    with torch.random.fork_rng():
        yield


def find_lr_problem(
    problem: Problem,
    entrant: Entrant,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    seed: int = 0,
) -> Result:
    """Run the test with a problem and an optimizer of `adamite compare`; its other settings are the defaults.

    Raises:
        FindLRError: a number is out of range, or the rule has no lr.
        Fault: the problem's code fails, its first loss or gradient isn't finite, or the loss never changes.
    """
    from adamite.lab.compare import training

    check_lr(entrant)
    test, losses = _Test(low, high, steps), []
    for loss in _losses(problem, entrant, test.schedule, seed):
        losses.append(loss)
        if not test.add(loss):
            break
    # If the same batches give the same losses with a constant rate, nothing moved. The training is repeated up to the
    # first loss that differs, which is usually an early one.
    pairs = zip(losses, _losses(problem, entrant, low, seed))
    first, repeated = next(pairs)
    if len(losses) > 1 and first == repeated and all(np.array_equal(*both, equal_nan=True) for both in pairs):
        raise fault.about(problem.start, fault.STILL)
    return replace(test.result, chance=training.chance([first, repeated]))


def check_lr(entrant: Entrant) -> None:
    """Refuse an optimizer that has no learning rate."""
    if "lr" not in entrant.rule.numbers:
        raise FindLRError(f"{entrant.name} has no lr")


def _losses(problem: Problem, entrant: Entrant, lr: Any, seed: int) -> Iterator[float]:
    """The loss before each step of a training without end."""
    from adamite.lab.compare import training

    run = problem.begin(seed)
    forward, move = training.stepper(problem, run, entrant, lr, _usual(entrant))
    for done in itertools.count():
        with np.errstate(all="ignore"), fault.blamed_on(run.loss):
            loss = forward()
        if not done and not math.isfinite(loss):
            raise training.bad_start(run, f"{loss:g}")
        yield loss
        with np.errstate(all="ignore"), fault.blamed_on(run.loss):
            move(done)


def _usual(entrant: Entrant) -> Mapping[str, float]:
    """A value for what `compare` would tune and the rule has no default for: AdamW's weight decay."""
    return {"weight_decay": 0.01} if "weight_decay" in entrant.space else {}


def picture(result: Result) -> Painter:
    """The losses against the learning rate, and both suggestions."""
    from matplotlib.axes import Axes

    from adamite.lab.plots import Theme, legend

    def paint(axes: Axes, theme: Theme) -> None:
        axes.plot(result.lrs, result.losses, color=theme.ink, alpha=0.35, linewidth=1, label="loss")
        axes.plot(result.lrs, result.smoothed, color=theme.lines[-1], linewidth=1.8, label="smoothed")
        marks = ("steepest", result.suggestion, "-"), ("a tenth of the lowest's", result.tenth, "--")
        for (label, lr, dash), colour in zip(marks, (theme.lines[3], theme.lines[2]), strict=True):
            if lr is not None:
                axes.axvline(lr, color=colour, linestyle=dash, linewidth=1.4, label=f"{lr:.2g}: {label}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        if len(result.lrs) > 1:
            axes.set_xlim(result.lrs[0], result.lrs[-1])
        low, high = min(result.losses), max(result.smoothed[: result.lowest + 1])
        room = (high - low) / 10 or 1.0
        axes.set_ylim(low - room, high + 4 * room)  # higher losses have diverged, and would flatten the rest
        legend(axes)

    return paint

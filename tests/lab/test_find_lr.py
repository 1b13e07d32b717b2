"""The range test: its numbers against plain loops, and everything is restored, also after an error."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import adamite.torch
from adamite.lab import plots
from adamite.lab import problem as problems
from adamite.lab.compare import entrants
from adamite.lab.fault import Fault
from adamite.lab.find_lr import FindLRError, Result, find_lr, find_lr_problem, find_lr_torch, picture, range_test
from adamite.lab.problem import Problem
from adamite.lab.problems import PROBLEMS
from tests.support import PATIENCE, ROOT, process_environment

# ---- the test itself ------------------------------------------------------------------------------


def bowl(noise: float = 0.0, shift: float = 0.0) -> Callable[[float], float]:
    """Gradient descent on a square, which falls until lr is 1 and explodes beyond."""
    draw = np.random.default_rng(0)
    x = [1.0]

    def step(lr: float) -> float:
        loss = x[0] ** 2 + shift + noise * draw.normal()
        x[0] -= lr * 2 * x[0]
        return float(loss)

    return step


def test_its_numbers_are_those_of_plain_loops() -> None:
    found = range_test(bowl(noise=0.01), 1e-4, 10, 100)
    assert found.lrs[:2] == [1e-4, pytest.approx(1e-4 * 1e5 ** (1 / 99), rel=1e-12)]
    for n in range(1, len(found.losses) + 1):
        weights = [0.98 ** (n - 1 - k) for k in range(n)]
        average = sum(w * loss for w, loss in zip(weights, found.losses)) / sum(weights)
        assert found.smoothed[n - 1] == pytest.approx(average, rel=1e-12)
        broken = average > 4 * min(found.smoothed[:n])
        assert broken == (n == len(found.losses)), n
    assert found.stopped == f"at lr {found.lrs[-1]:.2g} the smoothed loss was 4 times its lowest"
    lowest = 25 + found.smoothed[25:].index(min(found.smoothed[25:]))
    slopes = {}
    for k in range(25, lowest + 1):
        right = min(k + 5, lowest)
        slopes[k] = (found.smoothed[right] - found.smoothed[k - 5]) / (right - k + 5)
    assert found.suggestion == found.lrs[min(slopes, key=lambda k: slopes[k])]
    assert found.tenth == found.lrs[lowest] / 10
    assert 1e-3 < found.suggestion < 1 < found.lrs[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_noise_is_not_taken_for_a_fall(optimizer: str) -> None:
    """Batches whose losses differ more than the training improves in many steps."""
    found = [find_lr_problem(problems.problem()(noisy), entrants.find(optimizer), seed=seed) for seed in range(8)]
    assert all(0.01 < each.suggestion < 1 for each in found if each.suggestion) and all(
        each.suggestion for each in found
    )


def test_losses_below_zero_have_their_turn() -> None:
    found = range_test(bowl(shift=-100.0), 1e-4, 10, 100)
    assert found.suggestion == range_test(bowl(), 1e-4, 10, 100).suggestion
    assert found.lrs[-1] > 1


def test_it_stops_at_what_is_no_number() -> None:
    losses = iter([1.0] * 20 + [math.inf])
    found = range_test(lambda lr: next(losses), 1e-3, 1, 31)
    assert found.stopped == "the loss was inf at lr 0.1" and len(found.lrs) == 20
    assert found.suggestion is None and found.tenth is None  # it never fell


@pytest.mark.parametrize("losses", [[1.0], [2.0, 1.0], [3.0, 2.0, 1.0]])
def test_too_few_points_suggest_nothing(losses: list[float]) -> None:
    assert Result([0.1, 0.2, 0.3][: len(losses)], losses, losses, 100).suggestion is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((1.0, 0.1, 100), "low must be above 0 and below high, and both finite; got low 1, high 0.1"),
        ((0.0, 1.0, 100), "got low 0"),
        ((0.1, math.inf, 100), "high inf"),
        ((0.1, math.nan, 100), "high nan"),
        ((0.1, 1.0, 19), "steps must be at least 20, got 19"),
    ],
)
def test_numbers_out_of_range_are_refused_before_a_step(given: Any, words: str) -> None:
    with pytest.raises(FindLRError, match=words):
        range_test(lambda lr: pytest.fail("a step"), *given)


def test_a_first_loss_that_is_no_number_is_told() -> None:
    with pytest.raises(FindLRError, match="the loss is nan at the first step, before anything has moved"):
        range_test(lambda lr: math.nan)


# ---- NumPy and the problems -----------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 20], ids=["", "on an error"])
def test_arrays_are_as_they_were(wrong: int | None) -> None:
    w, b = np.ones(3), np.full((2, 2), 0.5, np.float32)
    params = {"w": w, "b": [b]}
    count = 0

    def loss() -> Any:
        nonlocal count
        count += 1
        if count == wrong:
            raise RuntimeError("no data")
        return float((w**2).sum()), {"w": 2 * w, "b": [0 * b]}

    if wrong:
        with pytest.raises(RuntimeError, match="no data"):
            find_lr(params, loss, "sgd", momentum=0.9)
    else:
        found = find_lr(params, loss, "sgd", momentum=0.9)
        assert 1e-4 < (found.suggestion or 0) < 1
    assert np.all(w == 1) and np.all(b == 0.5)


def noisy(seed: int) -> Any:
    """A problem in torch."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.zeros(3, requires_grad=True)
    return [w], lambda: mse_loss(torch.randn(8, 3, generator=generator) @ (w - 1), torch.zeros(8))


@pytest.mark.parametrize(
    ("name", "optimizer"), [("digits", "adam"), ("digits", "adamw"), ("tests.lab.test_find_lr:noisy", "sgd")]
)
def test_the_problems_of_compare(name: str, optimizer: str) -> None:
    problem, entrant = problems.find(name, PROBLEMS), entrants.find(optimizer)
    found = find_lr_problem(problem, entrant, steps=100)
    assert found.suggestion is not None and 1e-3 < found.suggestion < 10
    assert find_lr_problem(problem, entrant, steps=100) == found


def still(seed: int) -> Any:
    """Its loss is that of a copy, plus random numbers."""
    draw, w = np.random.default_rng(seed), np.ones(3)
    kept = w.copy()
    return w, lambda: (((kept - draw.normal(size=3)) ** 2).sum(), kept)


def test_a_loss_that_never_moves_is_a_fault_however_it_varies() -> None:
    with pytest.raises(Fault, match=r"def still.*: the loss never moved"):
        find_lr_problem(Problem(still), entrants.find("adam"))


def broken(seed: int) -> Any:
    """A float32 loss that the first learning rates don't change, until it is NaN."""
    w, losses = np.ones(3, np.float32), iter([1.0, 1.0, np.nan])
    return w, lambda: (next(losses) if w[0] < 1 - 1e-7 else 1.0, np.ones(3, np.float32))


def test_a_loss_that_breaks_has_moved() -> None:
    assert "the loss was nan" in find_lr_problem(Problem(broken), entrants.find("sgd"), low=1e-8).stopped


def test_what_the_seed_doesnt_determine_is_told() -> None:
    def free(seed: int) -> Any:
        draw, w = np.random.default_rng(), np.ones(3)
        return w, lambda: (((w - draw.normal(size=3)) ** 2).sum(), 2 * w)

    assert "isn't determined by its seed" in find_lr_problem(Problem(free), entrants.find("adam")).chance
    assert not find_lr_problem(problems.find("regression", PROBLEMS), entrants.find("adam"), steps=20).chance


@pytest.mark.parametrize(
    ("loss", "gradient", "words"),
    [(1.0, np.nan, "gave a gradient with NaN or infinity at the first step"), (np.inf, 1.0, "gave inf at the first")],
)
def test_what_is_no_number_at_the_first_step_is_a_fault(loss: float, gradient: float, words: str) -> None:
    with pytest.raises(Fault, match=words):
        find_lr_problem(Problem(lambda seed: (np.ones(2), lambda: (loss, np.full(2, gradient)))), entrants.find("sgd"))


def test_one_point_is_drawn_without_complaint(tmp_path: Path) -> None:
    losses = iter([1.0, math.nan])
    found = range_test(lambda lr: next(losses))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(picture(found), tmp_path, "one")


def test_the_command_draws_what_it_says(tmp_path: Path) -> None:
    answer = command("--steps", "60", "--out", str(tmp_path))
    found = find_lr_problem(problems.find("digits", PROBLEMS), entrants.find("adam"), steps=60)
    assert f"Try lr {found.suggestion:.2g}, where" in answer.stdout, answer.stderr
    assert answer.stdout.endswith(f"Picture: {tmp_path / 'digits-adam.png'}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"digits-adam.png", "digits-adam-dark.png"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--problem", "nothing"], "there is no problem 'nothing'"),
        (["--optimizer", "adm"], "did you mean adam?"),
        (["--low", "1", "--high", "0.1"], "'--low' and '--high': low must be above 0 and below high"),
        (["--high", "inf"], "'--low' and '--high': low must be"),
    ],
)
def test_wrong_input_is_answered_in_words(arguments: list[str], words: str, tmp_path: Path) -> None:
    answer = command(*arguments, "--out", str(tmp_path / "never"))
    assert answer.returncode == 2 and words in answer.stderr and "Traceback" not in answer.stderr
    assert not (tmp_path / "never").exists()


def test_a_folder_that_cant_be_written_is_told_before_the_test(tmp_path: Path) -> None:
    answer = command("--problem", "regression", "--out", f"{__file__}/below")
    assert (answer.returncode, answer.stdout) == (2, "") and "'--out': " in answer.stderr


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adamite", "find-lr", *arguments],
        env=process_environment() | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


# ---- torch ----------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "torch's": lambda groups: torch.optim.AdamW(groups, lr=1e-3, amsgrad=True),
    "torch's, lr a tensor": lambda groups: torch.optim.SGD(groups, lr=torch.tensor(1e-3), momentum=0.9),
    "adamite's": lambda groups: adamite.torch.AdamW(groups, lr=1e-3, ema=0.9, clip_norm=1.0),
    "adamite's, with states from the start": lambda groups: adamite.torch.Adagrad(groups, lr=1e-3),
}


class Training:
    """A model with buffers, random numbers in it and in its batches, and two groups."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer]) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
        first, *_, last = self.model
        self.optimizer = make([{"params": [*first.parameters()]}, {"params": [*last.parameters()], "lr": 1e-4}])
        x = torch.randn(64, 4)
        self.batches = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)

    def train(self) -> None:
        for batch in self.batches:
            self.optimizer.zero_grad()
            self.loss(self.model, batch).backward()
            self.optimizer.step()

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return mse_loss(model(batch[0]), batch[1])

    def seen(self) -> list[torch.Tensor]:
        """The whole state after one more training step."""
        self.train()
        state = self.optimizer.state_dict()["state"]
        kept = [value for each in state.values() for value in each.values() if isinstance(value, torch.Tensor)]
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return [*self.model.state_dict().values(), *kept, *gradients, torch.rand(1)]


@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
@pytest.mark.parametrize("wrong", [None, 20], ids=["", "on an error"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torch_goes_on_as_if_nothing_had_been(name: str, wrong: int | None, trained: bool) -> None:
    alone, tested = Training(OPTIMIZERS[name]), None
    if trained:
        alone.train()
    expected = alone.seen()
    tested = Training(OPTIMIZERS[name])
    if trained:
        tested.train()
    rates: list[list[float]] = []

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        rates.append([float(group["lr"]) for group in tested.optimizer.param_groups])
        if len(rates) == wrong:
            raise RuntimeError("no memory")
        return tested.loss(model, batch)

    if wrong:
        with pytest.raises(RuntimeError, match="no memory"):
            find_lr_torch(tested.model, tested.optimizer, loss, tested.batches, steps=40)
    else:
        found = find_lr_torch(tested.model, tested.optimizer, loss, tested.batches, steps=40)
        assert np.allclose([rate for rate, _ in rates], found.lrs)
    assert all(math.isclose(last, first / 10, rel_tol=1e-6) for first, last in rates)
    assert [float(group["lr"]) for group in tested.optimizer.param_groups] == pytest.approx([1e-3, 1e-4])
    for value, other in zip(tested.seen(), expected, strict=True):
        assert torch.equal(value, other)


def test_batches_that_end_are_told() -> None:
    training = Training(OPTIMIZERS["torch's"])
    with pytest.raises(FindLRError, match="the batches ended; give a data loader"):
        find_lr_torch(training.model, training.optimizer, training.loss, iter(training.batches))


# ---- Keras ----------------------------------------------------------------------------------------

KERAS = """
import math
import keras
import numpy as np
import torch
import adamite.keras
from adamite.lab.find_lr import FindLRError, find_lr_keras

def make(optimizer):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([
        layers.Input((4,)), layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(1)
    ])
    model.compile(optimizer=optimizer, loss="mse", metrics=["mae"])
    model.evaluate(x, y, verbose=0)  # creates the metrics, for which Keras draws random numbers on torch
    return model

x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = x.sum(axis=1, keepdims=True)

def state(model):
    if keras.backend.backend() == "torch":
        torch.manual_seed(1)
    model.fit(x, y, shuffle=False, verbose=0)
    return [keras.ops.convert_to_numpy(v) for v in [*model.weights, *model.optimizer.variables]]

class Ends(keras.utils.PyDataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if index == 5:
            raise RuntimeError("no data")
        return x[:8], y[:8]

def same(one, other):
    assert all(np.array_equal(a, b) for a, b in zip(state(one), state(other), strict=True))

alone, tested = make(adamite.keras.Adam(0.01)), make(adamite.keras.Adam(0.01))
found = find_lr_keras(tested, x, y, low=1e-5, steps=100)
assert 1e-3 < found.suggestion < 10 and len(set(found.losses)) == len(found.losses), found
assert math.isclose(float(tested.optimizer.learning_rate), 0.01, rel_tol=1e-6)
same(alone, tested)
try:
    find_lr_keras(tested, Ends())
except Exception as error:
    assert "no data" in str(error), error
else:
    raise AssertionError("no error")
same(alone, tested)
drawn = torch.get_rng_state()
find_lr_keras(tested, x, y, steps=20)
assert keras.backend.backend() != "torch" or torch.equal(drawn, torch.get_rng_state())

def refused(model, words, **more):
    try:
        find_lr_keras(model, x, y, **more)
    except FindLRError as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)

refused(keras.Sequential([keras.layers.Dense(1)]), "isn't compiled")
late = keras.Sequential([keras.layers.Dense(1)])
late.compile("sgd", "mse")
refused(late, "has no weights yet")
refused(make(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10))), "follows a schedule")
refused(make("sgd"), "low must be above 0", low=2.0, high=1.0)
y[:] = math.nan
refused(make("sgd"), "the loss is nan at the first step")
"""


def test_keras_goes_on_as_if_nothing_had_been_on_each_backend() -> None:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    running = {
        backend: subprocess.Popen(
            [sys.executable, "-c", KERAS],
            env=process_environment() | quiet | {"KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        for backend in ("tensorflow", "jax", "torch")
    }
    said = {backend: process.communicate(timeout=PATIENCE)[0] for backend, process in running.items()}
    wrong = [f"{backend}\n{said[backend]}" for backend, process in running.items() if process.returncode]
    assert not wrong, "\n\n".join(wrong)

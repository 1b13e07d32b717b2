"""Each built-in problem: its declaration, its gradient, reproducibility from a seed, and that Adam learns it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from adamite.lab import mnist, where
from adamite.lab import problem as problems
from adamite.lab.compare import entrants, training
from adamite.lab.compare.training import Outcome, Trial
from adamite.lab.problem import Problem, Run
from adamite.lab.problems import PROBLEMS, cartpole, embeddings, gan, logistic
from adamite.lab.problems.quadratic import quadratic
from tests.lab.test_mnist import idx
from tests.support import MNIST, PATIENCE, ROOT, process_environment

Array = np.ndarray[Any, np.dtype[Any]]


class Learned(NamedTuple):
    """Adam, with this learning rate, reaches this cost in this number of steps: the metric, or its negative."""

    lr: float
    steps: int
    cost: float


LEARNED = {
    "regression": Learned(0.1, 100, 0.9),
    "digits": Learned(0.01, 200, -0.9),
    "quadratic": Learned(0.02, 500, 0.01),
    "rosenbrock": Learned(0.05, 1000, 0.05),
    "beale": Learned(0.05, 300, 1e-3),
    "logistic": Learned(0.01, 500, 0.01),
    "mnist": Learned(0.003, 60, -0.8),
    "characters": Learned(0.01, 100, 2.4),
    "embeddings": Learned(0.003, 300, -0.9),
    "factorisation": Learned(0.01, 1000, 0.5),
    "gan": Learned(0.003, 1000, 0.1),
    "cartpole": Learned(0.05, 50, -150),
}
EXACT = {  # problems in float64 whose batches don't depend on the parameters -> the finite difference's step
    **dict.fromkeys(("regression", "quadratic", "logistic", "embeddings", "factorisation", "reddi"), 1e-6),
    **dict.fromkeys(("rosenbrock", "beale"), 1e-7),
}


@pytest.fixture(autouse=True, scope="module")
def _settled() -> Any:
    """One thread, as in `adamite compare`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def each(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names or PROBLEMS)


def find(name: str) -> Problem:
    return problems.find(name, PROBLEMS)


def trained(name: str, seed: int, steps: int, lr: float = 0.003, by: str = "adam") -> Outcome:
    return training.train(find(name), entrants.find(by), Trial(name, by, {"lr": lr}, seed, steps))


def seen(name: str, seed: int) -> list[Any]:
    """All numbers of a short training."""
    found = trained(name, seed, 4)
    return [found.losses, found.measures]


def test_the_table_is_of_all() -> None:
    assert {*LEARNED, "reddi"} == {*PROBLEMS}


@each()
def test_what_it_declares(name: str) -> None:
    it = find(name)
    assert it.name == name
    assert it.source
    assert it.title
    assert it.target is not None
    found = trained(name, 0, 1)
    assert {it.metric, it.tuned or it.metric} <= {"loss", *found.measures}
    assert it.tuned != it.metric
    assert (it.tuned != "") == ("test" in it.metric or it.metric == "accuracy")  # if there are test data


@each(*EXACT)
def test_its_gradient(name: str) -> None:
    def begin() -> tuple[Run, dict[str, Array]]:
        """A new run from the seed, so that the batch is the same."""
        run = find(name).begin(3)
        return run, run.params if isinstance(run.params, dict) else {"": run.params}

    run, params = begin()
    gradient = run.loss()[1]
    gradients = gradient if isinstance(gradient, dict) else {"": gradient}
    assert gradients.keys() == params.keys()
    rng, h = np.random.default_rng(0), EXACT[name]
    for key, array in params.items():
        assert gradients[key].shape == array.shape
        assert gradients[key].dtype == array.dtype == np.float64
        places = np.argwhere(gradients[key])
        for place in map(tuple, rng.choice(places, min(10, len(places)), replace=False)):
            values = []
            for sign in (1, -1):
                run, shifted = begin()
                shifted[key][place] += sign * h
                values.append(run.loss()[0])
            expected = (values[0] - values[1]) / (2 * h)
            assert gradients[key][place] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_policy_gradient() -> None:
    rng = np.random.default_rng(0)
    params = {name: array + rng.normal(0, 0.3, array.shape) for name, array in find("cartpole").begin(0).params.items()}
    played = cartpole.Played(rng.normal(size=(9, 4)), rng.random(9) < 0.5, rng.normal(size=9))
    gradient = cartpole.loss_and_gradient(params, played)[1]
    for name, array in params.items():
        for place in np.ndindex(*array.shape):
            kept, values = array[place], []
            for sign in (1, -1):
                array[place] = kept + sign * 1e-6
                values.append(cartpole.loss_and_gradient(params, played)[0])
            array[place] = kept
            assert gradient[name][place] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.fixture(scope="module")
def elsewhere(_settled: None) -> dict[str, list[Any]]:
    """The numbers of each in a fresh process."""
    code = (
        "import json, torch; torch.set_num_threads(1); from tests.lab.test_each_problem import PROBLEMS, seen; "
        "print(json.dumps({name: seen(name, 1) for name in PROBLEMS}))"
    )
    return dict(json.loads(run("-c", code).stdout))


@each()
def test_a_seed_is_a_training(name: str, elsewhere: dict[str, list[Any]]) -> None:
    first = seen(name, 1)
    assert first == seen(name, 1) == elsewhere[name]
    assert first[0] != seen(name, 2)[0]
    after = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    # The global generators are seeded too, and nothing was drawn from them.
    assert torch.equal(torch.get_rng_state(), after[0])
    assert repr(np.random.get_state()) == after[1]  # noqa: NPY002


@each(*LEARNED)
def test_adam_learns_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "POINTS", 5)
    it, (lr, steps, cost) = find(name), LEARNED[name]
    found = trained(name, 0, steps, lr)
    curve = [it.cost(value) for value in found.curve(it.metric)]
    assert curve[-1] < cost < curve[0]


def test_reddi_adam_goes_to_the_worst_and_amsgrad_away_from_it() -> None:
    adam, amsgrad = (trained("reddi", 0, 100_000, 0.01, by).measures["distance"] for by in ("adam", "amsgrad"))
    assert adam[-1] > 1.8
    assert amsgrad[-1] < 0.85


@each("rosenbrock", "beale")
def test_planes(name: str) -> None:
    plane = find(name).plane
    assert plane is not None
    x, y = plane.minimum
    assert plane.x[0] < x < plane.x[1]
    assert plane.y[0] < y < plane.y[1]
    grid = np.meshgrid(np.linspace(*plane.x, 101), np.linspace(*plane.y, 101))
    assert plane.loss(*grid).shape == (101, 101)
    assert plane.loss(*grid).min() >= plane.loss(x, y) == 0
    start = find(name).begin(0).params
    assert plane.x[0] < start[0] < plane.x[1]
    assert plane.y[0] < start[1] < plane.y[1]


@pytest.mark.parametrize("condition", [1, 1000, 1e6])
def test_the_condition_of_a_quadratic(condition: float) -> None:
    run = quadratic(condition, size=10, noise=0).begin(0)
    columns = []
    for k in range(10):
        run.params[:] = np.eye(10)[k]
        columns.append(run.loss()[1])
    assert np.linalg.cond(columns) == pytest.approx(condition, rel=1e-6)


def test_problems_of_one_function_have_marks_of_their_own() -> None:
    assert len({quadratic().mark, quadratic(10).mark, quadratic(noise=0).mark}) == 3
    assert quadratic().mark == quadratic().mark


def test_the_logistic_minimum() -> None:
    x, y = logistic.load()
    w = np.zeros(x.shape[1])
    for _ in range(30):  # Newton's method
        chance = 1 / (1 + np.exp(-x @ w))
        hessian = (x.T * (chance * (1 - chance))) @ x / len(y) + logistic.L2 * np.eye(len(w))
        w -= np.linalg.solve(hessian, logistic.loss_and_gradient(w, x, y)[1])
    assert logistic.lowest() == pytest.approx(logistic.loss_and_gradient(w, x, y)[0], abs=1e-9)


def test_embeddings_are_sparse_and_need_rare_words() -> None:
    run = find("embeddings").begin(0)
    assert np.mean(np.any(run.loss()[1]["vectors"] != 0, axis=1)) < 0.1
    train, _, test = embeddings.load()
    counts = np.bincount(train.words.ravel(), minlength=embeddings.WORDS)
    told = {t: np.bincount(train.words[train.topics == t].ravel(), minlength=embeddings.WORDS) for t in range(4)}
    share = np.stack([told[t] for t in range(4)]) / np.maximum(counts, 1)
    assert share[:, : embeddings.COMMON].max() < 0.4  # the most frequent words carry no information
    assert len(test.topics) == embeddings.TEST


def test_each_player_has_its_own_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    drawer, critic = gan.network((4, 8, 2), generator), gan.network((2, 8, 1), generator)
    noise, true = torch.randn(5, 4, generator=generator), gan.ring(5, generator)
    both = torch.autograd.grad(gan.players_loss(drawer, critic, noise, true), [*drawer, *critic])
    drawn = gan.apply(drawer, noise)
    chance_true, chance_drawn = gan.apply(critic, true).sigmoid(), gan.apply(critic, drawn).sigmoid()
    drawers = torch.autograd.grad(-chance_drawn.log().mean(), drawer, retain_graph=True)
    critics = torch.autograd.grad(-chance_true.log().mean() - (1 - chance_drawn).log().mean(), critic)
    for found, expected in zip(both, [*drawers, *critics], strict=True):
        torch.testing.assert_close(found, expected)


def test_gan_measures() -> None:
    generator = torch.Generator().manual_seed(0)
    true, again = gan.ring(2000, generator), gan.ring(2000, generator)
    assert gan.distance(true, again) == pytest.approx(0, abs=3e-3)
    assert gan.modes(true) == 8
    collapsed = true[true[:, 0] > 0.5]
    assert gan.modes(collapsed) == 3
    assert gan.distance(true, collapsed) > 0.3


# ---- the command line -----------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=process_environment() | {"COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def adamite_without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line when a package is missing."""
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Missing())
from adamite.cli import main
sys.argv[1:] = {arguments}
main()
"""
    return run("-c", code)


def test_the_list() -> None:
    done = run("-m", "adamite", "problems")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [name for name in PROBLEMS if not any(line.split()[:1] == [name] for line in lines)] == []
    assert "Rosenbrock 1960" in done.stdout


def test_the_list_without_a_package() -> None:
    done = adamite_without("gymnasium", "problems")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.strip().startswith("cartpole"))
    assert "needs gymnasium" in line
    assert "Rosenbrock 1960" in done.stdout


@pytest.mark.parametrize(("name", "module", "extra"), [("cartpole", "gymnasium", "lab"), ("gan", "torch", "torch")])
def test_a_missing_package_is_named(name: str, module: str, extra: str, tmp_path: Path) -> None:
    done = adamite_without(module, "compare", "--problem", name, "--out", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"adamite: this command needs {module}; install it with: pip install 'adamite[{extra}]'\n"


def test_missing_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find("mnist").needs.cache_clear()  # type: ignore[union-attr]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(mnist.VARIABLE)
    with pytest.raises(where.NotFoundError, match=f"MNIST isn't in {tmp_path}.*{mnist.VARIABLE}"):
        find("mnist")
    monkeypatch.setenv(mnist.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(where.NotFoundError, match="nowhere, which is no folder"):
        find("mnist")


def test_a_part_of_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last thousand images choose settings, and the article's training needs the whole set."""
    (train, _), (chosen, digits), _ = find("mnist").needs()  # type: ignore[misc]
    (images, labels), _ = mnist.load(MNIST)
    assert np.array_equal(train[:, 0].numpy(), images[:5000]) and np.array_equal(chosen[:, 0].numpy(), images[5000:])
    assert np.array_equal(digits.numpy(), labels[5000:])
    with pytest.raises(where.NotFoundError, match="has 6000 of MNIST's 60,000 training images; the article"):
        problems.find("adamite.lab.claims.article:problem", PROBLEMS)
    find("mnist").needs.cache_clear()  # type: ignore[union-attr]
    for name, array in zip(mnist.NAMES, (images[:1063], labels[:1063], images[:9], labels[:9]), strict=True):
        (tmp_path / name).write_bytes(idx(array))
    monkeypatch.setenv(mnist.VARIABLE, str(tmp_path))
    with pytest.raises(where.NotFoundError, match="has 1063 training images: at least 1,064 are needed"):
        find("mnist")

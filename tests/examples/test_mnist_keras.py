"""The article's Keras program, shortened: each backend in a process of its own, its table, its picture, mistakes."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.examples import running
from tests.support import MNIST, whole_mnist

# The fastest backend runs all five.
BACKENDS = {
    "tensorflow": ["sgd", "keras-adam", "adam", "plateau", "adamw"],
    "jax": ["keras-adam", "adam"],
    "torch": ["keras-adam", "adam"],
}


class Made(NamedTuple):
    """What a run printed and drew, and all results in the file after it."""

    printed: str
    picture: bytes
    results: list[dict[str, Any]]

    def of(self, backend: str) -> dict[str, dict[str, Any]]:
        return {it["optimizer"]: it for it in self.results if it["backend"] == backend}


run = functools.partial(running.run, OMP_NUM_THREADS="1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """One run after the other, with one file of results, as `make mnist` does."""
    folder = tmp_path_factory.mktemp("mnist")
    results, made = folder / "results.json", {}
    for backend, optimizers in BACKENDS.items():
        picture = folder / f"{backend}.png"
        options = "--data", MNIST, "--limit", "1500", "--epochs", "1", "--results", results, "--out", picture
        done = run("examples/mnist_keras.py", *options, "--optimizers", *optimizers, KERAS_BACKEND=backend)
        assert done.returncode == 0, done.stderr
        made[backend] = Made(done.stdout, picture.read_bytes(), json.loads(results.read_text()))
    return made


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_learns_as_with_keras_adam(backend: str, made: dict[str, Made]) -> None:
    found = made[backend].of(backend)
    assert list(found) == BACKENDS[backend]
    mine, theirs = found["adam"], found["keras-adam"]
    for key in ("loss", "val_loss"):
        assert mine["history"][key] == pytest.approx(theirs["history"][key], rel=1e-3)
    assert mine["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.005)
    assert mine["accuracy"] > 0.7


def test_the_others_learn(made: dict[str, Made]) -> None:
    found = made["tensorflow"].of("tensorflow")
    assert found["adam"]["loss"] < 0.7 * found["sgd"]["loss"]  # of 1,500 images, one epoch
    # In one epoch the decay, 1e-7 a step, moves no more than the fourth digit.
    assert found["adamw"]["loss"] == pytest.approx(found["adam"]["loss"], rel=1e-2)
    assert found["plateau"]["history"]["learning_rate"] == [pytest.approx(0.01)]
    assert found["plateau"]["loss"] < found["adam"]["loss"]


def test_the_table_grows_and_fits(made: dict[str, Made]) -> None:
    printed = made["torch"].printed
    rows = re.findall(r"│ (\w+) +│ ([\w ,]+?) +│ +(\S+) % │ +(\S+) │ +(\d+) │", printed)
    expected = [(it["backend"], f"{100 * it['accuracy']:.2f}") for it in made["torch"].results]
    assert [(backend, accuracy) for backend, _, accuracy, _, _ in rows] == expected and len(rows) == 9
    assert [label for _, label, *_ in rows[-2:]] == ["keras Adam", "adamite Adam"]
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert "adamite Adam, on plateaus: rate by epoch 0.01\n" in made["tensorflow"].printed


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_picture(backend: str, made: dict[str, Made]) -> None:
    assert made[backend].picture.startswith(b"\x89PNG") and len(made[backend].picture) > 10_000


PLATEAUS = """
import inspect, re
from keras.callbacks import LearningRateScheduler, ReduceLROnPlateau
from examples.mnist_keras import ADAM, Adam, network, on_plateaus

def rates(callback, losses):
    model = network()
    model.compile(optimizer=Adam(**ADAM | {"learning_rate": 1.0}), loss="sparse_categorical_crossentropy")
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"val_loss": loss})
        yield float(model.optimizer.learning_rate)

def drops(callback, losses):
    found = [1.0, *rates(callback, losses)]
    return [epoch for epoch in range(1, len(found)) if found[epoch] == found[epoch - 1] / 2]

article = lambda: ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=10, min_lr=1e-6)
print(drops(article(), [1.0] * 40))
print(drops(article(), [1 / (epoch + 1) for epoch in range(40)]))
print(drops(on_plateaus(), [3.0, 2.0, 2.5, 1.0, 1.0]))
said = re.search(r"LearningRateScheduler\\((lambda .*?)\\)\\.", " ".join(inspect.getdoc(on_plateaus).split()))[1]
print([epoch - 1 for epoch in drops(LearningRateScheduler(eval(said)), [1.0] * 40)])
"""


def test_what_the_comment_says_of_plateaus() -> None:
    """Held against Keras's own callbacks: epochs count from 1, those of the last line are over when the rate falls."""
    done = run("-c", PLATEAUS, KERAS_BACKEND="torch")
    assert done.stdout.splitlines() == ["[11, 21, 31]", "[]", "[3, 5]", "[10, 20, 30]"], done.stderr


MISTAKES: dict[str, tuple[list[str], str]] = {
    "epochs": (["--epochs", "0"], "argument --epochs: must be a whole number from 1 to 1000, got '0'"),
    "no number": (["--epochs", "five"], "argument --epochs: must be a whole number from 1 to 1000, got 'five'"),
    "limit": (["--limit", "60001"], "argument --limit: must be a whole number from 100 to 60000, got '60001'"),
    "seed": (["--seed=-1"], "argument --seed: must be a whole number from 0 to 4294967295, got '-1'"),
    "optimizer": (["--optimizers", "adm"], "argument --optimizers: invalid choice: 'adm'"),
    "picture": (["--out", "picture.doc"], "argument --out: must end in .png or .svg or .pdf, got 'picture.doc'"),
    "folder": (["--out", "nowhere/x.png"], "argument --out: there is no folder"),
    "results": (["--results", "pyproject.toml"], "argument --results: must end in .json, got 'pyproject.toml'"),
    "no results": (["--results", "{folder}/no.json"], "no.json isn't a file of results"),
    "no folder of data": (["--data", "nowhere"], "MNIST was looked for in nowhere, which is no folder"),
    "no files": (
        ["--data", "docs"],
        "MNIST's file train-images-idx3-ubyte.gz (or train-images-idx3-ubyte) isn't in docs",
    ),
    "corrupt": (["--data", "{folder}"], "train-images-idx3-ubyte isn't an idx file of bytes"),
    "no data at all": ([], "and keras.datasets can't download it"),
}

CALLS = """
import contextlib, io, json, sys
from examples.mnist_keras import main

said = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv[1:] = arguments
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            said[name] = end.code, told.getvalue()
print(json.dumps(said))
"""


def test_mistakes(tmp_path: Path) -> None:
    """Each is refused in one line. Nothing can be downloaded here: the proxy's port is closed."""
    (tmp_path / "no.json").write_text('[{"backend": "torch"}]')
    (tmp_path / "train-images-idx3-ubyte").write_text("404")
    for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).touch()
    given = {name: [a.format(folder=tmp_path) for a in arguments] for name, (arguments, _) in MISTAKES.items()}
    nowhere = {"KERAS_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "ADAMITE_MNIST": ""}
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = run("-c", CALLS, json.dumps(given), KERAS_BACKEND="torch", no_proxy="", **nowhere, **closed)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for name, (_, message) in MISTAKES.items():
        code, told = said[name]
        assert code == 2 and message in told.splitlines()[-1], (name, told)


def test_backends_that_keras_does_not_know() -> None:
    done = run("examples/mnist_keras.py", KERAS_BACKEND="theano")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Keras can't start with KERAS_BACKEND=theano: ")


def test_the_articles_accuracy(tmp_path: Path) -> None:
    """Its five epochs on all of MNIST: "~98%", in whole percents, since seeds differ by a tenth of one."""
    results = tmp_path / "results.json"
    options = "--data", whole_mnist(), "--optimizers", "adam", "--results", results, "--out", tmp_path / "x.png"
    done = run("examples/mnist_keras.py", *options, KERAS_BACKEND="tensorflow")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(results.read_text())
    assert (result["images"], result["epochs"]) == (60_000, 5)
    assert round(100 * result["accuracy"]) >= 98

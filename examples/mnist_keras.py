"""An article's Keras program, with its optimizer imported from adamite: a small network reads handwritten digits.

The network, the epochs, the batch size and the split are the article's, and so is every argument of its Adam. Beside
it, from the same seed and so from the same weights and the same order of images, run plain SGD and Keras's own Adam;
then what the article goes on to: a learning rate that falls on plateaus, and AdamW.

    pip install 'adamite[keras,lab]' tensorflow    # or jax, or torch in its place
    KERAS_BACKEND=tensorflow python examples/mnist_keras.py --out mnist.png

MNIST's four idx files are read from --data, else from the folder that ADAMITE_MNIST names, else from
~/.cache/adamite/mnist; where there are none of these, keras.datasets downloads it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from adamite.lab import mnist

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow prints a screenful about the processor
try:
    import keras
    from keras import layers, models

    from adamite.keras import Adam, AdamW  # instead of: from keras.optimizers import Adam, AdamW
except (ModuleNotFoundError, ValueError) as error:  # no Keras, no such backend, or one that isn't installed
    backend = os.environ.get("KERAS_BACKEND")
    raise SystemExit(f"Keras can't start{f' with KERAS_BACKEND={backend}' * bool(backend)}: {error}") from None

Array = np.ndarray[Any, np.dtype[Any]]
Part = tuple[Array, Array]
BATCH, VALIDATION = 64, 0.1


def network() -> Any:
    return models.Sequential(
        [
            layers.Input((28, 28, 1)),  # Keras 3 prefers this to the article's input_shape=
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


# The article's arguments. Its 1e-8 is not "default epsilon": Keras's is 1e-7.
ADAM: dict[str, Any] = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}


def on_plateaus() -> Any:
    """The article's schedule, with a patience that fits five epochs.

    Its comment says "reduce LR by 50% every 10 epochs". It doesn't: the rate falls when the monitored value has not
    improved for `patience` epochs, and as long as it improves never. On a loss that stays flat from the start,
    patience=10 halves the rate after epochs 11, 21 and 31: the first epoch always counts as an improvement. For every
    10 epochs, whatever the loss does: LearningRateScheduler(lambda epoch, lr: lr / 2 if epoch and epoch % 10 == 0
    else lr). And without validation data, which the article's `fit(...)` leaves open, there is no val_loss to watch.
    """
    return keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_lr=1e-6)


@dataclass(frozen=True)
class Entrant:
    label: str
    optimizer: Callable[[], Any]
    callbacks: tuple[Callable[[], Any], ...] = ()


ENTRANTS = {
    "sgd": Entrant("keras SGD", lambda: keras.optimizers.SGD(learning_rate=0.01)),
    "keras-adam": Entrant("keras Adam", lambda: keras.optimizers.Adam(**ADAM)),
    "adam": Entrant("adamite Adam", lambda: Adam(**ADAM)),
    # The article advises 0.01 for small CNNs. That is too much to end with: here the schedule has something to do.
    "plateau": Entrant("adamite Adam, on plateaus", lambda: Adam(**ADAM | {"learning_rate": 0.01}), (on_plateaus,)),
    "adamw": Entrant("adamite AdamW", lambda: AdamW(learning_rate=0.001, weight_decay=1e-4)),
}


@dataclass(frozen=True)
class Result:
    """A training: its settings and its results."""

    backend: str
    optimizer: str
    seed: int
    epochs: int
    images: int
    accuracy: float  # on the test images, like the loss
    loss: float
    seconds: float  # of `fit`
    history: dict[str, list[float]]  # what `fit` returns: a number per epoch

    @property
    def settings(self) -> tuple[int, int, int]:
        """What results must have in common to be compared."""
        return self.seed, self.epochs, self.images


def load(data: Path | None, limit: int | None) -> tuple[Part, Part]:
    """Training and test images as numbers from 0 to 1 with an axis for the channel, and their labels."""
    place = mnist.folder(data)
    if place:
        train, test = mnist.load(place)
    else:
        try:
            train, test = keras.datasets.mnist.load_data()
        except Exception as error:  # Keras raises just that
            tried = f"MNIST isn't in {mnist.cache()}, and keras.datasets can't download it ({error})"
            advice = f"put the four idx files into that folder, or name theirs with --data or {mnist.VARIABLE}"
            raise FileNotFoundError(f"{tried}: {advice}.") from None
    x_train, x_test = (np.expand_dims(x.astype("float32") / 255.0, axis=-1) for x, _ in (train, test))
    return (x_train[:limit], train[1][:limit]), (x_test, test[1])


def train(name: str, data: tuple[Part, Part], seed: int, epochs: int, progress: Progress) -> Result:
    entrant, ((x_train, y_train), (x_test, y_test)) = ENTRANTS[name], data
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = network()
    model.compile(
        optimizer=entrant.optimizer(),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    steps = -(-int(len(x_train) * (1 - VALIDATION)) // BATCH)
    bar = progress.add_task("", total=epochs * steps, label=entrant.label, epoch=f"epoch 1/{epochs}")
    told = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: progress.update(bar, epoch=f"epoch {epoch + 1}/{epochs}"),
        on_train_batch_end=lambda batch, logs: progress.advance(bar),
    )
    begin = time.perf_counter()
    history = model.fit(
        x_train,
        y_train,
        epochs=epochs,
        batch_size=BATCH,
        validation_split=VALIDATION,
        callbacks=[told, *(make() for make in entrant.callbacks)],
        verbose=0,
    )
    seconds = time.perf_counter() - begin
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    numbers = {key: [float(value) for value in values] for key, values in history.history.items()}
    return Result(keras.backend.backend(), name, seed, epochs, len(x_train), accuracy, loss, seconds, numbers)


def read_results(place: Path) -> list[Result]:
    results = [Result(**it) for it in json.loads(place.read_text())]
    unknown = {it.optimizer for it in results} - set(ENTRANTS)
    if unknown:
        raise ValueError(f"it has an optimizer {unknown.pop()!r}")
    return results


def table(results: list[Result]) -> Table:
    shown = Table("backend", "optimizer")
    for heading in ("test accuracy", "test loss", "seconds"):
        shown.add_column(heading, justify="right")
    for before, it in zip([None, *results], results):
        if before and before.backend != it.backend:
            shown.add_section()
        numbers = f"{100 * it.accuracy:.2f} %", f"{it.loss:.4f}", f"{it.seconds:.0f}"
        shown.add_row(it.backend, ENTRANTS[it.optimizer].label, *numbers)
    return shown


def draw(results: list[Result], place: Path) -> None:
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    # The curves of the Adams coincide: Keras's is wide and AdamW's dotted, so that all are visible.
    looks: dict[str, dict[str, Any]] = {
        "sgd": {"color": "0.5"},
        "keras-adam": {"color": "#E69F00", "linewidth": 6, "alpha": 0.5},
        "adam": {"color": "#0072B2"},
        "plateau": {"color": "#009E73"},
        "adamw": {"color": "#000000", "linestyle": ":"},
    }
    for it in results:
        epochs, look = range(1, it.epochs + 1), {"marker": "o", "markersize": 4} | looks[it.optimizer]
        accuracy = [100 * a for a in it.history["val_accuracy"]]
        left.plot(epochs, accuracy, **look, label=ENTRANTS[it.optimizer].label)
        right.plot(epochs, it.history["loss"], **look)
    left.set(title="validation accuracy, %", xlabel="epoch")
    right.set(title="training loss", xlabel="epoch", yscale="log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"MNIST, the article's network, Keras on {results[0].backend}")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(place, dpi=150)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers in a range."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return read


def file(*kinds: str) -> Callable[[str], Path]:
    """A reader of paths where a file can be written, checked before minutes of training."""

    def read(text: str) -> Path:
        place = Path(text)
        if place.suffix.lower() not in kinds:
            raise argparse.ArgumentTypeError(f"must end in {' or '.join(kinds)}, got {text!r}")
        if not place.absolute().parent.is_dir():
            raise argparse.ArgumentTypeError(f"there is no folder {place.absolute().parent}")
        if place.is_dir() or not os.access(place if place.exists() else place.absolute().parent, os.W_OK):
            raise argparse.ArgumentTypeError(f"{text} can't be written")
        return place

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add(
        "--optimizers", nargs="+", choices=ENTRANTS, default=list(ENTRANTS), metavar="NAME", help="default: %(default)s"
    )
    add("--epochs", type=whole(1, 1000), default=5, help="the article's 5, if not given")
    add("--limit", type=whole(100, 60_000), help="train on only this many images, for a quick run")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="of weights and shuffling; default: %(default)s")
    add("--data", type=Path, help="folder of MNIST's four idx files, gzipped or plain")
    add("--out", type=file(".png", ".svg", ".pdf"), default="mnist.png", help="the picture; default: %(default)s")
    add("--results", type=file(".json"), help="add to the results in this file, and show all with the same settings")
    options = parser.parse_args()
    try:
        earlier = read_results(options.results) if options.results and options.results.exists() else []
    except (OSError, ValueError, TypeError) as error:
        parser.error(f"argument --results: {options.results} isn't a file of results: {error}")
    try:
        data = load(options.data, options.limit)
    except (OSError, ValueError) as error:
        parser.error(str(error))

    columns = TextColumn("{task.fields[label]:25}"), BarColumn(20), TextColumn("{task.fields[epoch]:12}")
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        names = list(dict.fromkeys(options.optimizers))
        new = [train(name, data, options.seed, options.epochs, progress) for name in names]

    made = {(it.backend, it.optimizer, it.settings) for it in new}
    results = [it for it in earlier if (it.backend, it.optimizer, it.settings) not in made] + new
    if options.results:
        options.results.write_text(json.dumps([asdict(it) for it in results], indent=1) + "\n")
    console = Console(highlight=False, markup=False)
    console.print(table([it for it in results if it.settings == new[0].settings]))
    for it in new:
        if "learning_rate" in it.history:  # the schedule changed it
            rates = ", ".join(f"{rate:g}" for rate in it.history["learning_rate"])
            console.print(f"{ENTRANTS[it.optimizer].label}: rate by epoch {rates}")
    draw(new, options.out)
    console.print(f"Picture: {options.out}", soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)

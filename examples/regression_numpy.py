"""Fits a line to noisy points: an article's NumPy program, with adamite's Adam instead of its hand-written class.

The data, the learning rate, the epochs and what is printed are the article's. It says that the parameters converge to
the true w = 2 and b = 1; but no one who sees only the points can know these. The best line through them is that of
least squares, which the noise has moved, and it is what Adam goes to: past it first, since the momentum carries on,
then around it in ever smaller swings.

    pip install 'adamite[lab]'
    python examples/regression_numpy.py --out regression.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from adamite import Adam

Array = np.ndarray[Any, np.dtype[np.float64]]

# y = 2x + 1 + noise
np.random.seed(42)  # noqa: NPY002 - the article's points, to the last bit
x = np.linspace(-5, 5, 100)
y_true = 2 * x + 1
y = y_true + np.random.normal(0, 1, size=x.shape)  # noqa: NPY002


def predict(x: Array, w: float, b: float) -> Array:
    return w * x + b


def mse_loss(y_hat: Array, y: Array) -> float:
    return float(np.mean((y_hat - y) ** 2))


def compute_gradient(x: Array, y: Array, w: float, b: float) -> Array:
    y_hat = predict(x, w, b)
    dw = 2 * np.mean((y_hat - y) * x)
    db = 2 * np.mean(y_hat - y)
    return np.array([dw, db])


def train(epochs: int = 100) -> tuple[Array, Array]:
    """The parameters and the loss after each epoch."""
    params = np.array([0.0, 0.0])
    adam = Adam(params, lr=0.1)
    path, losses = np.empty((epochs, 2)), np.empty(epochs)
    for epoch in range(epochs):
        grad = compute_gradient(x, y, *params)
        adam.step(grad)  # the article: params = adam.update(params, grad); here they change in place
        path[epoch], losses[epoch] = params, mse_loss(predict(x, *params), y)
        if (epoch + 1) % 10 == 0:
            print(line(f"Epoch {epoch + 1}", params))
    return path, losses


def least_squares() -> Array:
    """The least-squares line, to which Adam should converge."""
    return np.asarray(np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1), y)[0])


def line(name: str, params: Array) -> str:
    w, b = params
    return f"{name} | Loss: {mse_loss(predict(x, w, b), y):.4f} | w={w:.4f}, b={b:.4f}"


def draw(path: Array, losses: Array, best: Array, place: Path) -> None:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(losses) + 1)
    dashed: dict[str, Any] = {"color": "0.35", "linestyle": "--", "linewidth": 1}
    above: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "ha": "right"}

    left.semilogy(epochs, losses, color="#D55E00")
    floor = mse_loss(predict(x, *best), y)
    left.axhline(floor, **dashed)
    left.annotate(f"least squares: {floor:.4f}", (epochs[-1], floor), color="0.35", **above)
    left.set_yticks(ticks := (1, 2, 5, 10, 20), [str(tick) for tick in ticks])
    left.set_yticks([], minor=True)
    left.set(title="mean squared error", xlabel="epoch")

    for name, values, target, colour in zip("wb", path.T, best, ("#0072B2", "#009E73"), strict=True):
        right.plot(epochs, values, color=colour)
        right.axhline(target, **dashed)
        right.annotate(f"{name}: {target:.4f}", (epochs[-1], target), color=colour, **above)
    right.set(title="w and b; dashed: least squares", xlabel="epoch")

    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(place, dpi=150, format=place.suffix[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("regression.png"), help="the picture; default: %(default)s")
    options = parser.parse_args()
    path, losses = train()
    best = least_squares()
    print(line("Least squares", best))
    try:
        draw(path, losses, best, options.out)
    except (OSError, ValueError) as error:  # no such folder, or an unknown picture format
        parser.error(f"--out: {error}")
    print(f"Picture: {options.out}")


if __name__ == "__main__":
    main()

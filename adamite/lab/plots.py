"""Pictures of arrays: each function draws one on an axes; ``save`` writes it, light and dark.

Matplotlib is used through its objects alone: no pyplot, no window, no global figure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

Array = NDArray[Any]

# Small in inches and fine in dots: the letters stay readable on a phone 390 pixels wide.
SIZE, DPI = (5.0, 3.5), 200


@dataclass(frozen=True)
class Theme:
    """The colours of one picture; ``suffix`` ends its file's name."""

    suffix: str
    paper: str
    ink: str
    faint: str
    lines: tuple[str, ...]  # Okabe and Ito's palette, told apart by colour-blind readers too


COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
LIGHT = Theme("", "#ffffff", "#1f2328", "#d5d9de", ("#4d4d4d", *COLOURS, "#0072B2"))
DARK = Theme("-dark", "#161b22", "#e6edf3", "#3a424c", ("#c9d1d9", *COLOURS, "#F0E442"))
DASHES = ("-", "-", "--", "-", (0, (4, 1.5)), "-.", ":")  # a second sign beside the colour

Painter = Callable[[Axes, Theme], None]


def save(painter: Painter, folder: Path, name: str, size: tuple[float, float] = SIZE) -> None:
    """Write ``name.png`` and ``name-dark.png``."""
    for theme in (LIGHT, DARK):
        with matplotlib.rc_context(_settings(theme)):
            figure = Figure(figsize=size, dpi=DPI, layout="constrained")
            painter(figure.add_subplot(), theme)
            figure.savefig(folder / f"{name}{theme.suffix}.png")


def _settings(theme: Theme) -> Any:  # Matplotlib's own type for it lists every key
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inks, theme.ink),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor"), theme.paper),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), theme.faint),
        **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
        "axes.grid": True,
        "font.size": 9.5,
        "grid.linewidth": 0.6,
        "legend.fontsize": 9,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
    }


def descent(losses: Array, floor: float) -> Painter:
    """A loss curve above the lowest loss that any parameters can reach."""

    def paint(axes: Axes, theme: Theme) -> None:
        axes.plot(np.arange(1, len(losses) + 1), losses, color=theme.lines[3], label="Adam")
        axes.axhline(floor, color=theme.ink, linestyle="--", linewidth=1, label=f"least squares, {floor:.4f}")
        axes.set(yscale="log", xlabel="epoch", ylabel="mean squared error", xlim=(0, len(losses)))
        ticks = [1, 2, 5, 10, 20, 50]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.legend()

    return paint


def fit(x: Array, y: Array, lines: Mapping[str, Array]) -> Painter:
    """Points, and the lines that should pass through them: first the true one, then the fitted."""

    def paint(axes: Axes, theme: Theme) -> None:
        axes.scatter(x, y, s=10, color=theme.lines[5], alpha=0.8, linewidths=0, label="data")
        looks = (theme.ink, "-", 1.2), (theme.lines[3], "--", 2.2)
        for (label, values), (colour, dash, width) in zip(lines.items(), looks, strict=True):
            axes.plot(x, values, color=colour, linestyle=dash, linewidth=width, label=label)
        axes.set(xlabel="x", ylabel="y")
        axes.legend()

    return paint


def bands(steps: Array, curves: Mapping[str, Array], **settings: Any) -> Painter:
    """For each name the median over the seeds (rows), in a band of their middle half.

    The settings are those of ``Axes.set``.
    """

    def paint(axes: Axes, theme: Theme) -> None:
        axes.set(**settings)
        for (name, rows), colour, dash in zip(curves.items(), theme.lines, DASHES, strict=False):
            low, middle, high = np.quantile(rows, (0.25, 0.5, 0.75), axis=0)
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(steps, middle, color=colour, linestyle=dash, linewidth=1.6, label=name)
        axes.set_xlim(steps[0], steps[-1])
        if settings.get("xscale") == "log":
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.figure.legend(loc="outside lower center", ncols=4, handlelength=2.4)

    return paint


def scans(images: Array, answers: Sequence[int], truths: Sequence[int], columns: int) -> Painter:
    """Scans side by side, the answer under each; a wrong one in a frame, with the truth."""

    def paint(axes: Axes, theme: Theme) -> None:
        side, across, down = images.shape[1], 1.4 * images.shape[1], 1.65 * images.shape[1]
        warning = theme.lines[3]
        for i, (image, answer, truth) in enumerate(zip(images, answers, truths, strict=True)):
            left, top = i % columns * across, i // columns * down
            axes.imshow(1 - image, cmap="gray", vmin=0, vmax=1, extent=(left, left + side, top + side, top))
            label, colour = str(answer), theme.ink
            if answer != truth:
                label, colour = f"{answer}, not {truth}", warning
                frame = Rectangle((left, top), side, side, fill=False, color=warning, linewidth=2)
                axes.add_patch(frame)
            axes.text(left + side / 2, top + 1.08 * side, label, color=colour, ha="center", va="top")
        rows = -(-len(images) // columns)
        axes.set(xlim=(side - across, columns * across), ylim=(rows * down, side - across))
        axes.set_axis_off()

    return paint

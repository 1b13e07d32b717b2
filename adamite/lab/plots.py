"""Pictures of arrays: each function returns a painter of an axes; ``save`` writes the picture, light and dark.

Matplotlib is used through its objects only: no pyplot, no window, no global figure.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

Array = NDArray[Any]

# Few inches, many dots: text stays readable on a phone 390 pixels wide.
SIZE, DPI = (5.0, 3.5), 200


@dataclass(frozen=True)
class Theme:
    """The colours of one picture; ``suffix`` ends its file's name."""

    suffix: str
    paper: str
    ink: str
    faint: str
    lines: tuple[str, ...]  # Okabe and Ito's palette, which colour-blind readers can distinguish


COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
LIGHT = Theme("", "#ffffff", "#1f2328", "#d5d9de", ("#4d4d4d", *COLOURS, "#0072B2"))
DARK = Theme("-dark", "#161b22", "#e6edf3", "#3a424c", ("#c9d1d9", *COLOURS, "#F0E442"))
# A second distinction besides colour: dashes and gaps in multiples of the line width, as Matplotlib has them.
DASHES: tuple[tuple[float, ...], ...] = ((), (), (3.7, 1.6), (), (4, 1.5), (6.4, 1.6, 1, 1.6), (1, 1.65))
MORE_DASHES = ((7, 1.5, 1.5, 1.5), (3, 1, 1, 1, 1, 1))  # when the colours repeat

Painter = Callable[[Axes, Theme], None]


def dashes(look: int) -> tuple[float, ...]:
    """The dashes of the line with this number; () for a solid one."""
    turn, place = divmod(look, len(DASHES))
    return MORE_DASHES[(turn - 1) % len(MORE_DASHES)] if turn else DASHES[place]


def _line(theme: Theme, look: int) -> dict[str, Any]:
    marks = dashes(look)
    return {"color": theme.lines[look % len(theme.lines)], "linestyle": (0, marks) if marks else "-"}


def plain(text: str) -> str:
    """A user's text, so that dollars don't start a formula, and an underscore doesn't hide it from the legend."""
    return f"{' ' if text.startswith('_') else ''}{text}".replace("$", r"\$")


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


def legend(axes: Axes) -> None:
    """A legend below, in as many columns as fit, at most four; names that are too long are cut."""
    figure: Any = axes.figure
    for columns in (4, 3, 2, 1):
        made = figure.legend(loc="outside lower center", ncols=columns, handlelength=2.4)
        if made.get_window_extent().width <= figure.bbox.width:
            return
        if columns > 1:
            made.remove()
    texts = made.get_texts()
    room = figure.bbox.width - made.get_window_extent().width + max(text.get_window_extent().width for text in texts)
    for text in texts:
        while text.get_window_extent().width > room:
            text.set_text(f"{text.get_text()[:-2]}…")


class Band(NamedTuple):
    """A median over the steps, between two quantiles; NaN where it isn't finite."""

    steps: Array
    low: Array
    middle: Array
    high: Array


def bands(steps: Array, curves: Mapping[str, Array], **settings: Any) -> Painter:
    """For each name the median over the seeds (rows), in a band of their middle half.

    The settings are those of ``Axes.set``.
    """
    rows = {name: np.quantile(rows, (0.25, 0.5, 0.75), axis=0) for name, rows in curves.items()}
    made = [(name, look, Band(steps, *rows[name])) for look, name in enumerate(rows)]

    def paint(axes: Axes, theme: Theme) -> None:
        ribbons(made, **settings)(axes, theme)
        if settings.get("xscale") == "log":
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())

    return paint


def ribbons(lines: Sequence[tuple[str, int, Band]], goal: float | None = None, **settings: Any) -> Painter:
    """Bands by name and line style, and the target."""

    def paint(axes: Axes, theme: Theme) -> None:
        axes.set(**settings)
        for name, look, band in lines:
            line = _line(theme, look)
            axes.fill_between(band.steps, band.low, band.high, color=line["color"], alpha=0.15, linewidth=0)
            axes.plot(band.steps, band.middle, linewidth=1.6, label=plain(name), **line)
        if goal is not None:
            axes.axhline(goal, color=theme.ink, linestyle=":", linewidth=1, label="target")
        if lines:
            first, last = lines[0][2].steps[0], max(band.steps[-1] for _, _, band in lines)
            axes.set_xlim(first, last if last > first else first + 1)
        legend(axes)

    return paint


class Tried(NamedTuple):
    """Learning rates in increasing order, and the final values of their trainings; NaN if they diverged."""

    rates: Array
    values: Array
    best: float  # the chosen rate
    default: float | None  # the rule's default
    line: bool  # whether only lr differed, so that the points form a curve


def stacked(rates: Sequence[float]) -> list[int]:
    """For each mark, the number of earlier marks at the same place."""
    met: Counter[float] = Counter()
    heights = []
    for rate in rates:
        heights.append(met[rate])
        met[rate] += 1
    return heights


def sensitivity(lines: Sequence[tuple[str, int, Tried]], **settings: Any) -> Painter:
    """Final values against learning rates: × above for those that diverged, ▲ below for the rules' defaults."""

    def paint(axes: Axes, theme: Theme) -> None:
        axes.set(xscale="log", xlabel="lr", **settings)
        diverged = [(rate, look) for _, look, it in lines for rate in it.rates[np.isnan(it.values)]]
        defaults = [(it.default, look) for _, look, it in lines if it.default is not None]
        crosses, triangles = stacked([rate for rate, _ in diverged]), stacked([rate for rate, _ in defaults])
        for name, look, it in lines:
            line = _line(theme, look)
            style = line if it.line else {"color": line["color"], "linestyle": ""}
            axes.plot(it.rates, it.values, marker="o", markersize=3.5, linewidth=1.4, label=plain(name), **style)
            chosen = it.rates == it.best
            ring = {"facecolors": "none", "edgecolors": line["color"], "linewidths": 1.4}
            axes.scatter(it.rates[chosen], it.values[chosen], s=60, zorder=3, **ring)
        # The marks have strips of their own above and below the values.
        rows = [max(heights, default=-1) + 1 for heights in (crosses, triangles)]
        between = [min(0.05, 0.3 / max(count, 1)) for count in rows]
        above, below = (step * count + 0.01 for step, count in zip(between, rows, strict=True))
        low, high = axes.yaxis.get_transform().transform(axes.get_ylim())
        scale = (high - low) / (1 - above - below)
        ends = axes.yaxis.get_transform().inverted().transform([low - below * scale, high + above * scale])
        axes.set_ylim(*ends)
        every = np.concatenate([*(it.rates for *_, it in lines), [rate for rate, _ in defaults]])
        axes.set_xlim(every.min() / 1.5, every.max() * 1.5)
        up, down = between
        marks = [(diverged, crosses, "x", 1, -up, "diverged"), (defaults, triangles, "^", 0, down, "default")]
        for places, heights, marker, edge, step, word in marks:
            for (rate, look), height in zip(places, heights, strict=True):
                y = edge + step * (0.6 + height)
                colour = _line(theme, look)["color"]
                place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "zorder": 3}
                axes.scatter(rate, y, s=24, marker=marker, color=colour, **place)
            if places:
                axes.text(0.01, edge + 0.6 * step, word, va="center", fontsize=8, transform=axes.transAxes)
        legend(axes)

    return paint


class Ground(NamedTuple):
    """A loss of two parameters over a part of the plane, as a grid of heights (rows along y)."""

    x: Array
    y: Array
    heights: Array
    minimum: tuple[float, float]


def trajectories(ground: Ground, ways: Sequence[tuple[str, int, Array]]) -> Painter:
    """Trajectories of two parameters (rows) over the contours of their loss."""

    def paint(axes: Axes, theme: Theme) -> None:
        axes.grid(visible=False)
        axes.contour(ground.x, ground.y, ground.heights, levels=14, colors=theme.faint, linewidths=0.8)
        for name, look, way in ways:
            axes.plot(way[:, 0], way[:, 1], linewidth=1.6, label=plain(name), **_line(theme, look))
            axes.plot(*way[-1], marker="o", markersize=4, color=_line(theme, look)["color"])
        axes.plot(*ground.minimum, marker="*", markersize=11, color=theme.ink, linestyle="", label="minimum")
        axes.set(xlabel="x", ylabel="y", xlim=ground.x[[0, -1]], ylim=ground.y[[0, -1]])
        legend(axes)

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

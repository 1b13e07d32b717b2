"""A comparison's pictures, as Plotly's figures: plain data, in which a colour is a name that the page's styles define.

So the same figure is drawn in the reader's light and dark.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from adamite.lab import plots
from adamite.lab.compare.report_curves import Array, Curve
from adamite.lab.plots import Ground, Tried

Figure = dict[str, Any]  # data and layout, as Plotly takes them
WIDTH = 2  # of lines, in pixels
STRIP, STRIPS = 0.045, 0.3  # of the height, for a row of marks, and for all above or below at most
AXIS = {"gridcolor": "--rule", "linecolor": "--rule", "zeroline": False, "automargin": True, "ticks": ""}
TICKS = 5  # more labels run into each other on a phone
DECADE = 0.71  # Plotly labels decades alone where there are so many for a label, and 2 and 5 in between where fewer


def colour(look: int, kind: str = "line") -> str:
    """The name of a line's or a band's colour."""
    return f"--{kind}{look % len(plots.LIGHT.lines)}"


def dash(look: int) -> str:
    """The line's dashes, as SVG writes them."""
    return " ".join(f"{WIDTH * length:g}" for length in plots.dashes(look))


def as_json(figure: Figure) -> str:
    """Ready to stand in a page's script: no NaN, nothing that ends the script."""
    text = json.dumps(_plain(figure), allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _plain(it: Any) -> Any:
    """Lists for arrays, and nothing for what is no number."""
    if isinstance(it, dict):
        return {key: _plain(value) for key, value in it.items()}
    if isinstance(it, np.ndarray):
        return _plain(it.tolist())
    if isinstance(it, (list, tuple)):
        return [_plain(value) for value in it]
    if isinstance(it, float):
        return float(f"{it:.6g}") if math.isfinite(it) else None
    return it


def logarithmic(values: Iterable[float]) -> bool:
    """Whether values are to be seen on a logarithmic axis first."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 10 * min(finite)


def bands(lines: Sequence[tuple[str, int, Curve]], measure: str, goal: float | None = None) -> Figure:
    """Medians over the seeds in bands of their middle half, against steps or seconds."""
    data = []
    line: dict[str, Any]
    for name, look, it in lines:
        band = it.band
        inside = np.isfinite(band.low) & np.isfinite(band.high)  # up to the step where a quarter had diverged
        edges = np.concatenate([band.low[inside], band.high[inside][::-1]])
        at = {"steps": band.steps, "seconds": it.seconds}  # the page's switch takes x from meta
        around = {axis: np.concatenate([x[inside], x[inside][::-1]]) for axis, x in at.items()}
        area = dict(mode="lines", line={"width": 0}, fill="toself", fillcolor=colour(look, "band"))
        line = dict(mode="lines", line=_line(look), name=_words(name), hovertemplate=_hover(name, "%{x}: %{y:.4g}"))
        data += [
            _trace(look, x=around["steps"], y=edges, meta=around, hoverinfo="skip", showlegend=False, **area),
            _trace(look, x=band.steps, y=band.middle, meta=at, **line),
        ]
    drawn = [value for *_, it in lines for value in (*it.band.low, *it.band.high)]
    layout = _layout("step", _words(measure), [value for *_, it in lines for value in it.band.middle], drawn)
    if goal is not None:
        across = {
            "steps": _ends([it.band.steps for *_, it in lines]),
            "seconds": _ends([it.seconds for *_, it in lines]),
        }
        line = dict(mode="lines", line={"color": "--ink", "width": 1, "dash": "dot"}, name="target")
        hover = f"target {goal:g}<extra></extra>"
        data.append(dict(type="scatter", x=across["steps"], y=[goal, goal], meta=across, hovertemplate=hover, **line))
    return {"data": data, "layout": layout}


def _ends(rows: Sequence[Array]) -> list[float]:
    return [min(float(row[0]) for row in rows), max(float(row[-1]) for row in rows)]


def sensitivity(lines: Sequence[tuple[str, int, Tried]], measure: str) -> Figure:
    """Final values against learning rates: × above for those that diverged, ▲ below for the rules' defaults."""
    data = []
    for name, look, it in lines:
        chosen = it.rates == it.best
        ring: dict[str, Any] = {"color": "--ink", "width": np.where(chosen, 2, 0)}
        marker: dict[str, Any] = dict(color=colour(look), size=np.where(chosen, 13, 6), line=ring)
        mode = "lines+markers" if it.line else "markers"
        hover = _hover(name, "lr %{x}: %{y:.4g}")
        points = dict(x=it.rates, y=it.values, mode=mode, line=_line(look), marker=marker)
        data.append(_trace(look, name=_words(name), hovertemplate=hover, **points))
    layout = _layout("lr", _words(measure), [value for *_, it in lines for value in it.values])
    rates = [rate for *_, it in lines for rate in (*it.rates, it.default or math.nan)]
    layout["xaxis"] |= {**_decades(rates), "exponentformat": "power"}
    # The marks have strips of their own above and below the values.
    diverged = [(rate, look, name) for name, look, it in lines for rate in it.rates[np.isnan(it.values)].tolist()]
    defaults = [(it.default, look, name) for name, look, it in lines if it.default is not None]
    heights = plots.stacked([rate for rate, *_ in diverged]), plots.stacked([rate for rate, *_ in defaults])
    rows = [max(each, default=-1) + 1 for each in heights]
    above, below = (min(STRIP * count, STRIPS) for count in rows)
    layout["yaxis"]["domain"] = [below + 0.03 * bool(below), 1 - above - 0.03 * bool(above)]
    layout["yaxis2"] = _strip("diverged", rows[0], [1 - above, 1])
    layout["yaxis3"] = _strip("default", rows[1], [0, below])
    layout["xaxis"]["anchor"] = "y3" if defaults else "y"
    for marks, ys, axis, symbol, meaning in (
        (diverged, heights[0], "y2", "x", "diverged"),
        (defaults, heights[1], "y3", "triangle-up", "its rule's default"),
    ):
        for (rate, look, name), y in zip(marks, ys):
            marker = dict(color=colour(look), size=9, symbol=symbol)
            mark = dict(x=[rate], y=[y], yaxis=axis, mode="markers", marker=marker, showlegend=False)
            data.append(_trace(look, hovertemplate=_hover(name, f"lr %{{x}}: {meaning}"), **mark))
    return {"data": data, "layout": layout}


def _strip(word: str, rows: int, domain: Sequence[float]) -> dict[str, Any]:
    """An axis for rows of marks, with a word for all of them."""
    ticks = {"tickvals": [(rows - 1) / 2], "ticktext": [word], "tickfont": {"size": 11, "color": "--soft"}}
    return {**AXIS, **ticks, "showgrid": False, "range": [-0.6, rows - 0.4], "domain": domain, "fixedrange": True}


def trajectories(ground: Ground, ways: Sequence[tuple[str, int, Array]]) -> Figure:
    """Ways of two parameters over the contours of their loss."""
    lines: dict[str, Any] = dict(contours={"coloring": "none"}, line={"color": "--soft", "width": 1}, opacity=0.45)
    floor = dict(type="contour", x=ground.x, y=ground.y, z=ground.heights, hoverinfo="skip", showlegend=False, **lines)
    data = [floor]
    for name, look, way in ways:
        sizes = np.where(np.arange(len(way)) == len(way) - 1, 9, 0)  # a point where it ended
        marker = dict(color=colour(look), size=sizes, line={"width": 0})
        points = dict(x=way[:, 0], y=way[:, 1], mode="lines+markers", line=_line(look), marker=marker)
        data.append(_trace(look, name=_words(name), hovertemplate=_hover(name, "%{x:.4g}, %{y:.4g}"), **points))
    (x, y), star = ground.minimum, dict(color="--ink", size=13, symbol="star")
    lowest = dict(x=[x], y=[y], mode="markers", marker=star, name="minimum")
    data.append(dict(type="scatter", hovertemplate=_hover("minimum", "%{x:.4g}, %{y:.4g}"), **lowest))
    layout = _layout("x", "y", [])
    layout["xaxis"] |= {"range": ground.x[[0, -1]], "showgrid": False}
    layout["yaxis"] |= {"range": ground.y[[0, -1]], "showgrid": False}
    return {"data": data, "layout": layout}


def _trace(look: int, **more: Any) -> dict[str, Any]:
    """Lines and marks that the legend shows and hides together."""
    return {"type": "scatter", "legendgroup": f"group{look}", **more}


def _words(text: str) -> str:
    """A user's words, in which Plotly would read tags; it doesn't know quotation marks by their names."""
    return html.escape(text, quote=False)


def _hover(name: str, values: str) -> str:
    return f"{_words(name)}<br>{values}<extra></extra>"


def _line(look: int) -> dict[str, Any]:
    pixels = ",".join(f"{length}px" for length in dash(look).split())
    return {"color": colour(look), "width": WIDTH, "dash": pixels or "solid"}


def _decades(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis with few labels: where it has few decades Plotly keeps to no number of them."""
    positive = [value for value in values if math.isfinite(value) and value > 0]
    low, high = (min(positive), max(positive)) if positive else (1.0, 1.0)
    span = math.log10(high / low)
    if span >= 2 * DECADE:
        return {"type": "log", "nticks": min(TICKS - 1, int(span / DECADE))}
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [sub * 10.0**decade for decade in decades for sub in (1, 2, 5)]
    if sum(low <= tick <= high for tick in ticks) < 3:  # too few to read a value by: multiples of a step
        ticks = list(map(float, MaxNLocator(TICKS - 1).tick_values(low, high)))
    return {"type": "log", "tickvals": [tick for tick in ticks if tick > 0]}


def _layout(x: str, y: str, values: Sequence[float], around: Sequence[float] = ()) -> dict[str, Any]:
    """A figure's axes; the values choose the kind of y, which has labels for what is drawn around them too."""
    # Between the two kinds the page's switch chooses.
    scales = {"log": _decades([*values, *around]), "linear": {"type": "linear", "nticks": TICKS}}
    scale = {**scales["log" if logarithmic(values) else "linear"], "tickformat": "~g"}
    return {
        "meta": scales,
        "paper_bgcolor": "--paper",
        "plot_bgcolor": "--paper",
        "font": {"color": "--ink", "family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "xaxis": {**AXIS, "title": {"text": x, "standoff": 8}},
        "yaxis": {**AXIS, **scale, "title": {"text": y, "standoff": 8}},
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "hoverlabel": {"bgcolor": "--box", "bordercolor": "--rule", "font": {"color": "--ink"}},
    }

"""Pictures of results: bars for cells with their targets, bars for figures with limits, curves over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.samples import Cell, Chart, Check, Result

REFERENCE, SUBJECT, TARGET = "#9aa5b1", "#1f77b4", "#c0392b"
BAR = 0.38
WIDTH, PANEL, FRAME, ROW, THIN = 10.0, 3.4, 1.1, 0.4, 0.2
"""Inches: of the picture, of a panel, and for a panel of horizontal bars its frame and each bar, of few or of many."""
PLATE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
"""Behind words, so that lines do not run through them."""


def draw(result: Result, folder: Path) -> Path:
    """Draws one picture with a panel for each unit of cells, for the judged figures, and for each chart."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    units = dict.fromkeys(cell.unit for cell in result.cells)
    panels = {unit: [cell for cell in result.cells if cell.unit == unit] for unit in units}
    judged = [check for check in result.checks if check.limit is not None and check.limit > 0]
    heights = [_height(cells) for cells in panels.values()]
    heights += [FRAME + ROW * len(judged)] * bool(judged) + [PANEL] * len(result.charts)
    figure, grid = plt.subplots(
        len(heights),
        1,
        figsize=(WIDTH, sum(heights) + 0.5),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    axes = iter(grid[:, 0])
    for unit, cells in panels.items():
        (_many if _is_many(cells) else _cells)(next(axes), unit, cells)
    if judged:
        _checks(next(axes), judged)
    for chart in result.charts:
        _chart(next(axes), chart)
    figure.suptitle(f"{result.title}\n{result.machine['processor']}, {result.date[:10]}", fontsize=11)
    path = folder / f"{result.scenario}.png"
    figure.savefig(path, dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return path


def _is_many(cells: list[Cell]) -> bool:
    """Whether bars side by side would be too many to be told apart."""
    return max(len(cell.series) for cell in cells) > 2


def _height(cells: list[Cell]) -> float:
    bars = sum(len(cell.series) for cell in cells)
    return FRAME + THIN * (bars + len(cells)) if _is_many(cells) else PANEL


def _many(axes: Axes, unit: str, cells: list[Cell]) -> None:
    """One horizontal bar a series, a block for each cell. Logarithmic: a block may be a hundred times another."""
    places: list[float] = []
    names: list[str] = []
    at = 0
    for cell in cells:
        axes.annotate(
            cell.label,
            (0, at),
            (2, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=8,
            fontweight="bold",
        )
        at += 1
        for index, series in enumerate(cell.series):
            median, low, high = series.median, min(series.values), max(series.values)
            axes.barh(
                at,
                median,
                0.8,
                xerr=[[median - low], [high - median]],
                color=SUBJECT if index else REFERENCE,
                ecolor="#444444",
                capsize=2,
            )
            axes.annotate(f"{median:,.0f}", (high, at), (5, 0), textcoords="offset points", va="center", fontsize=7)
            places.append(at)
            names.append(series.name)
            at += 1
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(-0.8, at - 0.2)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(unit)
    _bare(axes)


def _cells(axes: Axes, unit: str, cells: list[Cell]) -> None:
    """Two bars a cell, reference and subject: medians, with whiskers from the slowest to the fastest run."""
    labelled: set[str] = set()
    for at, cell in enumerate(cells):
        for index, series in enumerate(cell.series):
            place = at + (index - 0.5) * BAR
            kind = "servable" if index else "compared with"
            median, low, high = series.median, min(series.values), max(series.values)
            axes.bar(
                place,
                median,
                BAR,
                yerr=[[median - low], [high - median]],
                color=SUBJECT if index else REFERENCE,
                ecolor="#444444",
                capsize=3,
                label="_" if kind in labelled else kind,
            )
            axes.annotate(
                f"{series.name}\n{median:,.0f}",
                (place, high),
                (0, 3),
                textcoords="offset points",
                bbox=PLATE,
                ha="center",
                fontsize=7,
            )
            labelled.add(kind)
        _target(axes, at, cell, labelled)
    axes.set_xticks(range(len(cells)), [_wrapped(cell.label) for cell in cells], fontsize=8)
    axes.set_xlim(-0.6, max(len(cells), 3) - 0.4)
    axes.set_ylabel(unit)
    axes.margins(y=0.22)
    axes.set_ylim(bottom=0)
    _finish(axes)


def _target(axes: Axes, at: int, cell: Cell, labelled: set[str]) -> None:
    """A red line across the cell at the rate that meets the target."""
    if cell.target is None:
        return
    label = "_" if "target" in labelled else "target"
    wanted = cell.target * cell.series[0].median
    axes.hlines(wanted, at - BAR, at + BAR, colors=TARGET, linestyles="--", label=label)
    axes.annotate(
        f"{cell.target:g}x",
        (at + BAR, wanted),
        (2, 0),
        textcoords="offset points",
        bbox=PLATE,
        va="center",
        fontsize=7,
        color=TARGET,
    )
    labelled.add("target")


def _checks(axes: Axes, checks: list[Check]) -> None:
    """One horizontal bar a figure, as a share of its limit."""
    for at, check in enumerate(checks):
        limit = check.limit or 1.0
        axes.barh(at, check.value / limit, 0.6, color=SUBJECT if check.met else TARGET)
        axes.annotate(
            f"{check.value:.3g} of {limit:g} {check.unit}",
            (check.value / limit, at),
            (4, 0),
            textcoords="offset points",
            bbox=PLATE,
            va="center",
            fontsize=8,
        )
    axes.axvline(1.0, color=TARGET, linestyle="--", label="limit")
    axes.set_yticks(range(len(checks)), [_wrapped(check.label, 34) for check in checks], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the limit")
    axes.margins(x=0.3)
    _finish(axes)


def _chart(axes: Axes, chart: Chart) -> None:
    for line in chart.lines:
        axes.plot(line.x, line.y, label=line.name, linewidth=1.2)
    if chart.limit is not None:
        axes.axhline(chart.limit, color=TARGET, linestyle="--", label="limit")
    axes.set_title(chart.title, fontsize=9)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.set_ylim(bottom=0)
    _finish(axes)


def _finish(axes: Axes) -> None:
    _bare(axes)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _wrapped(text: str, width: int = 18) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))

"""Draw a kept run: ``python chart.py RUN.json PICTURE.svg``, run in an environment with matplotlib.

A run has either rounds of entries, drawn as bars of medians with a dot for each round, or stages, drawn as bars.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

mpl.use("svg")
mpl.rcParams["svg.fonttype"] = "none"  # text that can be searched, and a smaller file
mpl.rcParams["svg.hashsalt"] = "async-img2ds"  # the same figures give the same file

import matplotlib.pyplot as plt  # noqa: E402  it chooses its way of drawing when it is imported

OURS, OTHERS, DOTS = "#2a6f97", "#b8b8b8", "#1b1b1b"
SHADES = ("#2a6f97", "#e07a1f", "#5a9367", "#7b5ea7")


def main(source: str, drawn: str) -> None:
    """Draw *source* into *drawn*."""
    found = json.loads(Path(source).read_text())
    if "series" in found:
        _draw_series(found, drawn)
        return
    panels = _stages(found) if "stages" in found else _rounds(found)
    rows = max(len(values) for _, values in panels)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 1.0 + 0.38 * rows), squeeze=False, layout="constrained"
    )
    for axis, (title, values) in zip(axes[0], panels, strict=True):
        _bars(axis, title, values)
    figure.suptitle(found["benchmark"], fontsize=11)
    figure.savefig(drawn, metadata={"Date": None})


def _draw_series(found: dict[str, Any], drawn: str) -> None:
    """Draw what each process has over time, one panel below the other, and images a second."""
    figure, axes = plt.subplots(4, 1, figsize=(9, 9), sharex=True, layout="constrained")
    shown = {"rss_mb": "MB resident", "private_mb": "MB of its own", "descriptors": "descriptors"}
    for axis, (column, title) in zip(axes, shown.items(), strict=False):
        for number, (name, columns) in enumerate(found["series"].items()):
            minutes = [second / 60 for second in columns["second"]]
            colour = OTHERS if name == "parent" else SHADES[number % len(SHADES)]
            label = "parent" if name == "parent" else f"worker {number}"
            axis.plot(minutes, columns[column], color=colour, linewidth=1, label=label)
        axis.set_ylabel(title, fontsize=8)
    axes[0].legend(fontsize=8, frameon=False)
    seconds, rates = [second for second, _ in found["rates"]], [rate for _, rate in found["rates"]]
    axes[3].plot([second / 60 for second in seconds], rates, color=OURS, linewidth=1)
    axes[3].set_ylabel("images a second", fontsize=8)
    axes[3].set_xlabel("minutes", fontsize=8)
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(found["benchmark"], fontsize=11)
    figure.savefig(drawn, metadata={"Date": None})


def _stages(found: dict[str, Any]) -> list[tuple[str, dict[str, list[float]]]]:
    return [("CPU µs, logarithmic", {name: [stage["cpu_us"]] for name, stage in found["stages"].items()})]


def _rounds(found: dict[str, Any]) -> list[tuple[str, dict[str, list[float]]]]:
    labels = [label for label, figures in found["medians"].items() if figures]
    panels = []
    for figure, title in found["charted"].items():
        values = {
            label: [seen[label][figure] for seen in found["rounds"] if figure in seen.get(label, {})]
            for label in labels
        }
        panels.append((title, {label: those for label, those in values.items() if those}))
    return panels


def _bars(axis: Axes, title: str, values: dict[str, list[float]]) -> None:
    labels = list(values)[::-1]
    middles = [median(values[label]) for label in labels]
    axis.barh(labels, middles, color=[OURS if label.startswith("our") else OTHERS for label in labels])
    for height, (label, middle) in enumerate(zip(labels, middles, strict=True)):
        beyond = max(*values[label], middle)  # the dots, of which the figure keeps clear
        axis.annotate(
            f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}",  # noqa: PLR2004  three digits
            (beyond, height),
            (6, 0),
            textcoords="offset points",
            fontsize=8,
            verticalalignment="center",
        )
        if len(values[label]) > 1:
            axis.plot(values[label], [height] * len(values[label]), ".", color=DOTS, markersize=3)
    if "logarithmic" in title:
        axis.set_xscale("log")
    axis.set_title(title.replace("…", "CPU ms/row"), fontsize=9)
    axis.tick_params(labelsize=8)
    axis.margins(x=0.18)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(*sys.argv[1:])

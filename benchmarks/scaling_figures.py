"""The figures of `scaling`, as PNG for a page: dark ink on white, readable in a dark page too."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.contest import relative
from benchmarks.exact_figures import STYLE
from benchmarks.scaling_model import step
from benchmarks.scaling_paper import MACHINES, WORKS
from benchmarks.scaling_runs import Place
from benchmarks.scaling_task import DEVICE, PART, SGD, WAYS, WHOLE, Measured, Task

COLOURS = {SGD: "#7d8792", WHOLE: "#2a62c9", DEVICE: "#e0632a", PART: "#2f9e6e"}
NETWORK_COLOURS = ("#2f9e6e", "#2a62c9", "#e0632a")
SIZE = 256
"""The devices of the second figure."""
NEAREST = 1, 512
"""The examples on a device between which it is drawn."""


def measured(found: Sequence[tuple[Place, list[Measured]]], task: Task) -> Figure:
    """What a step sends, and how long it takes, on each of the machines."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 5.0), layout="constrained")
        sending, timing = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.5))
        for i, way in enumerate(WAYS):
            shift = (i - (len(WAYS) - 1) / 2) * 0.17
            places = np.arange(len(found)) + shift
            ways = [next(m for m in ways if m.way == way) for _, ways in found]
            sent = [sum(m.sent) / (4 * task.parameters) for m in ways]
            sending.bar(places, sent, width=0.15, color=COLOURS[way], label=way)
            for place, m, height in zip(places, ways, sent, strict=True):
                sending.annotate(str(len(m.sent)), (place, height), ha="center", va="bottom", fontsize=8)
            ratios = [relative({x.way: x.seconds for x in all_ways}, way, SGD) for _, all_ways in found]
            middle = [r.median for r in ratios]
            reach = [[r.median - r.low for r in ratios], [r.high - r.median for r in ratios]]
            timing.errorbar(places, middle, reach, fmt="o", color=COLOURS[way], markersize=5, linewidth=1.6)
        sending.set(
            title="What a device sends in a step, in gradients; above it, in how many all-reduces", ylim=(0, 2.4)
        )
        timing.set(title="Time of a step, in units of SGD's on the same devices", ylim=(0, None))
        timing.set_xticks(range(len(found)), [_named(place) for place, _ in found])
        for axes in (sending, timing):
            axes.yaxis.grid(visible=True, color="#e3e5e8", linewidth=0.7)
            axes.set_axisbelow(True)
        figure.legend(*sending.get_legend_handles_labels(), loc="outside lower center", ncols=len(WAYS))
        return figure


def _named(place: Place) -> str:
    framework, _, kind = place.name.partition(", ")
    kind = kind.removesuffix("es" if kind == "processes" else "s") if place.devices == 1 else kind
    return f"{framework}\n{place.devices} {kind}".replace("simulated ", "simulated\n")


def on_paper() -> Figure:
    """What m = b saves of a step without an m, over the examples on a device: a panel for each model."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.9), layout="constrained")
        panels = figure.subplots(1, len(WORKS), sharey=True)
        examples = np.geomspace(*NEAREST, 200)
        for axes, work in zip(panels, WORKS, strict=True):
            for machine, colour in zip(MACHINES, NETWORK_COLOURS, strict=True):
                for overlapped, line in ((True, "-"), (False, "--")):
                    shares = []
                    for b in examples:
                        there = work._replace(examples=b)
                        whole = step(machine, SIZE, there, averages=2, overlapped=True)
                        shares.append(step(machine, SIZE, there, averages=1, overlapped=overlapped).saves(whole))
                    axes.plot(examples, shares, line, color=colour, label=machine.name if overlapped else None)
            _dressed(axes, f"{work.name}", f"b, {work.unit} on a device")
        panels[0].set_ylabel("share of the step saved by m = b")
        for line, label in (("-", "both overlap with backward passes"), ("--", "only no m does")):
            panels[-1].plot([], [], line, color="black", label=label)
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
        figure.suptitle(f"One all-reduce less, on {SIZE} devices", x=0.01, ha="left", fontsize=12)
        return figure


def _dressed(axes: Axes, title: str, below: str) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.grid(visible=True, color="#e3e5e8", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set(title=title, xlabel=below)
    axes.margins(x=0)

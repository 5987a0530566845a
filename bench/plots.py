"""Draws what bench.py and growth.py measured: python bench/plots.py results.json growth.json --into docs/images

From the JSON of bench.py come rates.png and costs.png, from that of growth.py growth.png. Needs matplotlib
(requirements-bench.txt).
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NoReturn

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import typer

from bench.report import GET, GET_TWO_DEAD, ONE_PHOTO, PROCESSES, PUT, TESSERA, Run, from_json, grouped, nanoseconds
from common.errors import UsageError
from common.process.program import application, run, warn

commands = application("Draw what was measured, as PNG.")
_OURS, _OTHERS = "#1f6fb2", "#9aa5b1"
_PROCESS_COLOURS = dict(zip(PROCESSES, ("#1f6fb2", "#e08a2e", "#5a9e6f")))
_RESOLUTION = 110  # points per inch

Row = Mapping[str, float]


@commands.command()
def plots(
    measured: list[Path] = typer.Argument(help="JSON of bench.py or growth.py.", exists=True, dir_okay=False),
    into: Path = typer.Option(Path("."), help="The folder for the pictures."),
) -> None:
    """Draw each file's pictures."""
    try:
        import matplotlib
    except ImportError as error:
        advice = "pip install -r requirements-bench.txt"
        raise UsageError("matplotlib is not installed", advice=advice) from error
    matplotlib.use("Agg")  # no screen is needed
    matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 8})
    into.mkdir(parents=True, exist_ok=True)
    for path in measured:
        found = json.loads(path.read_text())
        pictures = {"growth.png": _growth(found)} if "runs" not in found else _of_bench(found)
        for name, figure in pictures.items():
            figure.savefig(into / name, dpi=_RESOLUTION)
            warn(f"{into / name}")


def _of_bench(found: Mapping[str, Any]) -> dict[str, Any]:
    runs = from_json(found["runs"])
    scale = found.get("scale", 1)
    note = "" if scale == 1 else f" (workloads at {scale:g} of their size)"
    return {"rates.png": _rates(runs, note), "costs.png": _costs(runs, note)}


def _rates(runs: Sequence[Run], note: str) -> Any:
    """A panel for each workload and what was done: medians as bars, least to most as whiskers."""
    workloads = [name for name in dict.fromkeys(run.workload for run in runs) if name != ONE_PHOTO]
    panels: list[tuple[str, str, str, Callable[[Run], float]]] = []
    for what in (PUT, GET):
        panels += [(workload, what, "MB/s", _megabytes) for workload in workloads[:-1]]
        panels.append((workloads[-1], what, "files/s", _files))
    panels.append((workloads[0], GET_TWO_DEAD, "MB/s", _megabytes))
    panels += [(ONE_PHOTO, what, "ms, whole command (less is better)", _milliseconds) for what in (PUT, GET)]
    names = list(dict.fromkeys(run.contender for run in runs))
    figure, axes = _figure(3, 3, 1.2 + 0.2 * len(names), f"Medians, with least and most{note}")
    groups = grouped(runs)
    for axis, (workload, what, unit, value) in zip(axes, panels):
        axis.set_title(f"{workload}: {what}")
        axis.set_xlabel(unit)
        for place, name in enumerate(names):
            values = sorted(map(value, groups.get((workload, what, name), [])))
            if values:
                median = statistics.median(values)
                whisker = [[median - values[0]], [values[-1] - median]]
                colour = _OURS if name == TESSERA else _OTHERS
                axis.barh(place, median, color=colour, xerr=whisker, error_kw={"elinewidth": 0.8, "capsize": 2})
        _name_rows(axis, names)
    return figure


def _megabytes(run: Run) -> float:
    return run.rate


def _files(run: Run) -> float:
    return run.count / run.measured.command.wall


def _milliseconds(run: Run) -> float:
    return run.measured.command.wall * 1e3


def _costs(runs: Sequence[Run], note: str) -> Any:
    """Processor time for each byte, by process, of those that have several."""
    runs = [run for run in runs if run.measured.behind and run.workload != ONE_PHOTO]
    workloads = list(dict.fromkeys(run.workload for run in runs))
    names = list(dict.fromkeys(run.contender for run in runs))
    title = f"Processor nanoseconds for each byte stored or restored{note}"
    figure, axes = _figure(2, len(workloads), 1.3 + 0.2 * len(names), title)
    groups = grouped(runs)
    panels = [(workload, what) for what in (PUT, GET) for workload in workloads]
    for axis, (workload, what) in zip(axes, panels):
        axis.set_title(f"{workload}: {what}")
        axis.set_xlabel("ns/B")
        for place, name in enumerate(names):
            group, sum_before = groups.get((workload, what, name), []), 0.0
            for process in PROCESSES if group else ():
                cost = nanoseconds(group, process)
                axis.barh(place, cost, left=sum_before, color=_PROCESS_COLOURS[process])
                sum_before += cost
        _name_rows(axis, names)
    labels = ("client", "broker (a peer's gateway or mount)", "workers (a peer's storage servers)")
    patches = [axes[0].barh(0, 0, color=_PROCESS_COLOURS[process]) for process in PROCESSES]
    figure.legend(patches, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _name_rows(axis: Any, names: Sequence[str]) -> None:
    """The first contender on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)


def _growth(found: Mapping[str, Sequence[Row]]) -> Any:
    """For each series, time above memory, over what grows."""
    title = "How it grows: seconds above, both axes logarithmic; MiB below"
    figure, axes = _figure(2, len(found), 2.6, title, sharing=False)
    for column, (grown, rows) in enumerate(found.items()):
        for axis, unit in ((axes[column], " s"), (axes[len(found) + column], " MiB")):
            drawn = [name for name in rows[0] if name.endswith(unit) and name != grown] if rows else []
            for name in drawn:
                points = [row[grown] for row in rows], [row[name] for row in rows]
                axis.plot(*points, marker="o", markersize=3, linewidth=1.2, label=name[: -len(unit)])
            axis.set(xscale="log", xlabel=grown, ylabel=unit.strip())
            axis.set_xticks([row[grown] for row in rows], [f"{row[grown]:,}" for row in rows], minor=False)
            axis.set_xticks([], minor=True)
            axis.grid(which="major", linewidth=0.3)
            values = [row[name] for row in rows for name in drawn]
            if values and unit == " s":
                _decades(axis, values)
            elif values:
                axis.set_ylim(0, 1.2 * max(values))
            if drawn:
                axis.legend(loc="upper left" if unit == " s" else "lower right", frameon=False, fontsize=7)
    return figure


def _decades(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis from one power of ten to another, in plain numbers."""
    least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    axis.set(yscale="log", ylim=(10.0**least, 10.0**most))
    axis.yaxis.set_major_formatter("{x:g}")


def _figure(rows: int, columns: int, height: float, title: str, *, sharing: bool = True) -> tuple[Any, list[Any]]:
    """`height`: inches of one row of panels. `sharing`: the panels of a row have the same vertical axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * columns, height * rows + 0.6), layout="constrained")
    figure.suptitle(title, wrap=True)
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if sharing else False)
    return figure, list(axes.flat)


def main() -> NoReturn:
    run(commands, "plots")


if __name__ == "__main__":
    main()

"""Hold the exact inner maximum to sampling and ascent, and the first-order step to the exact maximum.

Three tables and two figures: random trust-region problems with the worst figure of each check; how the first-order
step's errors fall with the radius; and how much of the inner maximum it attains on a real network.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import exact_figures, inner_gaps, trust_regions
from benchmarks.arguments import BACKENDS, backends, folder, positive_integer
from benchmarks.inner_gaps import Measured
from benchmarks.pool import each, processes
from benchmarks.progress import Display
from samfamily.exact import maximize_linear, maximize_quadratic

BLOCK = 250
XS = tuple(float(x) for x in np.geomspace(1e-4, 0.4, 13))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `exact`."""
    parser.add_argument("--cases", type=positive_integer, default=10_000, help="random trust-region problems")
    parser.add_argument("--epochs", type=positive_integer, default=20, help="epochs of the trained networks")
    parser.add_argument("--backend", choices=(*BACKENDS, "both"), default="both", help="whose inner_gap is asked")
    parser.add_argument("--workers", type=positive_integer, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=folder, default=Path("report/exact"), metavar="DIR", help="where it is written")


def main(arguments: argparse.Namespace) -> int:
    """Check, measure, draw; fail if a check fails."""
    start, console = time.perf_counter(), Console()
    display = Display(console)
    with processes(arguments.workers) as executor, display.live():
        blocks = [range(i, min(i + BLOCK, arguments.cases)) for i in range(0, arguments.cases, BLOCK)]
        checking = each(executor, trust_regions.check_all, blocks)
        cases = [case for found in display.follow("trust regions", blocks, checking) for case in found]
        work = [
            (*stage, backend)
            for stage in inner_gaps.stages(arguments.epochs)
            for backend in backends(arguments.backend)
        ]
        measuring = each(executor, inner_gaps.measure, work)
        measured = [m for found in display.follow("inner gaps", work, measuring, name=_name) for m in found]
    orders = slopes()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([cases_table(cases), slopes_table(orders), gaps_table(measured)])
    (arguments.out / "exact.md").write_text(text + "\n", encoding="utf-8")
    exact_figures.orders(orders).savefig(arguments.out / "first-order-errors.png")
    exact_figures.attained(measured).savefig(arguments.out / "inner-gap.png")
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"\n{time.perf_counter() - start:.0f} s. Written to {arguments.out}", highlight=False)
    return int(any(value > tolerance for _, value, tolerance in trust_regions.worst(cases)))


def _name(work: tuple[str, Any, str]) -> str:
    return f"{work[0]}, {work[2]}"


def cases_table(cases: list[trust_regions.Checked]) -> str:
    """The worst of every check."""
    meanings = {
        "residual": "residual of (mu I - H) e = g, relative to norm(g) + norm(He)",
        "indefinite": "how far mu I - H is from positive semidefinite, relative to norm(H)",
        "outside": "how far outside of the ball",
        "duality": "value against the dual value, relative",
        "sampled": f"best of {trust_regions.SAMPLES:,} boundary points above the value, relative",
        "climbed": f"best of projected ascent from {trust_regions.STARTS} starts above the value, relative",
        "function": "value with H as a function against H as a matrix, relative",
    }
    lines = [f"| over {len(cases):,} random cases | worst | tolerance |", "|---|---|---|"]
    lines += [f"| {meanings[name]} | {value:.1e} | {t:.0e} |" for name, value, t in trust_regions.worst(cases)]
    return "\n".join(lines)


def slopes() -> dict[str, Any]:
    """How the direction's error and the gap fall with the radius on a random indefinite quadratic."""
    rng = np.random.default_rng(0)
    a, g = rng.normal(size=(8, 8)), rng.normal(size=8)
    H, norm = a + a.T, float(np.linalg.norm(g))
    beta, unit = float(np.linalg.norm(H, 2)), g / norm
    across = float(np.linalg.norm(H @ unit - (unit @ H @ unit) * unit))
    directions, gaps = [], []
    for x in XS:
        rho = x * norm / beta
        best, first = maximize_quadratic(g, H, rho).epsilon, maximize_linear(g, rho).epsilon
        directions.append(float(np.linalg.norm(best - first)) / rho)
        gaps.append(float((g + 0.5 * H @ (best + first)) @ (best - first)))
    radii = np.array(XS) * norm / beta
    small = radii < 1e-2 * norm / beta
    return {
        "beta": beta,
        "norm": norm,
        "radii": radii,
        "directions": np.array(directions),
        "gaps": np.array(gaps),
        "direction slope": float(np.polyfit(np.log(radii[small]), np.log(np.array(directions)[small]), 1)[0]),
        "gap slope": float(np.polyfit(np.log(radii[small]), np.log(np.array(gaps)[small]), 1)[0]),
        "direction constant": directions[0] / (across / norm * radii[0]),
        "gap constant": gaps[0] / (across**2 / (2 * norm) * radii[0] ** 3),
    }


def slopes_table(found: dict[str, Any]) -> str:
    """The measured orders and constants beside the theory's."""
    return "\n".join(
        [
            "| first-order step, p = 2 | theory | measured |",
            "|---|---|---|",
            f"| order of the direction's error in rho | 1 | {found['direction slope']:.4f} |",
            f"| order of the gap in rho | 3 | {found['gap slope']:.4f} |",
            f"| direction's error / (a rho / norm(g)) | 1 | {found['direction constant']:.6f} |",
            f"| gap / (a^2 rho^3 / 2 norm(g)) | 1 | {found['gap constant']:.6f} |",
        ]
    )


def gaps_table(measured: Sequence[Measured]) -> str:
    """The share of the inner maximum that the first-order step attains."""
    head = [(stage, backend) for stage in inner_gaps.STAGES for backend in dict.fromkeys(m.backend for m in measured)]
    lines = [
        "| rho | " + " | ".join(f"{stage}, {backend}" for stage, backend in head) + " |",
        "|---" * (len(head) + 1) + "|",
    ]
    for rho in inner_gaps.RADII:
        found = {(m.stage, m.backend): m.found for m in measured if m.found.rho == rho}
        lines.append(
            f"| {rho:.3g} | " + " | ".join(f"{found[key].ratio:.1%} (x = {found[key].x:.2g})" for key in head) + " |"
        )
    return "\n".join(lines)

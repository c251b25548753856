"""m-sharpness: the smaller m, the lower the error, and the better sharpness predicts the gap."""

from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.interval import Interval
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import compete, lines
from benchmarks.paper.intervals import Statement, less
from benchmarks.paper.lab import Asking, Lab, Results, measured, tuned_base
from benchmarks.paper.measure import Measurement, MSharpness
from benchmarks.paper.section import Figure, Section, Series, contest_table, figures_table
from benchmarks.paper.training import Training, row

SIZES = (1, 4, 16, 64, None)
NOISE = 0.4
RADII = (0.0125, 0.025, 0.05, 0.1, 0.2)
"""The smaller m, the farther a step goes against each example, and so the smaller the radius may have to be."""
RATES, BATCHES, DECAYS = (0.05, 0.2), (32, 128), (0.0, 2e-3)
ROWS = (None, row("SAM", rho=0.05), row("SAM", rho=0.2))
MEASURED = (1, 4, 16, 64, 256)


def grid(lab: Lab) -> list[Training]:
    """Models that generalise more and less well."""
    settings = product(lab.some(RATES), lab.some(BATCHES), lab.some(DECAYS), lab.some(ROWS))
    base = lab.base(epochs=max(1, lab.epochs // 2))
    return [base.but(learning_rate=r, batch_size=b, weight_decay=d, row=how) for r, b, d, how in settings]


def instrument(lab: Lab) -> MSharpness:
    """Sharpness at every m, on data that all m divide."""
    return MSharpness(tuple(m for m in MEASURED if m <= lab.examples // 4), 0.05, max(lab.examples // 4, 1))


def ask(lab: Lab) -> Asking[Any]:
    """Trainings at every m, each at its own best radius, and a grid of models."""
    base = yield from tuned_base(lab)
    noisy = base.but(noise=NOISE)
    entries = yield from compete(lab, [common.rho(lab, noisy, name(m), radii=RADII, m=m) for m in SIZES])
    models = [measured(lab.over_seeds(model), instrument(lab)) for model in grid(lab)]
    yield [measurement for over_seeds in models for measurement in over_seeds]
    return entries, models


def name(m: int | None) -> str:
    """An arm's name."""
    return "whole batch" if m is None else f"m = {m}"


def prediction(results: Results, models: list[Measurement], place: int) -> tuple[float, float]:
    """Kendall's tau and the mutual information, in nats, of sharpness at one m and the gap, over the grid of a seed."""
    from sklearn.feature_selection import mutual_info_regression

    rises, gaps = [], []
    for model in models:
        trained = results.load(model.training)
        rises.append(float(results.load(model)["rises"][place]))
        gaps.append(float(trained["evaluation"][0] - trained["train"][0]))
    correlation: Any = stats.kendalltau(rises, gaps)
    tau = float(np.nan_to_num(correlation.statistic))
    ranks = stats.rankdata(rises)[:, None], stats.rankdata(gaps)
    near = min(3, len(models) - 1)
    return tau, float(mutual_info_regression(*ranks, n_neighbors=near, random_state=0)[0])


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """Errors fall with m, and prediction improves."""
    entries, models = found
    here = lines(results, "", entries)
    sizes = instrument(lab).sizes
    by_seed = [list(of_one) for of_one in zip(*models, strict=True)]
    predicted = np.array([[prediction(results, one, place) for place in range(len(sizes))] for one in by_seed])
    taus, informations = predicted[:, :, 0], predicted[:, :, 1]
    statements = [less(f"{line.entry.name} below the whole batch, equal epochs", line.epochs, here[-1].epochs)
                  for line in here[:-1]]  # fmt: skip
    for what, values in (("Kendall's tau with the gap", taus), ("mutual information with the gap", informations)):
        change = Interval.of((values[:, 0] - values[:, -1]).tolist())
        statements.append(Statement(f"{what}: m = 1 above m = {sizes[-1]}", change, above=0.0))
    columns = ["Kendall's tau", "mutual information (nats)"]
    rows = [(f"m = {m}", [Interval.of(values[:, place].tolist()) for values in (taus, informations)])
            for place, m in enumerate(sizes)]  # fmt: skip
    batch = entries[0].equal_epochs[0].recipe.batch_size
    ms = [m or batch for m in SIZES]
    errors = Series("test error", ms, [line.at_epochs for line in here])
    prediction_series = [Series(c, sizes, [row[1][i] for row in rows]) for i, c in enumerate(columns)]
    return Section(
        statements,
        "; ".join(f"{line.entry.name} {line.at_epochs.percent()} %" for line in here)
        + f"; tau {rows[0][1][0].number()} at m = 1 and {rows[-1][1][0].number()} at m = {sizes[-1]}",
        [
            contest_table("error", f"Test error by m, batches of {batch}, {NOISE:.0%} of labels replaced", here),
            figures_table("prediction", "m-sharpness and the gap between test and training loss", columns, rows),
        ],
        [
            Figure("error", "Test error by m", "m", "test error", [errors], logx=True),
            Figure("prediction", "How well m-sharpness predicts the gap", "m", "", prediction_series, logx=True),
        ],
        [NOTE.format(models=len(models))],
    )


NOTE = (
    "The gap is that between test and training loss, over {models} models for each seed: learning rate, batch size, "
    "weight decay and rho of SAM differ. Mutual information is estimated from nearest neighbours of ranks."
)

CLAIM = Claim(
    "d",
    "The smaller m, the lower the error and the better m-sharpness predicts the gap",
    "Figure 3, middle and right, figures only: on CIFAR-10 the error falls as m falls, and the mutual information of "
    "m-sharpness with the generalisation gap rises",
    ask,
    judge,
)

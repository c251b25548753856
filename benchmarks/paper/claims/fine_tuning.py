"""Fine-tuning with SAM."""

from typing import Any

from benchmarks.data import CLASSES
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.contest import compete, lines, named
from benchmarks.paper.lab import Asking, Lab, Results, best, together, tuned_base
from benchmarks.paper.section import Section, contest_table
from benchmarks.paper.training import Training

HALF = CLASSES // 2
RATES = (0.01, 0.03, 0.1)
NETWORKS = ("cnn", "mlp")


def tuned(lab: Lab, base: Training) -> Training:
    """A short training on one half of the classes, from weights that were trained on the other."""
    before = base.but(classes=(0, HALF))
    return base.but(classes=(HALF, CLASSES), weights_from=before, epochs=max(1, lab.epochs // 5))


def one(lab: Lab, network: str) -> Asking[Any]:
    """The contest with one network; the rate is the best for SGD."""
    base = yield from tuned_base(lab, network)
    start = tuned(lab, base)
    plain = yield from best(lab, [start.but(learning_rate=rate) for rate in lab.some(RATES)])
    small = Lab(lab.backend, lab.seeds, lab.tuning_seeds, plain.recipe.epochs, lab.points, lab.examples)
    return (yield from compete(small, [common.sgd(plain), common.rho(lab, plain, "SAM")]))


def ask(lab: Lab) -> Asking[Any]:
    """The contest with both networks."""
    return (yield from together([one(lab, network) for network in NETWORKS]))


def judge(lab: Lab, found: Any, results: Results) -> Section:
    """SAM below SGD."""
    groups = [lines(results, network, entries) for network, entries in zip(NETWORKS, found, strict=True)]
    statements = [s for here in groups for s in common.lower(named(here, "SAM"), named(here, "SGD"))]
    table = contest_table("fine-tuning", "Test error after fine-tuning", [line for here in groups for line in here])
    ours = common.AT_BUDGET + "; ".join(f"{here[0].group}: {common.told(here)}" for here in groups)
    note = (
        f"SGD trains on the classes 0 to {HALF - 1}; from there, with a new last layer, SGD and SAM train on the "
        "others, for a fifth of the epochs. The first training is the same for both and counts for neither."
    )
    return Section(statements, ours, [table], (), [note])


CLAIM = Claim(
    "k",
    "SAM helps in fine-tuning",
    "Table 3, EfficientNet-b7, fine-tuned with SAM and without: CIFAR-10 0.88 against 0.95 %, CIFAR-100 7.44 against "
    "7.68 %, ImageNet 15.14 against 15.3 %",
    ask,
    judge,
)

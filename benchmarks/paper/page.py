"""The pages of the claims: one for each, with the files beside it, and the page of all verdicts.

A claim's page begins with what the page of verdicts says of it, so that a run of one claim leaves the others as they
were found.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import provenance
from benchmarks.paper.claim import Claim
from benchmarks.paper.claims import common
from benchmarks.paper.drawing import draw
from benchmarks.paper.intervals import RULE, Statement, tally, verdict
from benchmarks.paper.lab import RATES, Lab
from benchmarks.paper.section import Section, Table

PAGE, FOLDER = "claims.md", "claims"
FENCE = "---"
ROUNDING = 1e-12
"""Below which a difference of shares is rounding."""
INTRODUCTION = (
    "What Foret, Kleiner, Mobahi and Neyshabur (Sharpness-Aware Minimization for Efficiently Improving Generalization, "
    "[arXiv 2010.01412](https://arxiv.org/abs/2010.01412)) report of networks on large image data, looked for on a "
    "laptop: MNIST-1D and 8x8 digits, with small networks. It is the kind of effect that can be found again here, not "
    "its size."
)


def listed(grid: Sequence[float]) -> str:
    """A grid in words."""
    return ", ".join(f"{value:g}" for value in grid)


METHOD = (
    "SGD has momentum, weight decay and a learning rate that falls to zero along a cosine. The learning rate is "
    f"everyone's: the one of {listed(RATES)} that is best for SGD on clean labels (but in l, where SGD's is chosen "
    "anew on noisy ones, and in m). Radii are chosen among "
    f"{listed(common.RADII)}, of ASAM among {listed(common.ADAPTIVE_RADII)}, of MSAM among "
    f"{listed(common.MOMENTUM_RADII)}, all doubled for the MLP, but where a page says "
    "otherwise; an asterisk marks a setting at an end of its grid. Every setting in the "
    "column of that name is chosen by the error on the last fifth of the training data, which is held out for that and "
    "whose labels "
    "carry the same noise; the chosen setting is then trained on all training data, and the test data are looked at "
    "once. An interval much wider than the others tells of a seed that did not train; the files of numbers have the "
    "errors by seed. A seed stands for weights, label noise, order of examples and noise of a treatment, the same for "
    "all that is compared. Errors are those after the last epoch, ± half the width of the 95 % interval. Equal "
    "gradient evaluations are those of SAM at equal epochs, two a step: SGD then has twice the epochs. A "
    "Hessian-vector product counts as two gradients, a forward pass as a third of one, and labels that another "
    "training makes cost that training."
)


def write(out: Path, claims: Sequence[Claim], sections: Sequence[Section], facts: Mapping[str, str]) -> Path:
    """Write a page for each claim with its numbers and pictures, and the page of all verdicts; return its path."""
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    for claim, section in zip(claims, sections, strict=True):
        text = [header(claim, section, facts), *chapter(out / FOLDER, claim, section)]
        text += ["## What was run", "\n".join(f"- **{name}**: {fact}" for name, fact in facts.items())]
        put(out / FOLDER / f"{claim.letter}.md", text)
    return summary(out)


def put(path: Path, paragraphs: Sequence[str]) -> None:
    """Write a page."""
    path.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


def header(claim: Claim, section: Section, facts: Mapping[str, str]) -> str:
    """What the page of verdicts says of this claim, at the head of its own page."""
    told = {
        "title": f"{claim.letter}. {claim.title}",
        "claim": claim.title,
        "paper": claim.paper,
        "here": section.ours,
        "verdict": verdict(section.statements),
        "tally": tally(section.statements),
        "command": facts["Command"],
    }
    return "\n".join(
        [FENCE, *(f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in told.items()), FENCE]
    )


def read_header(page: Path) -> dict[str, str]:
    """What the head of a claim's page says."""
    head = page.read_text(encoding="utf-8").split(f"{FENCE}\n")[1]
    pairs = (line.split(": ", 1) for line in head.splitlines())
    return {name: json.loads(text) for name, text in pairs}


def summary(out: Path) -> Path:
    """Write the page of verdicts on all claims that have a page; return its path."""
    pages = {page.stem: read_header(page) for page in sorted((out / FOLDER).glob("?.md"))}
    rows = [
        [
            f"[{letter}]({FOLDER}/{letter}.md)",
            *(told[name] for name in ("claim", "paper", "here")),
            f"**{told['verdict']}**, {told['tally']}",
        ]
        for letter, told in pages.items()
    ]
    commands: dict[str, list[str]] = {}
    for letter, told in pages.items():
        commands.setdefault(told["command"], []).append(letter)
    text = [
        "# The paper's claims, on a laptop",
        INTRODUCTION,
        markdown(["", "claim", "the paper", "here", "verdict"], rows),
        "## The rule",
        RULE,
        "## The method",
        METHOD,
        "## What was run",
        "\n".join(f"- {', '.join(letters)}: {command}" for command, letters in commands.items()),
        "Versions, machine and day are at the end of each claim's page.",
    ]
    put(out / PAGE, text)
    return out / PAGE


def chapter(out: Path, claim: Claim, section: Section) -> list[str]:
    """What stands on a claim's page."""
    text = [f"# {claim.letter}. {claim.title}"]
    text += [f"The paper: {claim.paper}", f"Here: {section.ours}"]
    text.append(
        f"Verdict, by [the rule](../{PAGE}#the-rule): **{verdict(section.statements)}**, {tally(section.statements)}."
    )
    text.append(markdown(["statement", "found", "stated", "verdict"], [statement_row(s) for s in section.statements]))
    text += section.notes
    for figure in section.figures:
        file = out / f"{claim.letter}-{figure.name}.svg"
        draw(figure, file)
        text.append(f"![{figure.title}]({file.name})")
    for table in section.tables:
        file = out / f"{claim.letter}-{table.name}.csv"
        write_numbers(file, table)
        text += [f"{table.title} ([numbers]({file.name}))", markdown(table.headings, table.rows)]
    return text


def statement_row(statement: Statement) -> list[str]:
    """A statement with its interval."""
    found, unit = statement.found, statement.unit
    goal = (
        f"below {unit * statement.below:g}"
        if statement.below is not None
        else f"above {unit * (statement.above or 0):g}"
    )
    mean, low, high = (0.0 if abs(x) < ROUNDING else unit * x for x in (found.mean, found.low, found.high))
    told = f"{mean:.3g} ({low:.3g} to {high:.3g})"
    return [statement.text, told, goal, statement.verdict]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def write_numbers(path: Path, table: Table) -> None:
    """Write a table's numbers."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table.numbers[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.numbers)


def what_was_run(lab: Lab, command: str) -> dict[str, str]:
    """What a page says of the run itself."""
    return {
        "Command": f"`{command}`",
        "Backend": lab.backend,
        "Seeds": f"{lab.seeds} for what is shown, {lab.tuning_seeds or 'none'} for what is chosen by",
        "Versions": provenance.versions(),
        "Machine": provenance.machine(),
        "Date": provenance.today(),
    }

"""The claims of `python -m benchmarks paper`: verdicts, pages and letters."""

import argparse
import csv
import dataclasses
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.interval import Interval
from benchmarks.paper import command, training
from benchmarks.paper.claims import CLAIMS, frontier, label_noise, transfer
from benchmarks.paper.command import chosen
from benchmarks.paper.contest import arm
from benchmarks.paper.execution import everything
from benchmarks.paper.intervals import NOT_REPRODUCED, REPRODUCED, UNDECIDED, Statement, less, verdict
from benchmarks.paper.keys import key
from benchmarks.paper.lab import Lab
from benchmarks.paper.page import write
from benchmarks.paper.section import Section, Series
from benchmarks.paper.store import Found
from benchmarks.paper.training import row
from tests.benchmarks.tiny_paper import LAB, TINY

# --------------------------------------------------------------------------------------------------------- verdicts


def test_the_interval_is_students() -> None:
    found = Interval.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.high - 3 == pytest.approx(2.776445 * (2.5 / 5) ** 0.5, rel=1e-5)
    assert Interval.of([1.0]) == Interval(1.0, -inf, inf)
    assert Interval(0, -1, 1).overlaps(Interval(2, 1, 3))
    assert not Interval(0, -1, 1).overlaps(Interval(2.5, 2, 3))


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((-3, -1), REPRODUCED), ((1, 3), NOT_REPRODUCED), ((-1, 1), UNDECIDED), ((-inf, inf), UNDECIDED)],
)
def test_the_rule_has_three_outcomes(interval: tuple[float, float], expected: str) -> None:
    low, high = interval
    assert Statement("", Interval(0, low, high), below=0.0).verdict == expected
    assert Statement("", Interval(0, -high, -low), above=0.0).verdict == expected
    assert Statement("", Interval(0, low - 5, high - 5), above=-7.0).verdict == UNDECIDED or low != -inf


def test_a_claim_holds_where_all_of_it_does_and_fails_where_any_fails() -> None:
    yes, no, maybe = (Statement("", Interval(0, *ends), below=0.0) for ends in ((-2, -1), (1, 2), (-1, 1)))
    assert verdict([yes, yes]) == REPRODUCED
    assert verdict([yes, maybe]) == UNDECIDED
    assert verdict([yes, maybe, no]) == NOT_REPRODUCED
    assert verdict([]) == UNDECIDED


def test_differences_are_paired_by_seed() -> None:
    ours, theirs = [0.10, 0.20, 0.30], [0.11, 0.21, 0.31]
    assert less("", ours, theirs).verdict == REPRODUCED
    assert less("", theirs, ours).verdict == NOT_REPRODUCED


# ---------------------------------------------------------------------------------------------- claims and the page


FACTS = {"Command": "`none`"}


class Drawn:
    """Results that are drawn by the key of the work."""

    def load(self, work: Any) -> Found:
        draw = np.random.default_rng(int(key(work)[:8], 16))
        single = ("rise", "cosine", "value", "worst", "complexity", "margin")
        return {
            "seconds": draw.uniform(0, 1, 3),
            "train": draw.uniform(0, 1, 2),
            "evaluation": draw.uniform(0, 1, 2),
            "values": np.sort(draw.uniform(1, 9, 5))[::-1],
            "rises": draw.uniform(0, 1, 5),
            **{name: np.array(draw.uniform()) for name in single},
        }


@pytest.fixture(scope="module")
def drawn_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Section]]:
    """All claims on drawn results."""
    lab, claims, out = Lab(seeds=3, tuning_seeds=1, points=2), list(CLAIMS.values()), tmp_path_factory.mktemp("out")

    def nothing(_: Sequence[Any]) -> None:
        pass

    found = everything(claims, lab, nothing, Drawn())
    sections = [claim.judge(lab, known, Drawn()) for claim, known in zip(claims, found, strict=True)]
    return write(out, claims, sections, FACTS), sections


def test_every_claim_has_statements_a_verdict_and_files_that_are_there(
    drawn_page: tuple[Path, list[Section]],
) -> None:
    path, sections = drawn_page
    verdicts, folder = path.read_text(encoding="utf-8"), path.parent / "claims"
    assert list(CLAIMS) == list("abcdefghijklm")
    for claim, section in zip(CLAIMS.values(), sections, strict=True):
        text = (folder / f"{claim.letter}.md").read_text(encoding="utf-8")
        assert section.statements
        assert f"\n# {claim.letter}. {claim.title}\n" in text
        assert f"| [{claim.letter}](claims/{claim.letter}.md) | {claim.title} |" in verdicts
        files = [f"{claim.letter}-{t.name}.csv" for t in section.tables]
        files += [f"{claim.letter}-{f.name}.svg" for f in section.figures]
        for file in files:
            assert f"({file})" in text
            assert (folder / file).stat().st_size > 100
    assert "nan" not in (folder / "c-noise.csv").read_text(encoding="utf-8")


def test_those_that_are_close_have_seeds_that_had_not_been_seen(drawn_page: tuple[Path, list[Section]]) -> None:
    with (drawn_page[0].parent / "claims" / "c-noise.csv").open(encoding="utf-8") as file:
        seeds = {(row["group"], row["name"]): tuple(map(int, row["seeds"].split())) for row in csv.DictReader(file)}
    for (group, name), found in seeds.items():
        close = name in label_noise.CLOSE and group.endswith("40%")
        assert found == (tuple(range(6, 18)) if close else (0, 1, 2))
    assert {name for _, name in seeds} > label_noise.CLOSE == {"SGD", "Mixup", "SAM", "SAM, m = 4"}


def test_a_run_of_one_claim_leaves_the_others_as_they_were(drawn_page: tuple[Path, list[Section]]) -> None:
    path, sections = drawn_page
    before = {page.name: page.read_text(encoding="utf-8") for page in (path.parent / "claims").glob("*.md")}
    told = 'A "quoted" word: with | a bar, a colon: and ± signs'
    again = dataclasses.replace(sections[1], ours=told)
    write(path.parent, [CLAIMS["b"]], [again], {"Command": "`another`"})
    try:
        after = {page.name: page.read_text(encoding="utf-8") for page in (path.parent / "claims").glob("*.md")}
        assert [name for name in sorted(after) if after[name] != before.get(name)] == ["b.md"]
        verdicts = path.read_text(encoding="utf-8")
        assert verdicts.count("| [") == len(CLAIMS)
        assert told.replace("|", "/") in verdicts
        assert "- b: `another`" in verdicts
        assert "- a, c, d, e, f, g, h, i, j, k, l, m: `none`" in verdicts
    finally:
        write(path.parent, [CLAIMS["b"]], [sections[1]], FACTS)


def test_the_frontier_names_what_nothing_beats_in_cost_and_error() -> None:
    def series(name: str, *points: tuple[float, float]) -> Series:
        return Series(name, [x for x, _ in points], [Interval(y, y - 0.1, y + 0.1) for _, y in points])

    all_of_them = [
        series("SGD", (10, 0.5)), series("SAM", (20, 0.9)), series("cheap and good", (10, 0.4), (20, 0.8)),
        series("dear and best", (20, 0.3)), series("dear and no better", (20, 0.4)), series("as dear", (20.3, 0.31)),
        series("hardly cheaper", (19.8, 0.305)), series("a twin of the best", (20, 0.3)),
    ]  # fmt: skip
    quiet = {one.name for one in frontier.outlined(all_of_them) if one.quiet}
    assert quiet == {"dear and no better", "as dear", "hardly cheaper"}
    assert frontier.ceiling(all_of_them, "SGD") == pytest.approx(0.75)


def test_a_radius_is_carried_over_in_the_units_of_its_row() -> None:
    base = LAB.base()
    dimension = sum(weight.size for weight in training.initial_weights(base, 40))
    expected = {"p = inf": 0.1 / dimension**0.5, "ASAM": 1.0}
    for name, way in transfer.WAYS.items():
        found = way.at(base.but(**way.changes), 0.1)
        assert found.row is not None
        assert found.row.variant().radius.rho == pytest.approx(expected.get(name, 0.1))
        assert way.at(base, 0.0).row is None
    names = {name for name, way in transfer.WAYS.items() if way.options or way.changes or way.row_name != "SAM"}
    assert names == transfer.WAYS.keys() - {transfer.REFERENCE}


def test_a_setting_at_an_end_of_its_grid_is_marked() -> None:
    one = arm("SAM", [0.1, 0.2, 0.4], lambda rho: TINY.but(row=row("SAM", rho=rho)))
    assert [one.setting(candidate) for candidate in one.candidates] == ["0.1*", "0.2", "0.4*"]


def test_a_quick_look_does_not_write_over_results() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    written = [
        str(command.destination(parser.parse_args(options))) for options in ([], ["--quick"], ["--quick", "--out", "x"])
    ]
    assert written == ["docs/results", "paper/quick", "x"]


def test_every_comparison_is_at_equal_epochs_and_at_equal_gradient_evaluations(
    drawn_page: tuple[Path, list[Section]],
) -> None:
    for claim, section in zip(CLAIMS.values(), drawn_page[1], strict=True):
        headings = " ".join(h for table in section.tables for h in table.headings)
        assert "equal epochs" in headings, claim.letter
        assert "equal gradient evaluations" in headings, claim.letter


def test_letters_choose_claims() -> None:
    assert chosen([]) == list("abcdefghijk")
    assert chosen(["all"]) == list("abcdefghijklm")
    assert chosen(["l", "a"]) == ["a", "l"]
    with pytest.raises(SystemExit, match=r"no claim 'q'; choose letters out of a, b"):
        chosen(["q"])

"""Robustness tables made by hand, with names that every format must escape, and runs folders of attacked networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.architecture.catalogue import find_genotype
from engine.attack.badge import Badge
from engine.attack.protocol import Protocol
from engine.attack.statistics import by_accuracy, letters, tell_apart, wilson
from engine.configuring import build
from engine.report.robustness import Distinctions, Measurement, NetworkRow, ResultColumn, RobustnessTable, SeedGroup
from tests import sample_runs

SPECIAL = "\\ { } $ & # % _ ^ ~ < > | \" ' ` [x] * --- \u00e9 \u221e \u4e2d"
NASTY = (SPECIAL, "=1+1", "+A1", "-A1", "@cmd", "'quoted", "two\nlines", "a|b", "<script>alert(1)</script>", "[link](x)", "\\\\")
IMAGES = 100
COLUMNS = ("natural", "pgd-20", "worst-case")


def measured(correct: int, images: int = IMAGES) -> Measurement:
    """Return a measurement with its interval."""
    return Measurement(correct / images, *wilson(correct, images), correct, images)


def row(title: str, number: int, counts: Sequence[int], *, label: str = "", badge: Badge | None = None) -> NetworkRow:
    """Return a row; counts: correct images of the leading columns."""
    results = {name: measured(count) for name, count in zip(COLUMNS, counts)}
    return NetworkRow(f"20261118-0906-attack-digits-{number:04x}", title, label or title, f"{number:012x}", "paper", "", number,
                      None, 1_234_567 + number, None, find_genotype("ARNAS") if number % 2 else None, "", results,
                      badge or Badge("green", ()), len(counts) == len(COLUMNS), 0, 1.5 + number)


def made_table(titles: Sequence[str] = NASTY) -> RobustnessTable:
    """Return a table of single networks with these titles, one after another, and a seed group of three networks at its end."""
    badges = (Badge("green", ()), Badge("amber", (f"Reason {SPECIAL}",)), Badge("red", ("Bad.", "Worse.")))
    groups = [single(row(title, number, (95, 90 - number, 80 - 2 * number), badge=badges[number % 3]))
              for number, title in enumerate(titles)]
    seeds = [row("Seeds", 200 + seed, (90 + seed, 60, 50 + seed), label=f"Seeds, seed {seed}") for seed in range(3)]
    groups.append(SeedGroup("Seeds", tuple(seeds), 3, {"natural": 0.91, "pgd-20": 0.6, "worst-case": 0.51},
                            {"natural": 0.01, "pgd-20": 0.0, "worst-case": 0.01}))
    columns = [ResultColumn(name, title, "About.", IMAGES) for name, title in
               (("natural", "Natural"), ("pgd-20", SPECIAL), ("worst-case", "Worst case"))]
    config = build("attack", None, "digits", "quick")
    fields = Protocol.of(config, classes=10, images=range(IMAGES), subset=range(IMAGES)).fields()
    return RobustnessTable("0a280fcfcb3c", f"A title {SPECIAL}", "digits", fields, tuple(columns), tuple(groups))


def single(one: NetworkRow) -> SeedGroup:
    """Return the group of one network."""
    return SeedGroup(one.title, (one,), int(one.complete), {name: result.accuracy for name, result in one.results.items()}, {})


def distinguished(table: RobustnessTable, column: str = "worst-case", *,
                  correct: Mapping[str, Iterable[int]] | None = None) -> Distinctions:
    """Compare the rows of a table.

    Args:
        table: the table.
        column: column whose numbers of correct images the outcomes have.
        correct: the correctly classified images by label; None for the first ones, so that p-values are smallest.
    """
    images = correct or {one.label: range(one.results[column].correct) for one in table.rows if column in one.results}
    outcomes = {label: [image in set(right) for image in range(IMAGES)] for label, right in images.items()}
    pairs = tell_apart(outcomes)
    by_label = letters(by_accuracy(outcomes), [(one.first, one.second) for one in pairs if one.distinct()])
    shown = {one.run: by_label[one.label] for one in table.rows if one.label in by_label}
    return Distinctions(column, IMAGES, tuple(pairs), shown)


def attacked_runs(root: Path) -> dict[str, str]:
    """Write runs with three attacked networks under one protocol, checks, and images; return their ids by role."""
    ids = sample_runs.write_sample_runs(root)
    _, ids["resnet"] = sample_runs.write_hand_made(root)
    ids["weak"] = sample_runs.write_finished_attack(root, "20261118-0921-attack-digits-7f42", parent=ids["resumed"], autoattack=9)
    ids["other"] = sample_runs.write_finished_attack(root, "20261118-0922-attack-digits-7f43", parent=ids["resumed"], epsilon=0.1)
    events = sample_runs.EventsFile(root / ids["attack"])
    events.step = 99
    events.write("check", check_name="steps", title="More <steps>", finding="warning", measured="PGD-40 broke 3 images more.",
                 advice="Use more steps.")
    write_samples(root / ids["attack"])
    return ids


def write_samples(folder: Path, images: int = 12, side: int = 8) -> None:
    """Write results/samples.parquet of an attack run: natural images, and FGSM's of all but the first, which it left alone."""
    generator = np.random.default_rng(1)
    natural = generator.random((images, 1, side, side), np.float32)
    moved = np.clip(natural + 0.15 * np.sign(generator.normal(size=natural.shape)).astype(np.float32), 0, 1)
    moved[0] = natural[0]
    rows = [(number, name, pixels.tobytes()) for name, stack in (("natural", natural), ("fgsm", moved))
            for number, pixels in enumerate(stack)]
    table = pa.table({"image": [number for number, _, _ in rows], "label": [number % 10 for number, _, _ in rows],
                      "attack": [name for _, name, _ in rows], "pixels": [pixels for _, _, pixels in rows]})
    pq.write_table(table.replace_schema_metadata({"shape": f"1,{side},{side}"}), folder / "results" / "samples.parquet")

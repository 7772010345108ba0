"""Sections of a network's report on the limits of its robustness: sweep, certified lower bound and early verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from engine.attack.protocol import NORM_TITLES, ball_text
from engine.attack.statistics import accuracy_words
from engine.attack.verdict import in_words
from engine.config import pixels_text
from engine.log.runlog import RunLog
from engine.report.page import details, paragraph, section, table
from engine.report.robustness import NetworkRow
from engine.report.sweep_chart import radius_chart
from engine.report.sweeps import Curve, curves
from engine.report.words import WHY_LITTLE_IS_CERTIFIED, measured_text, plural_text


def sweep_section(log: RunLog, attack: Mapping[str, Any]) -> str:
    """Return the section on accuracy against the radius and the number of steps, as HTML.

    The section shows the sweep of the attack run itself. If this run made no sweep, it shows the newest sweep that another attack
    run made on the same checkpoint in the same norm. If there is none, the section says how to make a sweep.

    Args:
        log: the run log.
        attack: row of the attack run, from `RunLog.run`.
    """
    run = _swept(log, attack)
    if run is None:
        return section("Sweep", paragraph("No sweep of this network has been measured; make one by "
                                          f"`rampart sweep {attack['id']}`, and write this report again."))
    measured = curves(log.sweeps([run]), {run: str(attack["title"])})
    of_radius = sorted((curve for curve in measured if curve.sweep == "epsilon"), key=lambda curve: not curve.whole)
    tables = [_points(curve) for curve in (*of_radius, *(curve for curve in measured if curve.sweep != "epsilon"))]
    source = f"Measured by run {run}. " if run != attack["id"] else ""
    note = (f"{source}One search for the nearest adversarial image of each image gives the whole curve. A mark below the curve "
            "means that this search missed nearer images; believe the mark.")
    return section("Sweep", radius_chart(of_radius, _radius(log.run(run)["config"])), *_medians(log.critical_epsilons(run)),
                   paragraph(note, "soft"), details("Every point", f'<div class="side">{"".join(tables)}</div>'))


def certified_section(log: RunLog, run: str, row: NetworkRow | None) -> str:
    """Return the section on the certified lower bound of the robust accuracy, as HTML, or "" if the run has none.

    Args:
        log, run: the run log, and the id of the attack run.
        row: row of the network in its robustness table; None if it is in no table.
    """
    found = log.certified(run)
    if found.empty:
        return ""
    bound = found.iloc[-1]
    upper = row.results.get("worst-case") if row else None
    proved = accuracy_words(int(bound["correct"]), int(bound["images"]))
    words = (f"Lower bound: {proved}. These images are proved to be classified correctly under every possible attack in "
             f"{ball_text(bound['norm'], bound['epsilon'])}, by {bound['method']}.")
    above = f" Upper bound: {measured_text(upper)}, the worst case over the attacks." if upper else ""
    return section("Certified accuracy", paragraph(words + above), paragraph(WHY_LITTLE_IS_CERTIFIED, "soft"))


def verdict_section(log: RunLog, attack: Mapping[str, Any]) -> str:
    """Return the section on the early verdicts about a network, as HTML, or "" if there are none.

    A verdict says which of the networks of two attack runs is more robust. The section shows a verdict if `attack` or another
    attack run on the same checkpoint takes part in it.
    """
    same = {attack["id"], *_attacks_of(log, attack)}
    found = log.verdicts()
    found = found[found["run"].isin(same) | found["against"].isin(same)]
    words = [paragraph(f"{_verdict(row)}.") for row in found.to_dict("records")]
    note = "A verdict orders two networks on these test images and stops as soon as the order is certain. It claims no accuracy."
    return section("Early verdict", *words, paragraph(note, "soft")) if words else ""


def _verdict(row: Mapping[str, Any]) -> str:
    sentence = in_words(row, f"{row['title']} ({row['run']})", f"{row['against_title']} ({row['against']})")
    counts = (f"both withstand on {row['both_correct']:,}, only the first on {row['first_only']:,}, only the second on "
              f"{row['second_only']:,}, neither on {row['neither']:,} of {plural_text(int(row['images']), 'image')}")
    return f"{sentence[:1].upper()}{sentence[1:]}; {counts}"


def _attacks_of(log: RunLog, attack: Mapping[str, Any]) -> list[str]:
    """Return the ids of all attack runs on the same checkpoint as the attack run `attack`, newest first."""
    runs = log.runs()
    siblings = runs[(runs["kind"] == "attack") & (runs["parent"] == attack["parent"]) & (runs["parent"] != "")]["id"]
    checkpoint = attack["config"].get("checkpoint")
    return [run for run in siblings if log.run(run)["config"].get("checkpoint") == checkpoint]


def _swept(log: RunLog, attack: Mapping[str, Any]) -> str | None:
    """Return the id of the attack run whose sweep `sweep_section` shows, or None if no sweep was measured."""
    with_sweep = set(log.sweeps()["run"])
    norm = attack["config"].get("norm")
    others = [run for run in _attacks_of(log, attack) if run in with_sweep and log.run(run)["config"].get("norm") == norm]
    return attack["id"] if attack["id"] in with_sweep else next(iter(others), None)


def _radius(config: Mapping[str, Any]) -> float:
    return float(config["epsilon_l2"] if config.get("norm") == "L2" else config["epsilon"])


def _medians(found: pd.DataFrame) -> list[str]:
    """Return one paragraph per row of `RunLog.critical_epsilons`, with the median critical epsilon.

    The critical epsilon of an image is the distance of its nearest adversarial image.
    """
    parts = []
    for row in found.to_dict("records"):
        images = plural_text(int(row["images"]), "image")
        if pd.isna(row["median"]):
            parts.append(paragraph(f"The median critical epsilon is unknown: at least half of the {images} withstand "
                                   f"{row['title']} at every radius."))
            continue
        low, high = (f"{row[end]:.4g}" if pd.notna(row[end]) else "unknown" for end in ("low", "high"))
        norm = NORM_TITLES.get(row["norm"], row["norm"])
        parts.append(paragraph(
            f"Median critical epsilon {row['median']:.4g} (95 % interval {low} to {high}) in {norm}: the radius at which half of "
            f"the {images} have fallen to {row['title']}. It is an upper bound, like accuracy under attack."))
    return parts


def _points(curve: Curve) -> str:
    """Return the points of a curve as an HTML table."""
    first = "Radius" if curve.sweep == "epsilon" else "Steps"
    rows = [(pixels_text(x) if curve.sweep == "epsilon" else f"{x:g}", measured_text(one)) for x, one in curve.points]
    return f"<div><h3>{escape(_title(curve))}</h3>{table((first, 'Accuracy'), rows, label=_title(curve))}</div>"


def _title(curve: Curve) -> str:
    """Return the heading of a curve, for example "FMN-40 against radius"."""
    return f"{curve.title} against {'radius' if curve.sweep == 'epsilon' else 'steps'}"

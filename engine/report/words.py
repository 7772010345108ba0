"""Functions that write numbers and protocols as text for pages, tables and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.attack.badge import Badge
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.attack.protocol import ball_text
from engine.attack.statistics import accuracy_words
from engine.config import pixels_text
from engine.data.catalogue import DATASETS
from engine.report.robustness import Measurement, NetworkRow, RobustnessTable

# Entries of an attack's part of a protocol that its words mention in their own way, or that are the same for all attacks.
SHORTEST_S = 30.0  # shorter expectations are "under 1 min"
DAYS_OF_MONTH = 365.25 / 12
_SPOKEN = {"attack", "library", "version", "norm", "epsilon", "step_size", "seed", "steps", "restarts", "random_start", "targets",
           "images", "images_hash", "block_images", "parts"}


WHY_LITTLE_IS_CERTIFIED = (
    "Interval bounds widen in every layer, so on networks that were not trained for them they certify almost nothing. A bound "
    "near 0 is therefore no sign of a weak network.")


def printed_label(row: NetworkRow) -> str:
    """Return the label of a network for printed tables, for example "ARNAS, seed 2 (quick, in progress)".

    The notes in parentheses are the preset, unless it is `paper`, and "in progress" while the attack run is not complete.
    """
    notes = [note for note in (row.preset if row.preset != "paper" else "", "" if row.complete else "in progress") if note]
    return f"{row.label} ({', '.join(notes)})" if notes else row.label


def percent_text(fraction: float) -> str:
    """Return a fraction in per cent, without the per cent sign: 0.9561 as "95.6"."""
    return f"{100 * fraction:.1f}"


def signed_text(number: float, digits: int, *, plus: bool = True) -> str:
    """Return a number with a proper minus sign, and without a sign if it is rounded to 0: -1.52 with one digit as "−1.5".

    Args:
        number: the number.
        digits: number of digits after the point.
        plus: True to give positive numbers a plus sign.
    """
    rounded = round(number, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:{'+' if plus and rounded else ''}.{digits}f}".replace("-", "\u2212")


def interval_text(measurement: Measurement) -> str:
    """Return the interval of an accuracy in per cent, without the per cent sign, for example "91.8 to 96.7"."""
    return f"{percent_text(measurement.low)} to {percent_text(measurement.high)}"


def measured_text(measurement: Measurement) -> str:
    """Return an accuracy with its interval and number of images: "97.2 % (94.9 to 98.5), 359 images"."""
    return accuracy_words(measurement.correct, measurement.images)


def count_text(number: float) -> str:
    """Return a number as text: 4520394 as "4.52 million", 1797 as "1,797". From a million on, it has three significant digits."""
    if number < 999_999.5:
        return f"{number:,.0f}"
    rounded = float(f"{number:.3g}")
    scaled, word = (rounded / 1e9, "billion") if rounded >= 1e9 else (rounded / 1e6, "million")
    return f"{scaled:,.{max(0, 2 - math.floor(math.log10(scaled)))}f} {word}"


def times_text(number: int) -> str:
    """Return how often something happened: "once", "3 times"."""
    return "once" if number == 1 else plural_text(number, "time")


def plural_text(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural, for example "1 image" or "3 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration_text(seconds: float) -> str:
    """Return a measured duration in words: 75 as "1 min 15 s", 4000 as "1 h 6 min", 7200 as "2 h"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min".removesuffix(" 0 min")
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h".removesuffix(" 0 h")


def rounded_text(seconds: float) -> str:
    """Return an expected duration as text, rounded because it is not known exactly: 329 as "5 min", 20 as "under 1 min".

    An hour or more is rounded to ten minutes, a day or more to tenths of a day, ten days or more to days, and sixty days or more
    to months. A year or more is "more than a year".
    """
    days = seconds / 86_400
    if seconds < SHORTEST_S:
        return "under 1 min"
    if round(seconds / 60) < 60:
        return f"{max(1, round(seconds / 60))} min"
    if days < 1:
        hours, minutes = divmod(10 * round(seconds / 600), 60)
        return "1 d" if hours == 24 else f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if days < 60:
        return f"{days:.1f} d".replace(".0 ", " ") if days < 10 else f"{days:.0f} d"
    return f"{days / DAYS_OF_MONTH:.0f} months" if days < 365 else "more than a year"


def about_text(seconds: float) -> str:
    """Return an expected duration in words: "about 5 min", but "under 1 min" and "more than a year"."""
    words = rounded_text(seconds)
    return words if words.startswith(("under", "more")) else f"about {words}"


def badge_text(badge: Badge) -> str:
    """Return a reliability badge with its reasons in one line, for example "badge green: 12 checks passed."."""
    return f"badge {badge.colour}: {' '.join(badge.reasons)}"


def dataset_text(name: str) -> str:
    """Return the title of a dataset, or its name if this version does not know the dataset."""
    return DATASETS[name].title if name in DATASETS else name


def ledger_text(openings: int) -> str:
    """Return a sentence that says how often runs have opened (loaded) the test split."""
    return f"The test split was opened {times_text(openings)}."


def protocol_text(table: RobustnessTable) -> str:
    """Return the protocol of a table in words: dataset, images, norm, radius, attacks with their settings, and hash."""
    fields = table.fields
    if not fields:
        return (f"Test split of {dataset_text(table.dataset)}, {table.title}. These runs recorded no protocol; {table.protocol} "
                "stands for the fingerprints of their results.")
    attacks = "; ".join(_attack_text(part, fields["images"]) for part in fields["attacks"])
    cascade = "one cascade for the worst case alone over " if fields.get("worst_case_only") else ""
    images = f"{plural_text(fields['images'], 'image')} (hash {fields['images_hash']})"
    ball = ball_text(fields["norm"], fields["epsilon"])
    return (f"Test split of {dataset_text(table.dataset)}, {images}, {ball} with pixels in 0 to 1, seed {fields['seed']}, mode "
            f"{fields['mode']}. Attacks: {cascade}{attacks}. Protocol {table.protocol}.")


def fingerprints_text(table: RobustnessTable) -> str:
    """Return a sentence with the fingerprint of each column's results, or "" if none is known."""
    titles = {column.name: column.title for column in table.columns}
    listed = ", ".join(f"{titles[name]} {one}" for name, one in table.fingerprints.items())
    return f"Fingerprints: {listed}." if listed else ""


def _attack_text(part: Mapping[str, Any], images: int) -> str:
    """Return an attack with its settings in words, for example "PGD-20 (20 steps of 2/255, random start)"."""
    name = str(part["attack"])
    title = "natural images" if name == NATURAL else ATTACKS[name].title if name in ATTACKS else name
    fewer = part.get("images", images) != images
    where = f" on {plural_text(part['images'], 'image')} (hash {part['images_hash']})" if fewer else ""
    if parts := part.get("parts"):
        return f"{title}{where}, made of {', '.join(_attack_text(one, images) for one in parts)}"
    details = ", ".join(_details(part))
    return f"{title}{where} ({details})" if details else f"{title}{where}"


def _details(part: Mapping[str, Any]) -> list[str]:
    words = []
    if part.get("steps"):
        length = f" of {pixels_text(part['step_size'])}" if "step_size" in part else ""
        words.append(plural_text(part["steps"], "step") + length)
    if part.get("targets"):
        words.append(plural_text(part["targets"], "target"))
    if part.get("restarts", 1) > 1:
        words.append(plural_text(part["restarts"], "restart"))
    if part.get("random_start"):
        words.append("random start")
    words += [f"{name.replace('_', ' ')} {value}" for name, value in part.items() if name not in _SPOKEN]
    if "block_images" in part:
        words.append(f"blocks of {plural_text(part['block_images'], 'image')}")
    if "library" in part:
        words.append(f"{part['library']} {part['version']}")
    return words

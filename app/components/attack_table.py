"""The attack table of one network: accuracy under each attack with interval, number of images, epsilon and fingerprint.

A fingerprint is a hash of the conditions under which an accuracy was measured.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from app.components.html_table import Markup, StaticColumn, code, html_table
from app.formats import EMPTY, count, epsilon, interval, missing, percent
from engine.attack.catalogue import ATTACKS, NATURAL, WORST

NOTE = ("Accuracy: the share of test-split images that are still classified correctly. Interval: Wilson. Epsilon: the "
        "radius of the attacks in their norm, with pixels in 0 to 1. Worst case: an image counts only if it withstands every "
        "attack. Rows with different numbers of images measure different samples.")
COLUMNS: tuple[StaticColumn[dict[str, Any]], ...] = (
    StaticColumn("Attack", lambda row: row["title"], names_row=True),
    StaticColumn("Accuracy", lambda row: Markup(f"{_bar(row['accuracy'])}{percent(row['accuracy'])}"), right=True,
                 data=lambda row: {name: row[name] for name in ("attack", "part_of", "accuracy")}),
    StaticColumn("95 % interval", lambda row: interval(row["low"], row["high"]), right=True,
                 data=lambda row: {"low": row["low"], "high": row["high"]}),
    StaticColumn("Images", lambda row: count(row["images"]), right=True, data=lambda row: {"images": row["images"]}),
    StaticColumn("Epsilon", lambda row: EMPTY if row["attack"] == NATURAL else epsilon(row["epsilon"]), right=True,
                 data=lambda row: {"epsilon": row["epsilon"]}),
    StaticColumn("Fingerprint", lambda row: code(row["fingerprint"]),
                 data=lambda row: {"fingerprint": row["fingerprint"], "conditions": row.get("fields")}),
)

# Attacks whose rows are bold: natural accuracy (no attack), the worst case over all attacks, and suites of attacks.
HEADLINES = {NATURAL, WORST, *(name for name, attack in ATTACKS.items() if attack.parts)}


def attack_table_html(attacks: pd.DataFrame, note: str = NOTE) -> str:
    """Return the attack table as HTML.

    Args:
        attacks: rows of one run from `RunLog.attacks`, in the order of measurement, with columns attack, title, part_of, epsilon,
            images, accuracy, low, high and fingerprint.
        note: explanation of the columns, or "" for none.
    """
    rows = ordered(attacks).to_dict("records")
    return html_table(COLUMNS, rows, label="Accuracy under each attack", note=note, row_look=_look,
                      file=f"{rows[0]['run']}-attacks" if rows and "run" in rows[0] else "")


def ordered(attacks: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows of an attack table.

    Natural accuracy comes first, then the attacks in the order of measurement. An attack that consists of several attacks (such
    as AutoAttack) is followed by its parts.
    """
    records = attacks.to_dict("records")
    tops = sorted((row for row in records if not _is_part(row)), key=lambda row: row["attack"] != NATURAL)
    names = {row["attack"] for row in tops}
    rows = [row for top in tops for row in (top, *(part for part in records if part.get("part_of") == top["attack"]))]
    # A suite of attacks that is still being measured has rows for its parts, but not yet one for the suite.
    rows += [row for row in records if _is_part(row) and row["part_of"] not in names]
    return pd.DataFrame(rows, columns=attacks.columns)


def _is_part(row: dict[str, Any]) -> bool:
    return not missing(row.get("part_of")) and bool(row["part_of"])


def _look(row: dict[str, Any]) -> str:
    return "rp-part" if _is_part(row) else "rp-strong" if row["attack"] in HEADLINES else ""


def _bar(fraction: float | None) -> str:
    if missing(fraction):
        return ""
    return f'<span class="rp-bar" aria-hidden="true"><i style="width:{100 * fraction:.1f}%"></i></span>'

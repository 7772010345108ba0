"""The attack table of one network: accuracy under each attack with its interval, images, epsilon and fingerprint."""

from __future__ import annotations

import pandas as pd

from app.components.formats import EMPTY, count, epsilon, escape, interval, missing, percent
from engine.attack.catalogue import ATTACKS, NATURAL, WORST

CAPTION = ("Share of test-split images still classified correctly, and its 95 % Wilson interval. Epsilon: the largest change of "
           "a pixel, on a scale from 0 to 1. Worst case: images that withstand every attack. Rows on different numbers of images "
           "are different samples.")

# Rows in bold: the natural accuracy, and results of several attacks together.
HEADLINES = {NATURAL, WORST, *(name for name, attack in ATTACKS.items() if attack.parts)}


def attack_table_html(attacks: pd.DataFrame, caption: str = CAPTION) -> str:
    """The table as HTML.

    Args:
        attacks: rows of `RunLog.attacks` of one run, in the order in which they were measured: attack, title, part_of, epsilon,
            images, accuracy, low, high, fingerprint.
        caption: what the numbers are; "" where it stands elsewhere.
    """
    head = "".join(f'<th scope="col"{side}>{name}</th>' for name, side in (
        ("Attack", ""), ("Accuracy", ' class="rp-right"'), ("95 % interval", ' class="rp-right"'),
        ("Images", ' class="rp-right"'), ("Epsilon", ' class="rp-right"'), ("Fingerprint", "")))
    rows = "".join(_row(row) for row in ordered(attacks).to_dict("records"))
    below = f"<caption>{caption}</caption>" if caption else ""
    return (f'<div class="rp-scroll"><table class="rp-table">{below}<thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def ordered(attacks: pd.DataFrame) -> pd.DataFrame:
    """Natural first, then as measured, each suite followed by its parts."""
    records = attacks.to_dict("records")
    tops = [r for r in records if missing(r.get("part_of")) or not r.get("part_of")]
    tops.sort(key=lambda r: r["attack"] != NATURAL)
    names = {r["attack"] for r in tops}
    rows = []
    for top in tops:
        rows.append(top)
        rows += [r for r in records if r.get("part_of") == top["attack"]]
    # Parts of a suite that is still being measured stand at the end.
    rows += [r for r in records if r not in rows and r.get("part_of") and r["part_of"] not in names]
    return pd.DataFrame(rows, columns=attacks.columns)


def _row(row: dict) -> str:
    part = not missing(row.get("part_of")) and bool(row.get("part_of"))
    bar = "" if missing(row["accuracy"]) else (
        f'<span class="rp-bar" aria-hidden="true"><i style="width:{100 * row["accuracy"]:.1f}%"></i></span>')
    radius = EMPTY if row["attack"] == NATURAL else epsilon(row["epsilon"])
    look = "rp-part" if part else "rp-strong" if row["attack"] in HEADLINES else ""
    return (f'<tr class="{look}">'
            f'<td>{escape(row["title"])}</td><td class="rp-right">{bar}{percent(row["accuracy"])}</td>'
            f'<td class="rp-right">{interval(row["low"], row["high"])}</td><td class="rp-right">{count(row["images"])}</td>'
            f'<td class="rp-right">{radius}</td><td><code>{escape(row["fingerprint"])}</code></td></tr>')

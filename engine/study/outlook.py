"""Texts about a study before its launch: its expected duration, and the smallest difference that it can detect.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.report.words import dataset_text, plural_text
from engine.run.chain import NOUNS
from engine.study.answer import listed
from engine.study.contrasts import FEWEST_UNITS
from engine.study.estimate import Estimate
from engine.study.power import Power

RANKING_WORDS = "ranks networks; tests no contrast of arms"


def unknown_words(time: Estimate, preset: str, title: Callable[[str], str]) -> str:
    """Return a text that says which durations of a study are unknown, and how the user can make them known.

    Args:
        time: an estimate whose `seconds` is None.
        preset: preset of the study.
        title: function that returns the title of a search method from its name.
    """
    searches = [title(method) for kind, method, _ in time.unknown if kind == "search"]
    kinds = [f"search by {listed(list(dict.fromkeys(searches)))}"] if searches else []
    kinds += [NOUNS[kind] for kind in ("retrain", "attack") if any(one == kind for one, _, _ in time.unknown)]
    datasets = listed([dataset_text(name) for name in dict.fromkeys(dataset for *_, dataset in time.unknown)])
    missing = listed([f"no {kind}" for kind in kinds])
    return (f"not known yet: {missing} with preset {preset} on {datasets} has finished on this machine. The first such runs are "
            "timed, and the estimate then stands here")


def power_words(power: Power | None) -> str:
    """Return a text on the smallest difference that a study can detect, and on the assumed spread between search seeds.

    Args:
        power: the power of the study; None if it does not compare arms in pairs.
    """
    if power is None:
        return RANKING_WORDS
    if not power.claims:
        return (f"nothing: demonstration, no claim. A claim needs at least {FEWEST_UNITS} search seeds in both arms of a "
                f"contrast, and here an arm has {power.units}")
    if power.difference is None:
        return ("nothing: with so few seeds, no contrast can become significant (smallest possible adjusted p: "
                f"{power.smallest_p:.2g})")
    source = f"measured on {power.spread.seeds} search seeds" if power.spread.seeds else "assumed"
    demonstrations = power.contrasts - power.claims
    but = f"; {plural_text(demonstrations, 'contrast')} with fewer seeds: demonstration, no claim" if demonstrations else ""
    return (f"differences from {100 * power.difference:.1f} points, at 80 % power and a spread of "
            f"{100 * power.spread.value:.1f} points between search seeds ({source}){but}")

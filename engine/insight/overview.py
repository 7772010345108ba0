"""A summary of a run in one or two sentences: its state and its measured accuracies."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.insight.words import accuracy_text
from engine.log import RunLog
from engine.report.words import about_text, duration_text, plural_text, times_text

# How a sentence about a run begins, by status.
BEGINNINGS = {"queued": "Queued", "running": "Running", "stopping": "Stopping", "stopped": "Stopped",
              "finished": "Finished", "failed": "Failed"}


def overview(log: RunLog, run: str) -> str:
    """Return one or two sentences about a run: its state and, once measured, its accuracies. The run may be in any state.

    Raises:
        RunLogError: there is no such run.
    """
    facts = log.run(run)
    if facts["imported"]:
        return _imported(log, facts)
    measured = _measured(log, facts)
    return " ".join(part for part in (_state(log, facts), measured) if part)


def _state(log: RunLog, facts: dict[str, Any]) -> str:
    """Return a sentence about the state of a run, with the progress, the cause and the duration, where they apply."""
    status, progress = facts["status"], log.progress(facts["id"])
    words = [BEGINNINGS[status]]
    if status not in ("queued", "finished") and progress:
        words.append(f"after {progress['done']:,.0f} of {progress['total']:,.0f} {progress['unit'] or 'steps'}")
    text = " ".join(words)
    if status == "running" and facts["seconds_left"] is not None:
        text += f", {about_text(facts['seconds_left'])} left"
    if status == "finished" and facts["duration_s"]:
        text += f" in {duration_text(facts['duration_s'])}"
    cause = str(facts["cause"] or "").rstrip(".")
    return f"{text}: {cause[0].lower() + cause[1:]}." if cause and status in ("queued", "failed") else f"{text}."


def _measured(log: RunLog, facts: dict[str, Any]) -> str:
    """Return sentences about the accuracies of a run, or "" before the first measurement."""
    if facts["natural_accuracy"] is None:
        return ""
    if facts["method"] == "random_search":
        return candidates(log, facts["id"])
    natural = accuracy_text(facts["natural_accuracy"], facts["natural_low"], facts["natural_high"], facts["natural_images"])
    adversarial = "" if facts["adversarial_accuracy"] is None else f" and {_under_attack(facts)}"
    where = {"search": f"the supernet ({facts['accuracy_of']}, not a result)",
             "retrain": "the selected checkpoint (select split, not a result)", "attack": "the network (test split)"}
    text = f"Accuracy of {where.get(facts['kind'], 'the network')}: {natural} on natural images{adversarial}."
    if facts["kind"] == "attack" or facts["chain_adversarial_accuracy"] is None:
        return text
    return f"{text} The newest attack on its network found {_under_attack(log.run(facts['chain_attack_run']))}."


def _under_attack(facts: dict[str, Any]) -> str:
    """Return a phrase with the adversarial accuracy of a run, its interval if known, and the attack."""
    attack = facts["adversarial_attack"]
    title = {"": "attack", "Worst case": "the worst case of all attacks", "one step": "an attack of one step"}.get(attack, attack)
    accuracy = accuracy_text(*(facts[f"adversarial_{part}"] for part in ("accuracy", "low", "high", "images")))
    return f"{accuracy} under {title}"


def candidates(log: RunLog, run: str) -> str:
    """Return a sentence about the best candidate of a search that trains and measures candidates; "" for any other run."""
    table = log.candidates(run)
    if table.empty:
        return ""
    best, facts = table.iloc[0], log.run(run)
    number = plural_text(len(table), "candidate")
    which = "The first" if best["ranking"] == "none" else "The best"
    return (f"{which} of {number}{'' if facts['status'] == 'finished' else ' so far'} is candidate {best['candidate']}: "
            f"{accuracy_text(best['natural'], best['natural_low'], best['natural_high'])} on natural images and "
            f"{accuracy_text(best['adversarial'], best['adversarial_low'], best['adversarial_high'])} under "
            f"{facts['adversarial_attack']}, on {plural_text(int(best['images']), 'image')}.")


def _imported(log: RunLog, facts: dict[str, Any]) -> str:
    """Return a sentence about an imported run: its file, and what was read from the file."""
    genotypes = log.genotypes(facts["id"])
    text = f"Imported from {facts['imported'].get('file', 'a file')} ({facts['imported'].get('as', 'file')})"
    if len(genotypes) > 1:
        changes = int(np.count_nonzero(genotypes["hash"].to_numpy()[1:] != genotypes["hash"].to_numpy()[:-1]))
        changed = f"changed {times_text(changes)}" if changes else "never changed"
        text += f": {len(genotypes)} epochs, in which the genotype {changed}"
    elif facts["natural_accuracy"] is None:
        text += ": nothing was measured here"
    return f"{text}."

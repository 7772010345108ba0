"""One sentence for each panel of a run's page, computed from the run log. A panel without content gets ""."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from engine.errors import RunLogError
from engine.insight import objectives
from engine.insight.alerts import alerts_of, collapse_text
from engine.insight.alphas import River, river, rivers
from engine.insight.collapse import ALMOST_EVEN, last_healthy_epoch, radar
from engine.insight.genotype import Moment, moments
from engine.insight.overview import candidates, overview
from engine.insight.words import accuracy_text, cell_text, operations_text, size_text
from engine.log import RunLog
from engine.report.samples import read_samples
from engine.report.words import plural_text
from engine.run.folder import RunFolder

LOOK_BACK = 5  # epochs over which a sentence says what has changed
STEADY = 0.002  # change of the entropy, as a share of its largest value, that counts as none


def alphas(log: RunLog, run: str) -> str:
    """Return a sentence about the entropy of the architecture weights and changes of the strongest operations.

    The result is "" for a run without architecture weights.
    """
    courses = rivers(log, run)
    if not courses:
        return ""
    now, before, back = _entropies(list(courses.values()))
    first = next(iter(courses.values()))
    last_epoch = int(first.epochs[-1])
    flipped = sum(one.flips[one.flips["epoch"] > last_epoch - LOOK_BACK]["edge"].nunique() for one in courses.values())
    edges = sum(one.weights.shape[1] for one in courses.values())
    text = f"The entropy of the weights is {100 * now:.1f} % of its largest value"
    if not back:
        return f"{text}."
    span = f"in the last {plural_text(back, 'epoch')}" if back > 1 else "in the last epoch"
    trend = "is steady" if abs(now - before) < STEADY else f"{'falls' if now < before else 'rises'} ({100 * before:.1f} % " \
        f"{plural_text(back, 'epoch')} ago)"
    return f"{text} and {trend}; the strongest operation changed on {flipped} of {edges} edges {span}."


def _entropies(courses: list[River]) -> tuple[float, float, int]:
    """Return (relative entropy now, relative entropy n epochs ago, n). The entropies are means over the edges of all cells.

    `courses` holds the architecture weights of each cell kind. n is `LOOK_BACK`, or less if fewer epochs are recorded.
    """
    epochs = courses[0].epochs
    position = max(0, int(np.searchsorted(epochs, epochs[-1] - LOOK_BACK)))
    now, before = (float(np.mean([one.relative_entropy[at].mean() for one in courses if len(one.epochs) == len(epochs)]))
                   for at in (-1, position))
    return now, before, int(epochs[-1] - epochs[position])


def genotype(log: RunLog, run: str) -> str:
    """Return a sentence about the latest changes of the genotype; "" for a run without genotypes."""
    found = moments(log, run)
    if not found:
        return ""
    if _samples_candidates(log, run):
        return "The cells are those of the best candidate so far."
    if len(found) == 1:
        return "One genotype is recorded, before the first epoch ended: its weights are almost even." if log.alpha_cells(run) \
            else "One genotype is recorded, without epochs."
    last = found[-1]
    if last.all_stable_for:
        return f"No cell has changed for {plural_text(last.all_stable_for, 'epoch')}."
    counts = {kind: len(last.changed_edges(kind)) for kind in last.genotype.kinds}
    parts = [f"{plural_text(count, 'edge')} of the {cell_text(kind)}" for kind, count in counts.items() if count]
    still = [f"the {cell_text(kind)} has not changed for {plural_text(epochs, 'epoch')}"
             for kind, epochs in last.stable_for.items() if epochs]
    return "; ".join([f"In epoch {last.epoch}, {_listed(parts)} changed", *still]) + "."


def _samples_candidates(log: RunLog, run: str) -> bool:
    """Return True if a search draws and trains candidates one by one. Its genotypes then do not develop from epoch to epoch."""
    return not log.candidates(run).empty


def cell(log: RunLog, run: str, kind: str) -> str:
    """Return a sentence about one cell: for how long it has been stable, its most frequent operation, and the entropy's trend.

    Args:
        log: the run log.
        run: run id.
        kind: the cell kind, such as "robust".
    """
    found = [moment for moment in moments(log, run) if kind in moment.genotype.kinds]
    if not found:
        return ""
    course = river(log, run, kind)
    return "; ".join([_stability(found[-1], kind), _dominant(found[-1], kind), *_trend(course)]) + "."


def _stability(last: Moment, kind: str) -> str:
    epochs = last.stable_for[kind]
    if epochs:
        return f"The {cell_text(kind)} has not changed for {plural_text(epochs, 'epoch')}"
    changed = len(last.changed_edges(kind))
    return f"{plural_text(changed, 'edge')} of the {cell_text(kind)} changed in epoch {last.epoch}" if changed else \
        f"The {cell_text(kind)} is that of epoch {last.epoch}"


def _dominant(last: Moment, kind: str) -> str:
    names = [operation for operation, _ in last.genotype.cell(kind).edges]
    most = max(dict.fromkeys(names), key=names.count)
    count = names.count(most)
    verb = "is a" if count == 1 and most != "none" else "is" if count == 1 else "are"
    return f"{count} of {len(names)} edges {verb} {operations_text(most, count)}"


def _trend(course: River | None) -> list[str]:
    if course is None or len(course.epochs) < 2:
        return []
    now, before, back = _entropies([course])
    return [f"entropy {'is steady' if abs(now - before) < STEADY else 'falls' if now < before else 'rises'}"] if back else []


def collapse(log: RunLog, run: str) -> str:
    """Return a sentence about the signs of a collapse.

    The result is "" for a run without genotypes, and for a search that draws candidates one by one.
    """
    table = radar(log, run)
    if table.empty or _samples_candidates(log, run):
        return ""
    last = table[table["epoch"] == table["epoch"].max()]
    if last["alarm"].any():
        worst = last.sort_values(["level", "parameter_free"]).iloc[-1]  # "warning" is after "info"
        derived = moments(log, run)[-1].genotype.cell(worst["cell"])
        healthy = last_healthy_epoch(table)
        since = f" The last epoch without a sign was {healthy}." if healthy != -1 else \
            " Every epoch had a sign of it." if table["epoch"].nunique() > 1 else ""
        return f"{collapse_text(worst['cell'], derived, is_collapsed=worst['level'] == 'warning')}{since}"
    if (last["relative_entropy"] > ALMOST_EVEN).all():
        return "No sign of a collapse can be told yet: the weights are almost even, so the cells derived from them are arbitrary."
    most = last.sort_values("parameter_free").iloc[-1]
    return (f"No sign of a collapse: at most {most['parameter_free']} of {most['edges']} edges of a cell have no parameters, and "
            f"a cell has at most {plural_text(int(last['skips'].max()), 'skip connection')}.")


def trade_off(log: RunLog, run: str) -> str:
    """Return a sentence about natural and adversarial accuracy in the first and the latest epoch; "" without such accuracies."""
    kind = str(log.run(run)["kind"])
    table = log.pareto_epochs([run], kind)
    if table.empty or kind == "attack":
        return ""
    first, last = table.iloc[0], table.iloc[-1]
    under, measured = last["attack_title"], f"{last['measured']}, not a result"
    if first["epoch"] == last["epoch"]:
        return (f"Epoch {last['epoch']}: {accuracy_text(last['natural'])} on natural images, "
                f"{accuracy_text(last['adversarial'])} under {under} ({measured}).")
    return (f"From epoch {first['epoch']} to {last['epoch']}, accuracy went from {accuracy_text(first['natural'])} to "
            f"{accuracy_text(last['natural'])} on natural images, and from {accuracy_text(first['adversarial'])} to "
            f"{accuracy_text(last['adversarial'])} under {under} ({measured}).")


def samples(log: RunLog, run: str) -> str:
    """Return a sentence about the predictions on the stored images of the first batch; "" for a run without such predictions."""
    try:
        stored = read_samples(RunFolder(log.root, run).results / "samples.parquet")
    except RunLogError:
        return ""
    if not stored.predictions:
        return ""
    right = {name: sum(one == label for one, label in zip(found, stored.labels, strict=True))
             for name, found in stored.predictions.items()}
    attacked = f" as they are, and {right['training']} under {stored.attack}" if "training" in right else ""
    return (f"After {plural_text(stored.step or 0, 'step')}, {right['natural']} of the first {len(stored.images)} training "
            f"images are classified correctly{attacked}.")


def system(log: RunLog, run: str) -> str:
    """Return a sentence about the load of the machine at the latest measurement, in the past tense once a run is over."""
    table, is_over = log.telemetry(run), log.state(run).is_over
    if table.empty:
        return "This run recorded no load of its machine." if is_over else \
            "The load of the machine is measured every ten seconds; this run has no measurement yet."
    last = table.iloc[-1]
    begin, uses, be, are = ("At the last measurement, the", "used", "was", "were") if is_over else ("The", "uses", "is", "are")
    parts = [f"{begin} worker {uses} {last['process_cores']:.1f} CPU cores and {size_text(last['memory_bytes'])} of memory",
             *(f"{row['name']} {be} busy {100 * row['utilisation']:.0f} % of the time, with {size_text(row['memory_bytes'])} in "
               f"use at {row['temperature_c']:.0f} °C" for _, row in log.gpu_telemetry(run).groupby("device").last().iterrows()),
             f"{size_text(last['disk_free_bytes'])} of disk {are} free"]
    return f"{'; '.join(parts)}."


def alerts(log: RunLog, run: str) -> str:
    """Return the text of a run's worst alert, with the number of alerts if there are several, or "No alerts."."""
    found = [alert for alert in alerts_of(log, [run]) if alert.run]
    if not found:
        return "No alerts."
    return found[0].sentence if len(found) == 1 else f"{len(found)} alerts. {found[0].sentence}"


def settings(log: RunLog, run: str) -> str:
    """Return a sentence about the differences of a run from the published settings."""
    facts = log.run(run)
    if facts["imported"]:
        return "The file says little of the settings with which its run was made."
    names = [one.field.replace("_", " ") for one in facts["differences"]]
    if not names:
        return "All settings have their published values."
    shown = _listed(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
    verb = "differs" if len(names) == 1 else "differ"
    return f"{plural_text(len(names), 'setting')} {verb} from the published values: {shown}."


def lineage(log: RunLog, run: str) -> str:
    """Return sentences about the family of a run: its earliest ancestor and all descendants of this ancestor."""
    family = log.chain(run)
    if len(family) < 2:
        return "This run has no parent and no followers."
    nouns = {"search": "search run", "retrain": "retraining", "attack": "attack run"}
    listed = _listed([plural_text(count, nouns.get(kind, kind))
                      for kind, count in family["kind"].value_counts(sort=False).to_dict().items()])
    row = family[family["id"] == run].iloc[0]
    place = "This run is the first of its family" if row["depth"] == 0 else f"This run follows {row['parent']}"
    return f"{place}, which has {listed}." if row["depth"] == 0 else f"{place}. The family has {listed}."


def _listed(parts: list[str]) -> str:
    """Join the parts of a list for a sentence: "a", "a and b", or "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


PANELS: Mapping[str, Callable[[RunLog, str], str]] = {
    "overview": overview, "candidates": candidates, "alphas": alphas, "genotype": genotype, "collapse": collapse,
    "objectives": objectives.panel, "trade_off": trade_off, "samples": samples, "system": system, "alerts": alerts,
    "settings": settings, "lineage": lineage}


def sentence(log: RunLog, run: str, panel: str) -> str:
    """Return the sentence for the panel `panel`, a key of `PANELS`.

    Raises:
        RunLogError: there is no such run.
    """
    return PANELS[panel](log, run)

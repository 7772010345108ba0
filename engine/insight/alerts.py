"""Alerts: messages about problems of runs that are active or have recently ended. `docs/alerts.md` lists the rules.

Each rule makes one query for all these runs together, because every page shows the number of alerts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.architecture.genotype import Cell, Genotype
from engine.files import LEAST_FREE_BYTES, free_bytes
from engine.insight.alphas import entropy_of, softmax
from engine.insight.collapse import MOST_PARAMETER_FREE, MOST_SKIPS, SKIP, level_of
from engine.insight.overfitting import FALLEN, MEASUREMENTS, NEAR_ZERO, WAS_ROBUST, overfitting
from engine.insight.words import cell_text, seconds_text, size_text
from engine.log import RunLog
from engine.log.alert_queries import LatestAlphas
from engine.report.words import duration_text, plural_text
from engine.run.state import SILENT_S, RunState

Level = Literal["info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")

RECENT_S = 86_400.0  # a run that ended longer ago raises no alert
OLDEST_S = 7 * 86_400.0  # a living worker that has been silent for longer raises no alert
ENTROPY_FLOOR = 0.1  # share of the largest entropy, averaged over the edges of a cell
FLOOR_UNTIL = 0.9  # share of the epochs; later, a search is supposed to have decided
STALLED_STEPS = 5  # a silence of this many steps, but at least `SILENT_S`
LOW_DISK_BYTES = 2 * 2**30

# The rules in words, by kind, as in docs/alerts.md.
RULES = {
    "collapse": f"warning: at least {MOST_PARAMETER_FREE:.0%} of the edges of a derived cell have no parameters. info: at least "
                f"{MOST_SKIPS} of them are skip connections. Reduction cells and cells with almost even weights do not count.",
    "entropy floor": f"warning: the entropy of the weights of a cell, averaged over its edges, is below {ENTROPY_FLOOR:.0%} of "
                     f"its largest value before {FLOOR_UNTIL:.0%} of the epochs are over.",
    "not finite": "error: a loss was NaN or infinite.",
    "robust overfitting": f"warning: adversarial accuracy on the select split, averaged over the last {MEASUREMENTS} "
                          f"measurements, is {100 * FALLEN:.0f} percentage points below its "
                          "best, while on training batches it has risen.",
    "catastrophic overfitting": f"warning: adversarial accuracy on the select split has fallen from at least {WAS_ROBUST:.0%} "
                                f"to at most {NEAR_ZERO:.0%}, while on training batches it has risen; or the check of a Fast-AT "
                                "training found it.",
    "stalled": f"warning: a worker is alive and has written nothing for the time of {STALLED_STEPS} of its own steps, and for at "
               f"least {SILENT_S:.0f} s.",
    "disk": f"warning: less than {LOW_DISK_BYTES / 2**30:.0f} GiB are free on the disk of the runs. error: less than "
            f"{LEAST_FREE_BYTES / 2**20:.0f} MiB, so that no run starts; or a run ended because the disk was full or broken.",
    "failed": "error: a run failed and its worker could not write why, for example because it was killed.",
    "run": "warning or error: a worker wrote it, for example the reason why a run failed.",
}
# Alerts of workers that belong to one of the other kinds.
_WRITTEN = {"not finite": re.compile("finite numbers, got|loss must be finite"),
            "disk": re.compile("^Disk full|^The disk failed"),
            "catastrophic overfitting": re.compile("^Catastrophic overfitting")}


@dataclass(frozen=True)
class Alert:
    """A message about one run, or about the machine.

    Attributes:
        level: "info", "warning" or "error".
        kind: name of the rule, one of `RULES`.
        run: run id; "" for the machine.
        step, epoch: step and epoch of the run to which the message refers; None if it refers to no step, as for a failed run or
            the machine.
        sentence: the message.
        t: Unix time to which the message refers; None for now.
    """

    level: Level
    kind: str
    run: str
    step: int | None
    epoch: int | None
    sentence: str
    t: float | None = None


Rule = Callable[[RunLog, Sequence[str]], Iterator[Alert]]  # yields the alerts of some runs, given by their ids


def watched(log: RunLog, now: float | None = None) -> list[str]:
    """Return the ids of the runs that are active or have ended within the last day, newest event first.

    Args:
        log: the run log, after `ingest`.
        now: Unix time; None for the present.
    """
    now = time.time() if now is None else now
    latest = log.active_since(now - OLDEST_S)
    return [run for run, t in latest.items() if t >= now - RECENT_S or not log.state(run).is_over]


def alerts_of(log: RunLog, runs: Collection[str] | None = None) -> list[Alert]:
    """Return the alerts of these runs and of the machine: errors, warnings, then infos, and the newest first within each level.

    Args:
        log: the run log, after `ingest`.
        runs: run ids; None for the runs that `watched` returns.
    """
    chosen = list(watched(log) if runs is None else runs)
    return _all(log, chosen, _of_events(log, chosen))


class Bell:
    """A cache of the alerts of the watched runs, so that pages can ask for them every few seconds at little cost."""

    def __init__(self, log: RunLog) -> None:
        """Create a cache of alerts for the runs in `log`. It is empty until the first call of `alerts`."""
        self._log = log
        self._known: dict[Rule, dict[str, tuple[int, list[Alert]]]] = {}

    def alerts(self) -> list[Alert]:
        """Return the same alerts as `alerts_of(log)`. A rule queries only runs with new events in the tables that it reads."""
        runs = watched(self._log)
        return _all(self._log, runs, _distinct(alert for rule in EVENT_RULES for alert in self._of_rule(rule, runs)))

    def _of_rule(self, rule: Rule, runs: Sequence[str]) -> list[Alert]:
        known, tables = self._known.get(rule, {}), ("folder", *EVENT_RULES[rule])
        now = {run: self._log.revision(tables, run) for run in runs}
        changed = [run for run in runs if run not in known or known[run][0] != now[run]]
        fresh: dict[str, list[Alert]] = {run: [] for run in changed}
        for alert in rule(self._log, changed) if changed else ():
            fresh[alert.run].append(alert)
        self._known[rule] = {run: (now[run], fresh[run]) if run in fresh else known[run] for run in runs}
        return [alert for _, alerts in self._known[rule].values() for alert in alerts]


def _of_events(log: RunLog, runs: Sequence[str]) -> list[Alert]:
    """Return the alerts that the events of these runs raise."""
    return _distinct(alert for rule in EVENT_RULES for alert in rule(log, runs)) if runs else []


def _distinct(alerts: Iterable[Alert]) -> list[Alert]:
    """Return the alerts without repetitions: if several rules find the same problem of a run, only the first alert is kept."""
    found: dict[tuple[str, str], Alert] = {}
    for alert in alerts:
        found.setdefault((alert.run, alert.kind if alert.kind != "run" else alert.sentence), alert)
    return list(found.values())


def _all(log: RunLog, runs: Sequence[str], of_events: list[Alert]) -> list[Alert]:
    """Return `of_events` and the alerts about failed runs, silent workers and the disk.

    The order is errors, warnings, infos. Within each level, alerts without a time, which are about now, come first. The others
    follow, newest first.
    """
    states = {run: log.state(run) for run in runs}
    alerts = [*of_events, *failed(states, of_events), *stalled(log, states), *disk(log)]
    return sorted(alerts, key=lambda alert: (LEVELS.index(alert.level), -np.inf if alert.t is None else -alert.t))


def written(log: RunLog, runs: Sequence[str]) -> Iterator[Alert]:
    """Yield the warnings and errors that the workers of these runs have written as events."""
    for row in log.written_alerts(runs).itertuples():
        kind = next((kind for kind, pattern in _WRITTEN.items() if pattern.search(row.text)), "run")
        yield Alert(row.level, kind, row.run, int(row.step), int(row.epoch), row.text, float(row.t))


def not_finite(log: RunLog, runs: Sequence[str]) -> Iterator[Alert]:
    """Yield an error for each run in which a loss was NaN or infinite, about the first such loss."""
    for row in log.losses_not_finite(runs).itertuples():
        name = str(row.name).removesuffix("_loss").replace("_", " ").replace("train", "training")
        yield Alert("error", "not finite", row.run, int(row.step), int(row.epoch),
                    f"The {name} loss was not finite in step {row.step:,}.", float(row.t))


def overfitted(log: RunLog, runs: Sequence[str]) -> Iterator[Alert]:
    """Yield a warning for each retraining that shows robust or catastrophic overfitting."""
    for run, rows in log.retrained(runs).groupby("run", sort=False):
        if (found := overfitting(rows)) is not None:
            yield Alert("warning", found.kind, str(run), found.step, found.epoch, found.sentence, float(rows["t"].iloc[-1]))


def collapsed(log: RunLog, runs: Sequence[str]) -> Iterator[Alert]:
    """Yield at most two alerts per search: one about a collapse, and one about low entropy, each about the worst cell."""
    latest = log.latest_alphas(runs)
    configs = log.configs(runs)
    for run in dict.fromkeys(one.run for one in latest):
        cells = [(one, _relative_entropy(one)) for one in latest if one.run == run]
        yield from _collapse(cells)
        one, entropy = min(cells, key=lambda pair: pair[1])
        epochs = int(configs.get(run, {}).get("epochs") or 0)
        if entropy < ENTROPY_FLOOR and one.epoch < FLOOR_UNTIL * epochs:
            yield Alert("warning", "entropy floor", run, one.step, one.epoch,
                        f"The weights of the {cell_text(one.cell)} leave almost no choice (entropy {100 * entropy:.0f} % of its "
                        f"largest value) after epoch {one.epoch} of {epochs}: the search hardly compares operations any more.",
                        one.t)


# The rules about events, in order of priority, and the tables of the run log that each of them reads besides `folder`.
EVENT_RULES: dict[Rule, tuple[str, ...]] = {
    written: ("alert",),
    not_finite: ("metric", "objective"),
    overfitted: ("metric", "resumed"),
    collapsed: ("alpha", "genotype"),
}
READ = ("folder", *dict.fromkeys(table for tables in EVENT_RULES.values() for table in tables))


def _collapse(cells: Sequence[tuple[LatestAlphas, float]]) -> Iterator[Alert]:
    """Yield one alert about the cell with the worst sign of a collapse. If no cell has a sign, yield nothing.

    `cells` are the cells of one run, as (latest alphas, relative entropy).
    """
    signs = []
    for one, entropy in cells:
        derived = dict(Genotype.from_json(one.genotype).cells) if one.genotype else {}
        if (cell := derived.get(one.cell)) and (level := level_of(one.cell, cell, entropy)):
            signs.append((level == "warning", cell.parameter_free, one, cell))
    if signs:
        is_warning, _, one, cell = max(signs, key=lambda sign: sign[:2])
        yield Alert("warning" if is_warning else "info", "collapse", one.run, one.step, one.epoch,
                    collapse_text(one.cell, cell, is_collapsed=is_warning), one.t)


def collapse_text(kind: str, cell: Cell, *, is_collapsed: bool) -> str:
    """Return a text about the sign of a collapse in a cell.

    If `is_collapsed` is True, the text gives the number of edges without parameters. Otherwise, it gives the number of skip
    connections, and says that DARTS+ would end the search.
    """
    if is_collapsed:
        return f"The {cell_text(kind)} has collapsed: {cell.parameter_free} of {len(cell.edges)} edges have no parameters."
    skips = sum(operation == SKIP for operation, _ in cell.edges)
    return f"The {cell_text(kind)} has {plural_text(skips, 'skip connection')}. DARTS+ would end the search here."


def failed(states: Mapping[str, RunState], told: Collection[Alert]) -> Iterator[Alert]:
    """Yield an error with the cause of the failure for each failed run.

    `told` holds the alerts that the events of the runs have raised. A failure that is already among them is left out.
    """
    known = {(alert.run, alert.sentence) for alert in told}
    for run, state in states.items():
        if state.status == "failed" and state.attempt and (run, state.cause) not in known:
            yield Alert("error", "failed", run, None, None, state.cause, state.since)


def stalled(log: RunLog, states: Mapping[str, RunState]) -> Iterator[Alert]:
    """Yield a warning for each run whose worker is alive but has written nothing for a long time.

    A long time is at least `SILENT_S` seconds and, if the usual duration of a step is known, at least `STALLED_STEPS` times this
    duration.
    """
    silent = {run: state.silent_s for run, state in states.items() if state.silent_s is not None and state.silent_s >= SILENT_S}
    if not silent:
        return
    for row in log.paces(list(silent)).itertuples():
        usual = float(row.seconds_per_unit)
        if np.isnan(usual) or silent[row.run] >= STALLED_STEPS * usual:
            pace = "" if np.isnan(usual) else f"; before, {_one(row.unit)} took {seconds_text(usual)}"
            yield Alert("warning", "stalled", row.run, int(row.step), int(row.epoch),
                        f"The worker is alive and has written nothing for {duration_text(silent[row.run])}{pace}. Stop it and "
                        "resume.")


def disk(log: RunLog) -> Iterator[Alert]:
    """Yield an alert if the disk of the runs folder is nearly full."""
    free = free_bytes(log.root)
    if free < LOW_DISK_BYTES:
        full = free < LEAST_FREE_BYTES
        yield Alert("error" if full else "warning", "disk", "", None, None,
                    f"Only {size_text(free)} free on the disk of the runs. " +
                    ("No run starts until there is more." if full else "Runs that cannot write end."))


def _relative_entropy(one: LatestAlphas) -> float:
    """Return the entropy of a cell's operation weights, averaged over the edges, as a fraction (0..1) of the largest entropy."""
    return float(entropy_of(softmax(one.alpha)).mean() / np.log(max(one.alpha.shape[1], 2)))


def _one(unit: str) -> str:
    """Return a unit in the singular with its article: "a step" for "steps", "an image pass" for "image passes"."""
    singular = unit.removesuffix("es") if unit.endswith("passes") else unit.removesuffix("s") or "unit"
    return f"{'an' if singular[0] in 'aeiou' else 'a'} {singular}"

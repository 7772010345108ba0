"""The plan of a study: its existing runs, and the runs that have yet to be launched. Imports no torch.

A study consists of cells: one for each arm, search seed and retraining. A cell has a search, a retraining and attacks. No file
says which run belongs to which cell. Instead, a cell looks for a run with the settings that the study declares:

* first among the runs that were launched for the study,
* then among all other runs that were made with the same code.

A run that several cells or studies need is therefore made only once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.architecture.capacity import nearest_width
from engine.architecture.genotype import DERIVED
from engine.config import RetrainConfig, RunConfig
from engine.configuring import validate
from engine.errors import ConfigError, GenotypeError
from engine.requests import submit
from engine.run.admission import PARENT_KIND
from engine.run.folder import RunFolder
from engine.run.lineage import retraining_of, trained_network
from engine.run.state import RunState, compute
from engine.study.declaration import Arm, Cell, Study, kind_of, mentioned
from engine.study.identity import Known, Runs, experiment_of

# Settings that name runs, and the step of another arm that "arm:NAME" stands for in each of them.
REFERRING = {"inherit_from": "search", "transfer_from": "retrain"}
WAITING, REFUSED = "waiting", "refused"  # states of a step without a run, in addition to those of a run


@dataclass(frozen=True)
class Step:
    """One run of a cell, where a cell is one repetition of an arm. The run may not exist yet.

    Attributes:
        name: "search", "retrain" or "attack", or "attack NAME" for a further attack.
        run: id of the run; "" if it does not exist yet.
        status: status of the run; "waiting" if it does not exist yet, "refused" if it cannot be launched.
        cause: why the run failed, was stopped or cannot be launched; "" otherwise.
        reused: True if the run was not launched for this study.
        created: time of the run's launch in unix seconds; 0 if it does not exist yet.
        parent: id of the parent run, for example the search of a retraining; None if there is none or it does not exist yet.
        is_due: True if the run does not exist and can be launched now.
    """

    name: str
    run: str = ""
    status: str = WAITING
    cause: str = ""
    reused: bool = False
    created: float = 0.0
    parent: str | None = None
    is_due: bool = False

    @property
    def kind(self) -> str:
        """The kind of run: "search", "retrain" or "attack"."""
        return kind_of(self.name)


@dataclass(frozen=True)
class CellState:
    """A cell (one repetition of an arm) with its runs.

    Attributes:
        cell: the cell.
        steps: one step for each run of the cell, in order.
    """

    cell: Cell
    steps: tuple[Step, ...]

    @property
    def status(self) -> str:
        """Status of the cell: "finished", "failed", "stopped", "running" or "waiting"."""
        statuses = [step.status for step in self.steps]
        if set(statuses) == {"finished"}:
            return "finished"
        for status, words in (("failed", ("failed", REFUSED)), ("stopped", ("stopped",)), ("running", ("running", "stopping"))):
            if any(one in words for one in statuses):
                return status
        return WAITING

    @property
    def attack(self) -> Step:
        """The attack run that measures the endpoint (the accuracy that the study compares)."""
        return next(step for step in self.steps if step.name == "attack")


class Plan:
    """The runs of a study at one moment: existing runs, and runs that are due to be launched."""

    def __init__(self, study: Study, runs: Runs) -> None:
        """Create a plan.

        Args:
            study: the study, whose arms hold all their settings (`Study.settled`).
            runs: all existing runs of the runs folder.
        """
        self.study = study
        self.runs = runs
        self._configs = {arm.name: study.configurations(arm) for arm in study.arms}
        self._states: dict[str, RunState] = {}
        self._arms = {arm.name: arm for arm in study.arms}
        self._ranks = {arm.name: rank for rank, arm in enumerate(study.reference_first())}
        self._twins: dict[tuple[Cell, str], str] = {}

    @cached_property
    def cells(self) -> list[CellState]:
        """All cells (repetitions of arms) with their runs, in the order in which they should run."""
        return [CellState(cell, tuple(self._steps(cell))) for cell in self.study.cells()]

    def launch(self, most: int, added: Mapping[int, float] | None = None) -> list[str]:
        """Launch runs that are due, and return their ids.

        A search is due at once. Any other run is due as soon as its parent run exists. If a network must be about as large
        as another network, its retraining is due when both architectures are known. If a launch makes further runs due, they are
        left to the next plan.

        Args:
            most: maximum number of runs to launch.
            added: {search seed: time in unix seconds at which an extension of the study added it}; None without extensions.

        Raises:
            RunError: a run cannot be written, for example because the disk is full.
        """
        launched: list[str] = []
        for cell in [one.cell for one in self.cells if any(step.is_due for step in one.steps)]:
            since = (added or {}).get(cell.search_seed, self.study.created)
            while len(launched) < most and (run_id := self._launch_next(cell, since)):
                launched.append(run_id)
                self.runs.add(run_id)
        return launched

    def _launch_next(self, cell: Cell, since: float) -> str | None:
        """Launch the first due run of a cell, and return its id. Return None if none is due or if the due run cannot be launched.

        Args:
            cell: the cell.
            since: unix time in seconds at which the cell was added to the study. It sets the place of the cell's runs in the
                queue, even if they can be launched only later.
        """
        for step in self._steps(cell):
            if step.is_due:
                config = self._config(cell, step.name, step.parent)
                return None if config is None else self._submit(cell, step, config, since)
        return None

    def _submit(self, cell: Cell, step: Step, config: RunConfig, since: float) -> str | None:
        membership = {"id": self.study.id, "arm": cell.arm, "search_seed": cell.search_seed, "index": cell.index,
                      "step": step.name, "since": since, "place": self._place(cell, step)}
        method = self._arms[cell.arm].method if step.kind == "search" else None
        try:
            return submit(self.runs.root, step.kind, config, method=method, preset=self.study.preset, parent=step.parent,
                          study=membership)[0]
        except (ConfigError, GenotypeError):
            return None  # the next look at the cell tells the reason

    def _place(self, cell: Cell, step: Step) -> list[int]:
        """Return a list by which runs are ordered: the numbers of the run's retraining, search seed, arm and step.

        An extension of the study by more seeds does not change the numbers of existing runs.
        """
        return [cell.index, self.study.search_seeds.index(cell.search_seed), self._ranks[cell.arm],
                list(self._configs[cell.arm]).index(step.name)]

    def _steps(self, cell: Cell) -> Iterator[Step]:
        runs: dict[str, str] = {}
        for name in self._configs[cell.arm]:
            above = PARENT_KIND.get(kind_of(name), "")
            parent = runs.get(above)
            if above in self._configs[cell.arm] and not parent:
                step = Step(name)
            else:
                step = self._step(cell, name, parent)
            runs[name] = step.run
            yield step

    def _step(self, cell: Cell, name: str, parent: str | None) -> Step:
        try:
            config = self._config(cell, name, parent)
        except (ConfigError, GenotypeError) as refusal:
            return Step(name, status=REFUSED, cause=str(refusal))
        if config is None:
            return Step(name)
        taken = self._taken(self._arms[cell.arm], kind_of(name), config, parent)
        if taken is None:
            return Step(name, parent=parent, is_due=True)
        state = self._state(taken.id)
        return Step(name, taken.id, state.status, state.cause, taken.study != self.study.id, taken.created, parent)

    def _taken(self, arm: Arm, kind: str, config: RunConfig, parent: str | None) -> Known | None:
        """Return the existing run that a cell uses for one of its steps (search, retraining or attack), or None if there is none.

        If several runs fit, a run of this study is preferred, then a finished run, then the oldest one.
        """
        usable = []
        for known in self.runs.same(experiment_of(kind, arm.method, config), parent):
            own = known.study == self.study.id
            status = self._state(known.id).status
            foreign = known.numerics == self.study.numerics and known.is_example == self.study.example
            if own or (foreign and status not in ("failed", "stopped", "stopping")):
                usable.append((not own, status != "finished", known.created, known.id, known))
        return min(usable)[-1] if usable else None

    def _state(self, run_id: str) -> RunState:
        if run_id not in self._states:
            self._states[run_id] = compute(RunFolder(self.runs.root, run_id), with_parent=False)
        return self._states[run_id]

    def _config(self, cell: Cell, name: str, parent: str | None) -> RunConfig | None:
        """Return the configuration for one run of a cell (a repetition of an arm).

        Return None if the configuration depends on another run that is not ready yet.

        Args:
            cell: the cell.
            name: name of the run's step, such as "retrain".
            parent: id of the run's parent run; None if it has none.

        Raises:
            ConfigError, GenotypeError: the network of the cell cannot be built.
        """
        config = self._configs[cell.arm][name]
        seeds = {"search": cell.search_seed, "retrain": cell.retrain_seed}  # the seed of the attacks belongs to the protocol
        changes: dict[str, Any] = {"seed": seeds[name]} if name in seeds else {}
        if name == "retrain" and self._is_matched(cell):
            reference = self._run_of(cell, self.study.reference, "retrain")
            if not (reference and self._has_genotype(reference) and (parent is None or self._has_genotype(parent))):
                return None
            changes |= self._matched_width(config, parent, reference)
        for setting, step in REFERRING.items():
            if arms := mentioned({setting: getattr(config, setting, ())}):
                runs = [self._run_of(cell, arm, step) for arm in arms]
                if not all(run and self._state(run).status == "finished" for run in runs):
                    return None
                changes[setting] = tuple(runs) if isinstance(getattr(config, setting), tuple) else runs[0]
        return validate(type(config), config.model_dump() | changes)

    def _matched_width(self, config: RunConfig, parent: str | None, reference: str) -> dict[str, Any]:
        """Return {name of a setting: value} for the width that brings a network closest in size to a reference network.

        Args:
            config: configuration of the retraining whose width is chosen.
            parent: id of its parent search; None if it has none.
            reference: id of the retraining of the reference network.
        """
        assert isinstance(config, RetrainConfig)
        runs = self.runs.root
        target = trained_network(runs, *retraining_of(runs, reference)).cost()
        return nearest_width(trained_network(runs, config, parent), target, self.study.match)[0].width_setting

    def _is_matched(self, cell: Cell) -> bool:
        """Return True if the network of a cell must be about as large as the reference arm's network, which sets the sizes."""
        config = self._configs[cell.arm]["retrain"]
        assert isinstance(config, RetrainConfig)
        fixed = config.network != DERIVED and not self.study.matches_hand_made
        return self.study.match != "none" and cell.arm != self.study.reference and not fixed

    def _run_of(self, cell: Cell, arm: str, step: str) -> str:
        """Return the id of the run for step `step` in the corresponding cell of another arm; "" if it does not exist yet.

        The corresponding cell has the same seeds or, if the other arm lacks the search seed, the first search seed of that arm
        (`Study.twin`).
        """
        twin = self.study.twin(cell, arm)
        if not self._twins.get((twin, step)):
            self._twins[twin, step] = next((one.run for one in self._steps(twin) if one.name == step), "")
        return self._twins[twin, step]

    def _has_genotype(self, run_id: str) -> bool:
        """Return True if a run's architecture is known: the one that a search has found, or the one that a retraining uses."""
        known = self.runs[run_id]
        if known.kind == "search":
            return self._state(run_id).status == "finished"
        return not known.parent or self._has_genotype(known.parent)


def plan_of(runs: Path | str, study: Study) -> Plan:
    """Return the plan of a study, made from the runs that exist now."""
    return Plan(study, Runs(runs))



"""The declaration of a study: its arms, its seeds, and the comparisons that it will make. Imports no torch.

A study compares arms. An arm is a way to make and attack a network: the settings of a search, a retraining and an attack. An arm
may name a genotype or a hand-made network instead of a search. Each arm is repeated for several seeds of the search and, for each
of these, for several seeds of the retraining. One repetition is a cell of the study, and has its own runs: search, retraining and
attacks.

Everything that the answer depends on is declared before the first result is known: the endpoint (the accuracy in which arms are
compared), the contrasts (pairs of arms) and the smallest difference that matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.config import RunConfig
from engine.config.run import KINDS
from engine.configuring import build, recorded, validate
from engine.errors import ConfigError
from engine.registry import unknown_name
from engine.run.chain import followers

SCHEMA = 2
OLDER = (1,)  # schemas of studies that can still be read; in schema 1, hand-made networks are never matched in size
# The seed of the retraining with index i is the seed of its search plus i times this number. So the first retraining has the same
# seed as its search, as in a chain that is launched by hand.
RETRAIN_SEED_STEP = 1000
ONE_THREAD = {"threads": 1}


def kind_of(step: str) -> str:
    """Return the kind of run, "search", "retrain" or "attack", for a step such as "attack" or "attack NAME"."""
    return step.partition(" ")[0]


def mentioned(changes: Mapping[str, Any]) -> list[str]:
    """Return the names of the arms that the settings `changes` name in the form "arm:NAME"."""
    values = [[value] if isinstance(value, str) else value for value in changes.values() if isinstance(value, (str, list, tuple))]
    return [text.removeprefix("arm:") for texts in values for text in texts if isinstance(text, str) and text.startswith("arm:")]


@dataclass(frozen=True)
class Arm:
    """One arm of a study: a way to make and attack a network, which the study repeats for several seeds.

    Attributes:
        name: name of the arm, unique in its study.
        method: search method; None for an arm without a search, whose retraining names a genotype or a hand-made network.
        search, retrain, attack: {name of a setting: value} for the settings that differ from the preset. If a setting expects the
            id of a run, the text "arm:NAME" stands for the run of another arm.
        seeds: number of search seeds of the arm, if it has fewer than the study; 0 for all.
        settings: all settings of each run, as {step: {name of the setting: value}}, where a step is for example "retrain". They
            are written down at the launch, because later versions of Rampart may have other presets. Empty before the launch.
    """

    name: str
    method: str | None = None
    search: Mapping[str, Any] = field(default_factory=dict)
    retrain: Mapping[str, Any] = field(default_factory=dict)
    attack: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of run of this arm, in order: "search" (only if the arm has a search), "retrain", "attack"."""
        return KINDS if self.method else KINDS[1:]

    def changes(self, kind: str) -> Mapping[str, Any]:
        """Return the settings that differ from the preset in the arm's runs of kind `kind`."""
        return {"search": self.search, "retrain": self.retrain, "attack": self.attack}[kind]


@dataclass(frozen=True)
class Cell:
    """One repetition of an arm (not a cell of a network).

    Attributes:
        arm: name of the arm.
        search_seed: seed of the search. If the arm has no search, the number still enters the seed of the retraining.
        index: number of the retraining among those with this search seed, counted from 0.
    """

    arm: str
    search_seed: int
    index: int

    @property
    def retrain_seed(self) -> int:
        """The seed of the retraining."""
        return self.search_seed + RETRAIN_SEED_STEP * self.index


@dataclass(frozen=True)
class Study:
    """A declared comparison of arms over seeds.

    Attributes:
        question: the question that the study answers, as a sentence.
        dataset: dataset of every run, unless an arm sets another one for its search.
        preset: preset of every run.
        arms: the arms, at least one.
        search_seeds: seeds of the searches. For the statistics, one search seed is one observation.
        retrainings: number of retrainings for each search seed.
        attacks: further attack runs on every network, as {name: changed settings}. They do not measure the endpoint. A further
            attack whose settings name an arm ("arm:NAME") is left out for that arm.
        contrasts: pairs of arms that the study compares, as (first, second).
        endpoint: the compared accuracy, named by its column of the robustness table, such as "worst-case", "natural" or "pgd-20".
        margin: smallest difference of accuracies that matters, as a fraction in 0..1; None if none is declared. With a margin,
            two arms may be found equal.
        match: "macs" or "params" to give all networks with equal seeds about equal sizes. The number of channels is then chosen
            so that a network is about as large as the network of the reference arm. "none" to leave the sizes as they are.
        reference: name of the reference arm, whose networks set the sizes; "" without matching.
        analysis: "contrasts" to compare arms in pairs; "ranking" to correlate rankings of networks.
        measures: for "ranking", names of the measures (`engine.study.measures`). The networks' ranking by each measure is
            compared with their ranking by the endpoint.
        recipe: name of the question that ships with Rampart from which the study was made; "" for a study of the user's own.
        size: "demo" or "full" for a question that ships with Rampart; "" for a study of the user's own.
        id: id of the study; "" before it is launched.
        created: time of the launch in unix seconds.
        numerics: hash of the code that determines results (`engine.run.provenance.numerics`) at the launch.
        example: True for the example study that ships with Rampart.
        schema: version of the declaration, `SCHEMA` or one of `OLDER`.
    """

    question: str
    dataset: str
    preset: str
    arms: tuple[Arm, ...]
    search_seeds: tuple[int, ...]
    retrainings: int = 1
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    contrasts: tuple[tuple[str, str], ...] = ()
    endpoint: str = "worst-case"
    margin: float | None = None
    match: str = "none"
    reference: str = ""
    analysis: str = "contrasts"
    measures: tuple[str, ...] = ()
    recipe: str = ""
    size: str = ""
    id: str = ""
    created: float = 0.0
    numerics: str = ""
    example: bool = False
    schema: int = SCHEMA

    @property
    def matches_hand_made(self) -> bool:
        """True if `match` also chooses the width of hand-made networks. In `OLDER` studies, they keep their published width."""
        return self.schema not in OLDER

    def arm(self, name: str) -> Arm:
        """Return the arm with this name.

        Raises:
            ConfigError: there is no such arm.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ConfigError(unknown_name("arm", name, [arm.name for arm in self.arms]))

    def cells(self) -> list[Cell]:
        """Return all cells (repetitions of arms) in the order in which they should run.

        The arms alternate, so that an interrupted study has about equally many results in every arm.
        """
        return [Cell(arm.name, seed, index) for index in range(self.retrainings) for seed in self.search_seeds
                for arm in self.reference_first() if seed in self.seeds_of(arm)]

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """Return the search seeds of an arm."""
        return self.search_seeds[:arm.seeds] if arm.seeds else self.search_seeds

    def twin(self, cell: Cell, arm: str) -> Cell:
        """Return the cell of arm `arm` that corresponds to a cell of another arm.

        The two cells have the same retraining index and the same search seed. If `arm` lacks this search seed, the first
        search seed of `arm` is used.
        """
        seeds = self.seeds_of(self.arm(arm))
        return Cell(arm, cell.search_seed if cell.search_seed in seeds else seeds[0], cell.index)

    def reference_first(self) -> list[Arm]:
        """Return the arms, the reference arm first. It must run first, because its networks set the sizes for all other arms."""
        return sorted(self.arms, key=lambda arm: arm.name != self.reference)

    def configurations(self, arm: Arm) -> dict[str, RunConfig]:
        """Return {step: configuration} for the runs of an arm. All seeds are 0.

        The steps are "search", "retrain" and "attack", and "attack NAME" for each further attack.

        The later runs inherit settings from the first run, as `engine.run.chain.followers` describes. From a search on another
        dataset, they inherit only the split seed. Every run uses one thread unless the arm sets another number, so that each core
        can work on a run of its own.

        Raises:
            ConfigError: a setting is unknown or not allowed.
        """
        if arm.settings:
            return {step: recorded({"kind": kind_of(step), "method": arm.method if step == "search" else None, "config": values})
                    for step, values in arm.settings.items()}
        chain = self._chain(arm)
        further = {f"attack {name}": validate(type(chain["attack"]), chain["attack"].model_dump() | dict(changes))
                   for name, changes in self.attacks.items() if arm.name not in mentioned(changes)}
        return chain | further

    def mentions(self, arm: Arm) -> list[str]:
        """Return the names of the other arms whose runs this arm needs, because its settings contain "arm:NAME"."""
        further = [changes for changes in self.attacks.values() if arm.name not in mentioned(changes)]
        return [name for changes in (arm.search, arm.retrain, arm.attack, *further) for name in mentioned(changes)]

    def _chain(self, arm: Arm) -> dict[str, RunConfig]:
        """Return {kind of run: configuration} for the search, the retraining and the first attack of an arm. All seeds are 0."""
        first, *later = arm.kinds
        dataset = str(arm.changes(first).get("dataset", self.dataset))
        config = self._first(arm, first, dataset)
        if dataset == self.dataset:
            return {first: config, **dict(followers(first, config, arm.method, self.preset, later, self._changes(arm, later)))}
        # After a search on another dataset, the retraining begins a chain of its own. It takes over the seed of the splits only,
        # because for example the radius of the attack belongs to the dataset.
        kind, *rest = later
        following = build(kind, None, self.dataset, self.preset, {**self._changes(arm, [kind])[kind],
                                                                  "split_seed": config.split_seed})
        return {first: config, kind: following,
                **dict(followers(kind, following, None, self.preset, rest, self._changes(arm, rest)))}

    def _first(self, arm: Arm, kind: str, dataset: str) -> RunConfig:
        return build(kind, arm.method, dataset, self.preset, {**ONE_THREAD, **arm.changes(kind), "dataset": dataset, "seed": 0})

    def _changes(self, arm: Arm, kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {kind: {**ONE_THREAD, **arm.changes(kind)} for kind in kinds}

    def settled(self) -> Study:
        """Return a copy of the study in which every arm holds all its settings (`Arm.settings`), not only the changed ones.

        Raises:
            ConfigError: a setting of an arm is unknown or not allowed. The message names the arm.
        """
        arms = []
        for arm in self.arms:
            try:
                settings = {step: config.model_dump(mode="json") for step, config in self.configurations(arm).items()}
            except ConfigError as refusal:
                raise ConfigError(f"Arm {arm.name}: {refusal}") from None
            arms.append(replace(arm, settings=settings))
        return replace(self, arms=tuple(arms))

    def to_dict(self) -> dict[str, Any]:
        """Return the study as a JSON object, which `engine.study.parsing.from_record` can read."""
        entries = {name: getattr(self, name) for name in type(self).__dataclass_fields__ if name != "arms"}
        arms = [{name: value for name, value in vars(arm).items() if value} for arm in self.arms]
        return {**entries, "arms": arms}

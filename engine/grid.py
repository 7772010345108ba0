"""Grids: launches of many chains that differ in their seeds, in the method, or in the values of chosen settings.

An axis of a grid is a name and its values. A name is "method", "dataset", a setting of the first run ("epochs"), or a setting of
a later run with the kind in front ("retrain.epochs"). Every combination of values gives one chain, which is a run with its
followers. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from engine.config import RunConfig
from engine.configuration_file import Configuration, value_of
from engine.configuring import build, config_class
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, RampartError, shortened
from engine.registry import unknown_name
from engine.requests import Launch
from engine.run.chain import followers, inherited, kinds_after
from engine.run.folder import RunFolder
from engine.search.methods.registry import METHODS

MOST_CHAINS = 500
NAMED = ("method", "dataset")  # axes that are not settings
SEEDS = ("seed", "split_seed")  # settings that change no cost


@dataclass(frozen=True)
class Grid:
    """The axes of a grid.

    Attributes:
        axes: {name of the axis: texts of its values}, slowest axis first. Empty for a single chain.
    """

    axes: Mapping[str, tuple[str, ...]]

    @property
    def chains(self) -> int:
        """The number of chains, which is the number of combinations of values."""
        number = 1
        for values in self.axes.values():
            number *= len(values)
        return number

    def runs_of(self, kinds: Sequence[str]) -> dict[str, int]:
        """Return {kind of run: number of different runs}. Two chains share all runs before the first run whose settings differ.

        Args:
            kinds: kinds of the runs of a chain, in order.
        """
        numbers, number = {}, 1
        for kind in kinds:
            for name, values in self.axes.items():
                if (name.rpartition(".")[0] or kinds[0]) == kind:
                    number *= len(values)
            numbers[kind] = number
        return numbers

    @property
    def words(self) -> str:
        """Description of the grid's size, for example "5 seeds × 3 methods"."""
        return " × ".join(f"{len(values)} {_noun(name, len(values))}" for name, values in self.axes.items())


@dataclass(frozen=True)
class Variant:
    """A group of chains of a grid that differ at most in their seeds and therefore cost the same.

    Attributes:
        launch: one of these chains. Its name lists the values of all axes except seeds; "" if all axes are seeds.
        steps: (kind, validated configuration) of each run of the chain.
        counts: {kind: number of runs}. Runs shared with an earlier variant count only in that variant.
    """

    launch: Launch
    steps: list[tuple[str, RunConfig]]
    counts: Mapping[str, int]


def read_values(name: str, text: str) -> tuple[str, ...]:
    """Return the values of an axis from the user's text.

    Values are separated by commas or, if a value contains commas itself, by semicolons. Seeds may also be ranges.

    Args:
        name: name of the axis, for error messages.
        text: the text, for example "0.1, 0.3, 1" or, for a seed, "0-4, 7".

    Raises:
        ConfigError: there is no value, a value is given twice, or a range is not valid.
    """
    parts = [part.strip() for part in text.split(";" if ";" in text else ",") if part.strip()]
    if name.rpartition(".")[2] in ("seed", "split_seed"):
        parts = [one for part in parts for one in _seeds(part)]
    if not parts:
        raise ConfigError(f"A grid needs at least one value of {name}, got {shortened(text)}; write values such as 0.1, 0.3, 1.")
    if twice := sorted({part for part in parts if parts.count(part) > 1}):
        raise ConfigError(f"Each value of {name} must be given only once, got {', '.join(twice)} again; leave it out.")
    return tuple(parts)


def _seeds(text: str) -> list[str]:
    """Return the seeds in one part of a list: a number such as "7" or a range such as "0-4"."""
    found = re.fullmatch(r"(\d{1,10})(?:\s*-\s*(\d{1,10}))?", text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if low > high or high - low >= MOST_CHAINS:
        raise ConfigError(f"Seeds must be whole numbers or ranges of at most {MOST_CHAINS}, such as 0-4 or 0, 3, 7, got "
                          f"{shortened(text)}; correct the list.")
    return [str(seed) for seed in range(low, high + 1)]


def read_grid(base: Configuration, axes: Iterable[tuple[str, str]], seeds: str = "") -> Grid:
    """Return a grid from the user's texts.

    Args:
        base: the configuration that all chains have in common.
        axes: (name, values as text) of each axis. Names may have hyphens in place of underscores. The last words of a setting's
            name, such as "lambda", are enough if only one setting ends with them.
        seeds: text of the seeds of the first run; "" for the seed of `base` alone.

    Raises:
        ConfigError: a name is unknown or given twice, a list of values cannot be read, or there are too many combinations.
    """
    read: dict[str, tuple[str, ...]] = {}
    for name, text in [*([("seed", seeds)] if seeds.strip() else []), *axes]:
        axis = full_name(base, name.strip())
        if axis in read:
            raise ConfigError(f"Each setting of a grid must be named only once, got {axis} again; put its values together.")
        read[axis] = read_values(axis, text)
    grid = Grid(read)
    if grid.chains > MOST_CHAINS:
        raise ConfigError(f"At most {MOST_CHAINS} chains can be launched together, got {grid.chains} ({grid.words}); launch "
                          "fewer values at a time.")
    return grid


def full_name(base: Configuration, name: str) -> str:
    """Return the full name of an axis, given a name that the user may have abbreviated.

    Raises:
        ConfigError: there is no such setting, or several settings fit.
    """
    name = name.replace("-", "_")
    kind, dot, setting = name.rpartition(".")
    kind = kind or base.kind
    if kind == base.kind and setting in NAMED and not (setting == "method" and kind != "search"):
        return setting
    if kind not in (base.kind, *base.then):
        raise ConfigError(unknown_name("run in this chain", kind, (base.kind, *base.then)))
    known = [one for one in config_class(kind, base.method if kind == "search" else None).model_fields if one != "dataset"]
    fitting = [setting] if setting in known else [one for one in known if one.endswith(f"_{setting}")]
    if len(fitting) > 1:
        raise ConfigError(f"A setting of a grid must be named in full, got {name!r}; did you mean {' or '.join(fitting)}?")
    if not fitting and kind == "search" and any(setting in one.config.model_fields for _, one in METHODS.items()):
        fitting = [setting]  # another method of the grid may have it
    if not fitting:
        raise ConfigError(unknown_name(f"setting of a {kind} run", setting, known))
    return fitting[0] if kind == base.kind else f"{kind}.{fitting[0]}"


def launches_of(base: Configuration, grid: Grid, parent: str | None = None) -> list[Launch]:
    """Return one launch for each combination of values. The name of a launch describes its combination.

    Args:
        base: the configuration that all chains have in common. Values of the grid override its changes.
        grid: the axes.
        parent: id of the run that each chain follows; None if the chains follow no run.

    Raises:
        ConfigError: a method or dataset is unknown.
    """
    return [_launch(base, dict(zip(grid.axes, values)), parent) for values in product(*grid.axes.values())]


def variants_of(runs: Path, base: Configuration, grid: Grid, parent: str | None = None) -> list[Variant]:
    """Return the chains of a grid, grouped into variants. The chains of one variant differ only in their seeds.

    Args:
        runs: folder of all runs.
        base: the configuration that all chains have in common.
        grid: the axes.
        parent: id of the run that each chain follows; None if the chains follow no run.

    Raises:
        ConfigError: a combination of values is not possible. The message names it.
    """
    seeds = Grid({name: values for name, values in grid.axes.items() if name.rpartition(".")[2] in SEEDS})
    others = {name: values for name, values in grid.axes.items() if name not in seeds.axes}
    kinds = (base.kind, *base.then)
    numbers, counted, found = seeds.runs_of(kinds), set(), []
    for values in product(*others.values()):
        chosen = dict(zip(others, values))
        launch = _launch(base, chosen, parent)
        counts, before = {}, []
        for kind in kinds:
            before += [value for name, value in chosen.items() if (name.rpartition(".")[0] or kinds[0]) == kind]
            identity = (kind, *before)
            counts[kind] = 0 if identity in counted else numbers[kind]
            counted.add(identity)
        found.append(Variant(launch, _steps(runs, launch), counts))
    return found


def _steps(runs: Path, launch: Launch) -> list[tuple[str, RunConfig]]:
    """Return the (kind, validated configuration) of each run of a launch."""
    changes = dict(launch.config) if isinstance(launch.config, Mapping) else launch.config.model_dump()
    try:
        config = build(launch.kind, launch.method, str(changes["dataset"]), launch.preset, changes)
        if launch.parent:
            config = inherited(RunFolder(runs, launch.parent).read_run(), config, set(changes))
        return [(launch.kind, config), *followers(launch.kind, config, launch.method, launch.preset, launch.then,
                                                  launch.then_changes)]
    except RampartError as refusal:
        if not launch.name:
            raise
        raise ConfigError(f"The combination {launch.name} is not possible. {refusal}") from None


def _launch(base: Configuration, chosen: Mapping[str, str], parent: str | None) -> Launch:
    method, dataset = chosen.get("method", base.method), chosen.get("dataset", base.dataset)
    if dataset not in DATASETS:
        raise ConfigError(unknown_name("dataset", dataset, DATASETS))
    own: dict[str, dict[str, Any]] = {base.kind: {}, **{kind: {} for kind in kinds_after(base.kind)}}
    for name, text in chosen.items():
        kind, _, setting = name.rpartition(".")
        kind = kind or base.kind
        if name not in NAMED:
            own[kind][setting] = setting_value(config_class(kind, method if kind == "search" else None), setting, text)
    then_changes = {kind: {**base.then_changes.get(kind, {}), **own[kind]} for kind in kinds_after(base.kind)}
    return Launch(base.kind, {"dataset": dataset, **base.changes, **own[base.kind]}, method, base.preset, parent, base.then,
                  {kind: changes for kind, changes in then_changes.items() if changes}, combination_words(chosen))


def setting_value(cls: type[RunConfig], name: str, text: str) -> Any:
    """Convert the text of a value to the type of its setting. "yes" and "on" also stand for True, "no" and "off" for False.

    If the class has no such setting, return the text unchanged; `engine.configuring` then rejects it.
    """
    if name not in cls.model_fields:
        return text
    info = cls.model_fields[name]
    if info.annotation is bool and text.lower() in ("yes", "no", "on", "off", "true", "false"):
        return text.lower() in ("yes", "on", "true")
    return value_of(info, text)


def combination_words(chosen: Mapping[str, str]) -> str:
    """Describe a combination of values, for example as "seed 0, method dsara, retrain epochs 3"."""
    return ", ".join(f"{name.replace('.', ' ').replace('_', ' ')} {value}" for name, value in chosen.items())


def _noun(name: str, number: int) -> str:
    if number != 1 and name in ("seed", *NAMED):
        return f"{name}s"
    words = name.replace(".", " ").replace("_", " ")
    return words if name in ("seed", *NAMED) else f"value{'' if number == 1 else 's'} of {words}"


def runs_in(chains: Sequence[Sequence[str]]) -> list[str]:
    """Return the ids of all runs of several chains, each once, in order."""
    return list(dict.fromkeys(run_id for chain in chains for run_id in chain))

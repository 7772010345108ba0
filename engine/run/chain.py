"""Chains of runs, for example a search, its retraining and the attack on the retrained network.

This module checks the order of the runs in a chain, and passes settings from earlier runs to later runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from engine.config import RetrainConfig, RunConfig
from engine.config.run import KINDS
from engine.configuring import build, config_class, preset_values, split_seed_of, validate
from engine.errors import ConfigError
from engine.run import admission

# Settings that mean the same for every kind of run. Later runs of a chain inherit a changed value. They do not inherit a preset's
# value, because presets differ by kind, for example in threads.
SHARED = ("epsilon", "step_size", "normalise", "images", "seed", "device", "threads")
NOUNS = {"search": "search", "retrain": "retraining", "attack": "attack"}


def followers(kind: str, config: RunConfig, method: str | None = None, preset: str = "quick", then: Sequence[str] = (),
              then_changes: Mapping[str, Mapping[str, Any]] | None = None) -> list[tuple[str, RunConfig]]:
    """Return [(kind, configuration)], with one entry per follower of a run.

    A follower is a run that starts when the run before it has finished. Its settings come from these sources:

    - Dataset, preset and split seed are taken from the first run. All runs of a chain use the same splits, so no image used in
      the search or the training is ever attacked.
    - `SHARED` lists settings with the same meaning in all kinds of run. If an earlier run of the chain changes one of them, the
      changed value replaces the preset's.
    - The changes in `then_changes` override all other values.

    Args:
        kind: kind of the first run.
        config: configuration of the first run.
        method: search method of the first run; ignored if it is not a search.
        preset: preset of the first run.
        then: kinds of the followers in order, for example ("retrain", "attack").
        then_changes: changed settings of the followers, as {kind: {name of the setting: value}}.

    Raises:
        ConfigError: the kinds are out of order, there are changes for a kind that is not among the followers, or the
            configuration of a follower cannot work.
    """
    then_changes = then_changes or {}
    _check_order(kind, tuple(then), then_changes)
    preset_of_first = preset_values(kind, method, config.dataset, preset)
    chosen = {name: value for name in SHARED
              if name in preset_of_first and (value := getattr(config, name)) != preset_of_first[name]}
    runs = []
    for follower in then:
        own = then_changes.get(follower, {})
        cls = config_class(follower)
        passed_on = {name: value for name, value in chosen.items() if name in cls.model_fields and name not in cls.not_inherited}
        try:
            following = build(follower, None, config.dataset, preset, {"split_seed": config.split_seed, **passed_on, **own})
            _check_follower(follower, following, config)
        except ConfigError as refusal:
            raise ConfigError(f"The {NOUNS[follower]} that follows: {refusal}") from None
        chosen |= {name: getattr(following, name) for name in SHARED if name in own}
        runs.append((follower, following))
    return runs


def inherited(parent: Mapping[str, Any], config: RunConfig, explicit: Collection[str]) -> RunConfig:
    """Return the configuration of a run that follows an existing run, including the settings that it inherits.

    The run inherits the split seed of its parent, and each setting in `SHARED` that the parent changed from its preset's value.

    Args:
        parent: run.json of the parent.
        config: configuration of the following run before it inherits settings.
        explicit: settings that the user has chosen for the following run. They keep their values.

    Raises:
        ConfigError: the user has chosen another split seed than the parent's, so the run could attack training images.
    """
    seed = split_seed_of(parent)
    if "split_seed" in explicit and config.split_seed != seed:
        raise ConfigError(problems={"split_seed": (
            f"split_seed must be {seed} as in the parent {parent['id']}, so that no training image is attacked, got "
            f"{config.split_seed}; leave it out.")})
    values = {name: value for name, value in _chosen_in(parent).items()
              if name in type(config).model_fields and name not in config.not_inherited and name not in explicit}
    return validate(type(config), config.model_dump() | values | {"split_seed": seed})


def _chosen_in(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name of the setting: value} for the settings in `SHARED` in which a run differs from its preset.

    `SHARED` lists the settings that later runs of a chain inherit. The result is empty if the preset of the run is unknown, for
    example for an imported run.
    """
    config = run["config"]
    try:
        usual = preset_values(run["kind"], run.get("method"), str(config.get("dataset")), str(run.get("preset")))
    except ConfigError:
        return {}
    return {name: config[name] for name in SHARED if name in config and name in usual and config[name] != usual[name]}


def kinds_after(kind: str) -> tuple[str, ...]:
    """Return the kinds of run that can follow a run of this kind, in the order search, retrain, attack."""
    return KINDS[KINDS.index(kind) + 1:]


def _check_order(kind: str, then: tuple[str, ...], then_changes: Mapping[str, Any]) -> None:
    """Check that the kinds of the followers are in order, and that every kind in `then_changes` is also in `then`."""
    following = kinds_after(kind)
    if then != following[:len(then)]:
        raise ConfigError(f"A run of kind {kind} can be followed by {' then '.join(following) or 'nothing'}, "
                          f"got {', '.join(then)}; give --then {','.join(following) or 'nothing'} or leave it out.")
    for follower in then_changes:
        if follower not in then:
            raise ConfigError(f"Settings of {follower} need {follower} in --then, got {','.join(then) or 'nothing'}; add it to "
                              "--then or leave the settings out.")


def _check_follower(kind: str, following: RunConfig, first: RunConfig) -> None:
    """Check that a follower (a run that starts when the first run has finished) can run after the first run.

    It must use the dataset and splits of the first run, and its settings must be valid.
    """
    for name in ("dataset", "split_seed"):
        if getattr(following, name) != getattr(first, name):
            raise ConfigError(f"{name} must be {getattr(first, name)!r} as in the first run of the chain, "
                              f"got {getattr(following, name)!r}; leave it out.")
    if isinstance(following, RetrainConfig):
        admission.check_follows(following)
        admission.check_arrangement(following, first.model_dump())
    admission.check_config(kind, following)

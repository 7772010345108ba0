"""Chains of runs: the order of kinds, and the settings that each run inherits from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.config import RetrainConfig, RunConfig
from engine.config.run import KINDS
from engine.configuring import build, config_class, preset_values, split_seed_of
from engine.errors import ConfigError
from engine.run import admission

# Settings that mean the same for every kind of run. Later runs of a chain inherit a changed value. They do not inherit a preset's
# value, because presets differ by kind, for example in threads.
SHARED = ("epsilon", "step_size", "normalise", "images", "seed", "device", "threads")
NOUNS = {"search": "search", "retrain": "retraining", "attack": "attack"}


def followers(kind: str, config: RunConfig, method: str | None = None, preset: str = "quick", then: Sequence[str] = (),
              then_changes: Mapping[str, Mapping[str, Any]] | None = None) -> list[tuple[str, RunConfig]]:
    """Return (kind, configuration) of each follower, in order.

    A follower starts from the same dataset and preset as the first run. Changed `SHARED` settings of earlier runs override the
    preset, and the follower's own changes override both. All runs of a chain share their splits, so no image used in the search
    or the training is ever attacked.

    Args:
        kind, config, method, preset: the first run; `method` matters only for a search.
        then: kinds of the followers, for example ("retrain", "attack").
        then_changes: changed settings of followers, by kind.

    Raises:
        ConfigError: kinds out of order, changes for a kind that does not follow, or a follower that cannot work.
    """
    then_changes = then_changes or {}
    _check_order(kind, tuple(then), then_changes)
    preset_of_first = preset_values(kind, method, config.dataset, preset)
    chosen = {name: value for name in SHARED
              if name in preset_of_first and (value := getattr(config, name)) != preset_of_first[name]}
    runs = []
    for follower in then:
        own = then_changes.get(follower, {})
        inherited = {name: value for name, value in chosen.items() if name in config_class(follower).model_fields}
        try:
            following = build(follower, None, config.dataset, preset, {"split_seed": config.split_seed, **inherited, **own})
            _check_follower(follower, following, config)
        except ConfigError as refusal:
            raise ConfigError(f"The {NOUNS[follower]} that follows: {refusal}") from None
        chosen |= {name: getattr(following, name) for name in SHARED if name in own}
        runs.append((follower, following))
    return runs


def with_splits_of(parent: Mapping[str, Any], config: RunConfig) -> RunConfig:
    """Return the configuration with the split seed of its parent.

    Args:
        parent: run.json of the parent.
        config: configuration of the follower.

    Raises:
        ConfigError: the configuration has another split seed.
    """
    seed = split_seed_of(parent)
    if config.split_seed not in (seed, RunConfig.model_fields["split_seed"].default):
        raise ConfigError(problems={"split_seed": (
            f"split_seed must be {seed} as in the parent {parent['id']}, so that no training image is attacked, got "
            f"{config.split_seed}; leave it out.")})
    return config.model_copy(update={"split_seed": seed})


def kinds_after(kind: str) -> tuple[str, ...]:
    """Return the kinds of run that can follow a run of this kind, in order."""
    return KINDS[KINDS.index(kind) + 1:]


def _check_order(kind: str, then: tuple[str, ...], then_changes: Mapping[str, Any]) -> None:
    """Check the order of the kinds, and that every changed kind is among the followers."""
    following = kinds_after(kind)
    if then != following[:len(then)]:
        raise ConfigError(f"A run of kind {kind} can be followed by {' then '.join(following) or 'nothing'}, "
                          f"got {', '.join(then)}; give --then {','.join(following) or 'nothing'} or leave it out.")
    for follower in then_changes:
        if follower not in then:
            raise ConfigError(f"Settings of {follower} need {follower} in --then, got {','.join(then) or 'nothing'}; add it to "
                              "--then or leave the settings out.")


def _check_follower(kind: str, following: RunConfig, first: RunConfig) -> None:
    """Check that a follower uses the images of the first run and fits its dataset and the search's cells."""
    for name in ("dataset", "split_seed"):
        if getattr(following, name) != getattr(first, name):
            raise ConfigError(f"{name} must be {getattr(first, name)!r} as in the first run of the chain, "
                              f"got {getattr(following, name)!r}; leave it out.")
    if isinstance(following, RetrainConfig):
        admission.check_follows(following)
        admission.check_arrangement(following, first.model_dump())
    admission.check_config(kind, following)

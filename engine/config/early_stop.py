"""Settings that end a search or a retraining before its last epoch. Off by default. A run that ends early counts as finished."""

from __future__ import annotations

from typing import Any

from engine.config.fields import setting

GROUP = "Early stop"
# Names of all these settings. A run with a rule that is off is the same experiment as one of a version without the rule.
EARLY_STOPS = frozenset({"stop_minutes", "stop_unchanged", "stop_parameter_free", "stop_without_gain"})


def stop_minutes(what: str) -> Any:
    """Return the field for the setting `stop_minutes`, a limit on the computing time of a run.

    Args:
        what: sentence that says where the run ends when its time is used up.
    """
    return setting(
        None, f"Ends the run once it has computed for this long, counted over all attempts without the time in between. {what} "
        "The learning rate follows the schedule of all epochs nevertheless.", group=GROUP, unit="min", empty="no limit",
        deviation="at most {value} min", gt=0, le=1_000_000)


def stop_unchanged() -> Any:
    """Return the field for the setting `stop_unchanged` of a search with architecture weights."""
    return setting(
        None, "Ends the search once the derived genotype has stayed the same for this many epochs. Epochs that do not train the "
        "architecture weights do not count.", group=GROUP, unit="epochs", empty="off",
        deviation="ended after {value} epochs without change", ge=1, le=10_000)


def stop_parameter_free() -> Any:
    """Return the field for the setting `stop_parameter_free` of a search with architecture weights."""
    return setting(
        None, "Ends the search after an epoch in which at least this share of the operations in the derived genotype is free of "
        "parameters (pooling, skip connection, none): the known collapse of DARTS. Epochs that do not train the architecture "
        "weights do not count.", group=GROUP, empty="off", deviation="ended at a parameter-free share of {value}", gt=0, le=1)


def stop_without_gain() -> Any:
    """Return the field for the setting `stop_without_gain` of a retraining."""
    return setting(
        None, "Ends the retraining once the last measurements within this many epochs have brought no better checkpoint on the "
        "select split.", group=GROUP, unit="epochs", empty="off", deviation="ended after {value} epochs without gain", ge=1,
        le=10_000)

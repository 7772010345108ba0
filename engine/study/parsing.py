"""Studies as files: parse a study from JSON or YAML, and check it. Imports no torch.

Example of a file:
    question: Does the space with accurate cells first beat the conventional one?
    dataset: digits
    preset: quick
    search_seeds: 5
    retrainings: 2
    match: macs
    reference: ARNAS space
    arms:
      - {name: ARNAS space, method: arnas}
      - name: Conventional space
        method: arnas
        search: {placement: normal, width_ratio: "1:2:4"}
    contrasts: [[ARNAS space, Conventional space]]
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from engine.architecture.genotype import DERIVED
from engine.attack.catalogue import NATURAL, WORST
from engine.config import PRESETS, AttackConfig, RetrainConfig, pixels_text
from engine.configuration_file import read_record, settings_from
from engine.configuring import config_class
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, shortened
from engine.registry import unknown_name
from engine.run.chain import SHARED
from engine.study.declaration import OLDER, RETRAIN_SEED_STEP, SCHEMA, Arm, Study
from engine.study.measures import measure_names
from engine.study.names import check_names

LONGEST_NAME, LONGEST_QUESTION = 60, 300
MOST_ARMS, MOST_SEEDS, MOST_RETRAININGS, MOST_CELLS = 100, 100, 20, 2000
LARGEST_SEED = 1_000_000
MATCHES = ("none", "macs", "params")
ANALYSES = ("contrasts", "ranking")
# Entries that a user writes. The others (`SAVED`) are added at the launch.
ENTRIES = ("question", "dataset", "preset", "arms", "search_seeds", "retrainings", "attacks", "contrasts", "endpoint", "margin",
           "match", "reference", "analysis", "measures", "recipe", "size")
REQUIRED = ("question", "dataset", "arms")  # the other entries have defaults
SAVED = ("schema", "id", "created", "numerics", "example")
ARM_ENTRIES = ("name", "method", "search", "retrain", "attack", "seeds")
WITHOUT_RESULT = {"batch_size", "threads", "device"}  # settings of an attack that affect none of its results
ADVICE = "the page of any study exports a file to start from"


def from_text(text: str | bytes) -> Study:
    """Parse and check a study that a user has written, in JSON or YAML.

    Raises:
        ConfigError: the text is not a study, or an entry is not allowed. The message names the wrong entry.
    """
    return checked(from_record(read_written(text)))


def read_written(text: str | bytes) -> dict[str, Any]:
    """Return the entries of a study that a user has written, in JSON or YAML. Entries that the launch adds are left out.

    The launch also adds an entry `settings` with all settings of a run to every arm. It is left out, too, because it would
    override the changes that the user makes in the arm's entries search, retrain and attack.

    Raises:
        ConfigError: the text is neither JSON nor YAML, is not an object, gives a name twice, or has an unknown schema version.
    """
    record = read_record(text, REQUIRED, file="study", advice=ADVICE)
    if isinstance(arms := record.get("arms"), list):
        record["arms"] = [{name: value for name, value in arm.items() if name != "settings"} if isinstance(arm, dict) else arm
                          for arm in arms]
    _check_schema(record)
    return {name: value for name, value in record.items() if name not in SAVED}


def from_record(record: Mapping[str, Any]) -> Study:
    """Return the study that a JSON object describes. Only `checked` tells whether it can be launched.

    Entries that are missing get their defaults. Without contrasts (pairs of arms to compare), every arm is compared with the
    reference arm or, if there is none, with the first arm.

    Raises:
        ConfigError: an entry is unknown, missing or of the wrong type.
    """
    for name in record:
        if name not in (*ENTRIES, *SAVED):
            raise ConfigError(unknown_name("entry of a study", name, ENTRIES))
    _check_schema(record)
    if missing := [name for name in REQUIRED if record.get(name) is None]:
        raise ConfigError(f"A study needs {' and '.join(missing)}, which this one does not have; `rampart study new space "
                          "--print` prints a complete study.")
    arms = tuple(_arm(one) for one in _list(record, "arms"))
    reference = _text(record, "reference", "")
    base = reference or (arms[0].name if arms else "")
    analysis = _text(record, "analysis", "contrasts")
    contrasts = tuple(_pair(one) for one in _list(record, "contrasts", [])) or tuple(
        (base, arm.name) for arm in arms if arm.name != base and analysis == "contrasts")
    return Study(
        question=_text(record, "question"), dataset=_text(record, "dataset"), preset=_text(record, "preset", "quick"), arms=arms,
        search_seeds=_seeds(record.get("search_seeds", 5)), retrainings=_whole(record, "retrainings", 1), contrasts=contrasts,
        attacks=_attacks(record.get("attacks") or {}), endpoint=_text(record, "endpoint", WORST),
        margin=_number(record, "margin"), match=_text(record, "match", "none"), measures=_texts(record, "measures"),
        reference=reference, analysis=analysis, recipe=_text(record, "recipe", ""),
        size=_text(record, "size", ""), id=_text(record, "id", ""), created=_number(record, "created") or 0.0,
        numerics=_text(record, "numerics", ""), example=bool(record.get("example", False)),
        schema=int(record.get("schema", SCHEMA)))


def checked(study: Study) -> Study:
    """Return `study` after checking that it can be launched.

    Raises:
        ConfigError: a name is unknown or given twice, a number is out of range, or a setting of an arm is not allowed.
    """
    _check_entries(study)
    _check_arms(study)
    check_size(study)
    _check_contrasts(study)
    _check_matching(study)
    _check_mentions(study)
    _check_arms_differ(study)
    _check_further_attacks(study)
    _check_endpoint(study)
    _check_measures(study)
    return study


def exported(study: Study) -> dict[str, Any]:
    """Return the study as a JSON object that a user can edit and launch again. Entries that the launch added are left out."""
    record = {name: value for name, value in study.to_dict().items() if name in ENTRIES and value not in ("", None, {})}
    record["arms"] = [{name: value for name, value in arm.items() if name in ARM_ENTRIES} for arm in record["arms"]]
    return record


def _check_schema(record: Mapping[str, Any]) -> None:
    if record.get("schema", SCHEMA) not in (SCHEMA, *OLDER):
        raise ConfigError(f"schema of a study must be {SCHEMA}, got {shortened(record['schema'])}; use the version of Rampart "
                          "that wrote the study.")


def _refuse(name: str, expected: str, actual: Any) -> ConfigError:
    return ConfigError(problems={name: f"{name} of a study must be {expected}, got {shortened(actual)}; {ADVICE}."})


def _text(record: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = record.get(name, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise _refuse(name, "a text", value)
    return value.strip()


def _list(record: Mapping[str, Any], name: str, default: list[Any] | None = None) -> Sequence[Any]:
    value = record.get(name, default)
    if not isinstance(value, (list, tuple)):
        raise _refuse(name, "a list", value)
    return value


def _texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = _list(record, name, [])
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise _refuse(name, "a list of names", values)
    return tuple(value.strip() for value in values)


def _as_whole(value: Any) -> int | None:
    """Return a value of the file as an int if it is a whole number or the text of a whole number, otherwise None."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(record: Mapping[str, Any], name: str, default: int) -> int:
    value = _as_whole(record.get(name, default))
    if value is None:
        raise _refuse(name, "a whole number", record[name])
    return value


def _number(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    try:
        number = None if value is None else math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise _refuse(name, "a number", value)
    return number


def _seeds(value: Any) -> tuple[int, ...]:
    """Return the search seeds of an entry. A number n stands for the seeds 0 to n - 1."""
    if (count := _as_whole(value)) is not None:
        if not 1 <= count <= MOST_SEEDS:
            raise _refuse("search_seeds", f"1 to {MOST_SEEDS} seeds", count)
        return tuple(range(count))
    seeds = [_as_whole(one) for one in value] if isinstance(value, (list, tuple)) else [None]
    if None in seeds:
        raise _refuse("search_seeds", "a number of seeds or a list of seeds", value)
    return tuple(seed for seed in seeds if seed is not None)


def _pair(value: Any) -> tuple[str, str]:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(name, str) for name in value):
        raise _refuse("contrasts", "pairs of names of arms", value)
    return value[0].strip(), value[1].strip()


def _arm(record: Any) -> Arm:
    if not isinstance(record, Mapping):
        raise _refuse("arms", "objects with a name", record)
    for name in record:
        if name not in (*ARM_ENTRIES, "settings"):
            raise ConfigError(unknown_name("entry of an arm", name, ARM_ENTRIES))
    name = _text({"name of an arm": record.get("name")}, "name of an arm")
    method = record.get("method") or None
    if method is not None and not isinstance(method, str):
        raise _refuse("method of an arm", "the name of a search method", method)
    if method is None and record.get("search"):
        raise ConfigError(f"Arm {name} has settings of a search and no method; name the method or leave the settings out.")
    seeds = _as_whole(0 if record.get("seeds") is None else record["seeds"])
    if seeds is None or record.get("seeds") is not None and seeds < 1:
        raise ConfigError(f"seeds of arm {name} must be a whole number from 1, got {shortened(record['seeds'])}; leave it out "
                          "for all search seeds of the study.")
    search = _changes(config_class("search", method), name, "search", record) if method else {}
    return Arm(name, method, search, _changes(RetrainConfig, name, "retrain", record),
               _changes(AttackConfig, name, "attack", record), seeds, record.get("settings", {}))


def _attacks(record: Any) -> dict[str, dict[str, Any]]:
    """Return the attacks beyond the first one as {name: changed settings}."""
    if not isinstance(record, Mapping) or not all(isinstance(name, str) and name.strip() for name in record):
        raise _refuse("attacks", "changed settings by name", record)
    return {name.strip(): settings_from(AttackConfig, f"attack {name}", changes) for name, changes in record.items()}


def _changes(cls: type[Any], arm: str, kind: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changed settings of one kind of run. Only a search may have another dataset than the study."""
    if not isinstance(record.get(kind) or {}, Mapping):
        raise ConfigError(f"{kind} of arm {arm} must be settings by name such as {{threads: 1}}, got {shortened(record[kind])}; "
                          f"{ADVICE}.")
    values = dict(record.get(kind) or {})
    dataset = values.pop("dataset", None) if kind == "search" else None
    changes = settings_from(cls, f"{kind} of arm {arm}", values)
    if taken := sorted({"seed", "match", "match_to"} & set(changes)) if kind != "attack" else []:
        raise ConfigError(f"{', '.join(taken)} of arm {arm} must be left out, because the study sets the seeds of its runs and "
                          "the size of its networks (search_seeds, retrainings, match).")
    return changes | ({"dataset": dataset} if dataset else {})


def _check_entries(study: Study) -> None:
    def check(name: str, good: bool, expected: str, actual: Any) -> None:
        if not good:
            raise _refuse(name, expected, actual)

    DATASETS[study.dataset]
    check_names(study)
    check("question", len(study.question) <= LONGEST_QUESTION, f"at most {LONGEST_QUESTION} characters", len(study.question))
    check("preset", study.preset in PRESETS, f"one of {', '.join(PRESETS)}", study.preset)
    check("search_seeds", len(set(study.search_seeds)) == len(study.search_seeds), "different seeds", study.search_seeds)
    check("search_seeds", all(0 <= seed < LARGEST_SEED for seed in study.search_seeds), f"from 0 to {LARGEST_SEED - 1}",
          study.search_seeds)
    check("retrainings", 1 <= study.retrainings <= MOST_RETRAININGS, f"from 1 to {MOST_RETRAININGS}", study.retrainings)
    check("margin", study.margin is None or 0 < study.margin < 1, "between 0 and 1, a difference of accuracies", study.margin)
    check("match", study.match in MATCHES, f"one of {', '.join(MATCHES)}", study.match)
    check("analysis", study.analysis in ANALYSES, f"one of {', '.join(ANALYSES)}", study.analysis)


def _check_seeds_apart(study: Study) -> None:
    """Check that no two search seeds give the same seed to a retraining, so that no run counts for two of them."""
    seeds = [seed + RETRAIN_SEED_STEP * index for seed in study.search_seeds for index in range(study.retrainings)]
    if len(set(seeds)) < len(seeds):
        raise _refuse("search_seeds", f"seeds that do not differ by {RETRAIN_SEED_STEP} or a small multiple of it, because the "
                      "retrainings would have equal seeds", ", ".join(map(str, study.search_seeds)))


def check_size(study: Study) -> None:
    """Check that a study does not have too many seeds or cells (repetitions of arms). Also call this when a study is extended.

    Raises:
        ConfigError: there are too many, or two search seeds give the same seed to a retraining.
    """
    if not 1 <= len(study.search_seeds) <= MOST_SEEDS:
        raise _refuse("search_seeds", f"1 to {MOST_SEEDS} seeds", len(study.search_seeds))
    cells = len(study.arms) * len(study.search_seeds) * study.retrainings
    if cells > MOST_CELLS:
        raise ConfigError(f"A study can have at most {MOST_CELLS} cells (arms times search seeds times retrainings), got "
                          f"{cells}; divide it into several studies.")
    _check_seeds_apart(study)


def _check_arms(study: Study) -> None:
    if not 1 <= len(study.arms) <= MOST_ARMS:
        raise _refuse("arms", f"1 to {MOST_ARMS} arms", len(study.arms))
    names = [arm.name for arm in study.arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(problems={"arms": f"Several arms are named {', '.join(twice)}; give each arm its own name."})
    for arm in study.arms:
        if arm.seeds > len(study.search_seeds):
            raise ConfigError(f"seeds of arm {arm.name} must be at most {len(study.search_seeds)}, the number of search seeds of "
                              f"the study, got {arm.seeds}; lower it or raise search_seeds.")
        if len(arm.name) > LONGEST_NAME:
            raise _refuse("arms", f"arms with names of at most {LONGEST_NAME} characters", arm.name)
        if not arm.method and not (arm.retrain.get("genotype") or arm.retrain.get("network")):
            raise ConfigError(f"Arm {arm.name} needs a search method, a genotype or the name of a network; add method, or "
                              "genotype or network to its retrain settings.")
        if arm.method and arm.retrain.get("genotype"):
            raise ConfigError(f"Arm {arm.name} has a search method and the genotype of another network, so its retraining would "
                              "not use what the search finds; leave out method or genotype.")


def _check_contrasts(study: Study) -> None:
    for name in chain.from_iterable(study.contrasts):
        study.arm(name)
    for first, second in study.contrasts:
        if first == second:
            raise _refuse("contrasts", "pairs of different arms", [first, second])
    pairs = [frozenset(pair) for pair in study.contrasts]
    if len(set(pairs)) < len(pairs):
        raise _refuse("contrasts", "pairs that occur only once", [list(pair) for pair in study.contrasts])
    if study.analysis == "ranking" and study.contrasts:
        raise _refuse("contrasts", "left out for a ranking, which compares no arms", [list(pair) for pair in study.contrasts])
    if study.analysis == "contrasts" and not study.contrasts:
        raise _refuse("arms", "at least two, so that there is something to compare", len(study.arms))


def _check_measures(study: Study) -> None:
    if (study.analysis == "ranking") != bool(study.measures):
        raise _refuse("measures", "given for a ranking and for no other study",
                      ", ".join(study.measures) or "none")
    for name in study.measures:
        if name not in (known := measure_names(study)):
            raise ConfigError(problems={"measures": unknown_name("measure", name, known)})
    if len(set(study.measures)) < len(study.measures):
        raise _refuse("measures", "different measures", ", ".join(study.measures))


def _check_mentions(study: Study) -> None:
    """Check settings of the form "arm:NAME": the arm must exist, and must not itself refer to another arm."""
    mentions = {arm.name: study.mentions(arm) for arm in study.arms}
    for name, others in mentions.items():
        for other in others:
            study.arm(other)
            if other == name:
                raise ConfigError(f"Arm {name} refers to itself with arm:{name}, and may refer only to another arm; name another "
                                  "one.")
            if mentions[other]:
                raise ConfigError(f"Arm {name} may refer only to another arm that refers to none itself, got {other}; name "
                                  "another one.")


def _check_matching(study: Study) -> None:
    if (study.match == "none") != (not study.reference):
        raise ConfigError("A study must name match and reference together, so that networks get the size of the reference arm's "
                          f"networks, got match {study.match} and reference {study.reference or 'none'}; give both or neither.")
    if not study.reference:
        return
    wanted = study.arm(study.reference).retrain.get("channels")
    for arm in study.arms:
        network = str(arm.retrain.get("network") or DERIVED)
        name, own = ("channels", arm.retrain.get("channels")) if network == DERIVED else (
            "base channels", network.partition("@")[2] or None)
        if arm.name != study.reference and own not in (None, wanted):
            raise ConfigError(f"{name} of arm {arm.name} must be left out, because match: {study.match} gives its networks the "
                              f"size of those of {study.reference}, got {own}; leave it out, or match and reference.")


def _check_arms_differ(study: Study) -> None:
    """Check that no two arms have the same settings. They would share all runs, so an arm would be compared with itself."""
    known: dict[str, str] = {}
    for arm in study.settled().arms:
        content = json.dumps([arm.method, arm.settings], sort_keys=True)
        if content in known:
            raise ConfigError(f"Arms must differ in at least one setting, and {known[content]} and {arm.name} have the same; "
                              "change one of them or leave it out.")
        known[content] = arm.name


def _check_further_attacks(study: Study) -> None:
    """Check that no two attacks of an arm are the same. Such attacks would share their runs and results."""
    for arm in study.arms:
        known: dict[str, str] = {}
        for step, config in study.configurations(arm).items():
            if isinstance(config, AttackConfig):
                name, ignored = step.removeprefix("attack "), config.inert() | WITHOUT_RESULT
                same = known.setdefault(config.model_dump_json(exclude=ignored), name)
                if same != name:
                    raise ConfigError(f"Further attacks must have results of their own, and {name} repeats "
                                      f"{'the attack' if same == 'attack' else same} of arm {arm.name}; change a setting that "
                                      "affects its results, or leave it out.")


def _check_endpoint(study: Study) -> None:
    """Check that all arms measure the endpoint (the compared accuracy) under the same attacks on the same images.

    Settings that do not change the accuracies, such as the batch size, may differ.
    """
    protocols = {}
    for arm in study.arms:
        config = study.configurations(arm)["attack"]
        assert isinstance(config, AttackConfig)
        measured = (NATURAL, WORST) if config.worst_case_only else (NATURAL, *config.attacks, WORST)
        if study.endpoint not in measured:
            raise ConfigError(problems={"endpoint": unknown_name(f"result of arm {arm.name}", study.endpoint, measured)})
        protocols[arm.name] = config
    first, *others = protocols
    for name in others:
        if different := protocols[name].differs_from(protocols[first]):
            raise ConfigError(f"All arms must be attacked alike, so that their results can be compared, but {name} differs from "
                              f"{first} in {', '.join(different)}; "
                              + _advice([study.arm(first), study.arm(name)], different, protocols[first]))


def _advice(arms: Sequence[Arm], different: Sequence[str], wanted: AttackConfig) -> str:
    """Return advice on giving two arms the same attack settings, and on where an attack gets its settings from.

    Args:
        arms: two arms.
        different: names of the settings in which their attacks differ.
        wanted: attack of the first arm.
    """
    inherited = [(arm.name, name, "retraining" if name in arm.retrain else "search") for arm in arms for name in different
                 if name in SHARED and name not in arm.attack and (name in arm.retrain or name in arm.search)]
    if not inherited:
        return "give all arms the same attack settings."
    sources = [f"the attack of {arm} takes {name} from its {kind}" for arm, name, kind in inherited]
    names = dict.fromkeys(name for _, name, _ in inherited)
    values = ", ".join(f"{name}: {_written(getattr(wanted, name))}" for name in names)
    return f"{' and '.join(sources)}. To keep the attacks equal, write attack: {{{values}}} in every arm."


def _written(value: object) -> str:
    """Return the value of a setting as a user writes it in a file."""
    return pixels_text(value) if isinstance(value, float) else str(value)



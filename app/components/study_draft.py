"""A study while its user edits it in the form: read from text, changed in one place at a time, and written as text again.

The draft is a `Study` that has not been checked. Its text is the only record: the form reads a study from the text, and every
change in the form writes a new text. Entries that the form does not show, such as further attacks, stay as they are.

The names of arms and the question are proposals until the user writes others. This is not recorded anywhere: a name that equals
its proposal is updated with the next change, and any other name stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.components.form import SPELLINGS, label_of, value_text
from app.studies import as_text
from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import DERIVED, Genotype
from engine.architecture.network import named_network
from engine.architecture.transplant import read_grafts
from engine.config import RunConfig, setting_of
from engine.config.run import KINDS
from engine.configuring import config_class, preset_values
from engine.errors import ConfigError, RampartError
from engine.search.methods.registry import METHODS
from engine.study.declaration import Arm, Study, kind_of, mentioned
from engine.study.parsing import LONGEST_NAME, from_record, read_written

ADDED = ("recipe", "size")  # entries that only a shipped question has; an edited copy loses them
SOURCE_SETTINGS = ("genotype", "network", "transplant")  # settings of a retraining that say which network it trains
SOURCES = {"search": "A search", "catalogue": "Published cells", "genotype": "A genotype of a run or as text",
           "network": "A hand-made network", "transplant": "Transplanted cells"}
BLANK = "?"  # name of an arm, or the question, while it has to be proposed


def read(text: str) -> Study:
    """Return the study that a YAML or JSON text declares, even if it cannot be launched.

    Raises:
        ConfigError: the text is not a study, an entry is unknown or of the wrong type, or there is no such dataset or preset.
    """
    study = from_record(read_written(text))
    preset_values("attack", None, study.dataset, study.preset)  # refuses an unknown dataset or preset
    return replace(study, arms=tuple(_with_flags(arm) for arm in study.arms))


def _with_flags(arm: Arm) -> Arm:
    """Return the arm with the texts "true" and "false" of on-off settings replaced by True and False."""
    flags = {"true": True, "false": False}
    for kind in KINDS:
        arm = _with_changes(arm, kind, {
            name: flags.get(str(value), value) if name in (known := fields_of(arm, kind)) and known[name].annotation is bool
            else value for name, value in arm.changes(kind).items()})
    return arm


def write(study: Study) -> str:
    """Return the study as YAML. Entries that have their default value are left out."""
    usual = {"contrasts": study.contrasts == usual_contrasts(study), "match": study.match == "none",
             "analysis": study.analysis == "contrasts", "measures": not study.measures}
    return as_text(study, [*ADDED, *(name for name, is_usual in usual.items() if is_usual)])


def usual_contrasts(study: Study) -> tuple[tuple[str, str], ...]:
    """Return the pairs of arms that a study compares unless it declares others; no pairs for a study that compares rankings.

    Each pair consists of the reference arm (or, without a reference, the first arm) and one of the other arms.
    """
    base = study.reference or (study.arms[0].name if study.arms else "")
    return () if study.analysis == "ranking" else tuple((base, arm.name) for arm in study.arms if arm.name != base)


def with_arm(study: Study, index: int, arm: Arm) -> Study:
    """Return the study with `arm` in place of its arm at position `index`.

    If the name of the arm changes, it changes everywhere in the study.
    """
    old = study.arms[index].name
    changed = replace(study, arms=tuple(arm if place == index else one for place, one in enumerate(study.arms)))
    return changed if arm.name == old else renamed(changed, {old: arm.name})


def renamed(study: Study, names: Mapping[str, str]) -> Study:
    """Return the study after replacing old names of arms in everything that refers to an arm.

    Args:
        study: the study. Its arms have their new names already.
        names: {old name: new name}.
    """
    def new(name: str) -> str:
        return names.get(name, name)

    def values(changes: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _retold(value, names) for name, value in changes.items()}

    arms = tuple(replace(arm, search=values(arm.search), retrain=values(arm.retrain), attack=values(arm.attack))
                 for arm in study.arms)
    return replace(study, arms=arms, contrasts=tuple((new(first), new(second)) for first, second in study.contrasts),
                   reference=new(study.reference), attacks={name: values(changes) for name, changes in study.attacks.items()})


def _retold(value: Any, names: Mapping[str, str]) -> Any:
    """Return the value of a setting, with references "arm:NAME" changed to the new names of arms."""
    if isinstance(value, (list, tuple)):
        return [_retold(one, names) for one in value]
    old = mentioned({"": value})
    return f"arm:{names[old[0]]}" if isinstance(value, str) and old and old[0] in names else value


def without_arm(study: Study, index: int) -> Study:
    """Return the study without one of its arms. If that arm was the reference, the first remaining arm becomes the reference."""
    gone = study.arms[index].name
    arms = tuple(arm for place, arm in enumerate(study.arms) if place != index)
    reference = arms[0].name if study.reference == gone and arms else study.reference
    kept = tuple(pair for pair in study.contrasts if gone not in pair)
    smaller = replace(study, arms=arms, reference=reference, contrasts=kept)
    return replace(smaller, contrasts=kept or usual_contrasts(smaller))


def source_of(arm: Arm) -> str:
    """Return where the network of an arm comes from, a key of `SOURCES`."""
    if arm.retrain.get("transplant"):
        return "transplant"
    if arm.method:
        return "search"
    if str(arm.retrain.get("network") or DERIVED) != DERIVED:
        return "network"
    return "catalogue" if arm.retrain.get("genotype") in CATALOG else "genotype"


def fields_of(arm: Arm, kind: str) -> Mapping[str, Any]:
    """Return {name: field} for the settings that the form offers for a kind of run of an arm; {} if the arm has no such run.

    Settings that the study fixes for all arms are left out: the dataset (except for a search), and seeds and network sizes
    (except for an attack). So are settings that name the network's source.
    """
    if kind not in arm.kinds:
        return {}
    left_out = {"dataset"} if kind != "search" else set()
    left_out |= set() if kind == "attack" else {"seed", "match", "match_to"}
    return {name: info for name, info in config_class(kind, arm.method).model_fields.items()
            if name not in left_out and name not in SOURCE_SETTINGS}


def shared(study: Study, kind: str) -> dict[str, Any]:
    """Return {name of a setting: value} for the changed settings of this kind of run that all arms share.

    A setting is shared if at least two arms have it, and if every arm that has it changes it to the same value. For an attack,
    one arm is enough, because the settings of the attack always concern all arms.
    """
    least = 1 if kind == "attack" else 2
    found = {}
    for name in dict.fromkeys(name for arm in study.arms for name in arm.changes(kind)):
        having = [arm for arm in study.arms if name in fields_of(arm, kind)]
        values = [arm.changes(kind).get(name, KeyError) for arm in having]
        if len(values) >= least and KeyError not in values and all(_same(values[0], one) for one in values):
            found[name] = values[0]
    return found


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, default=list) == json.dumps(other, default=list)


def own(study: Study, arm: Arm, kind: str) -> dict[str, Any]:
    """Return the changed settings of an arm that are neither shared by all arms nor say which network it trains."""
    common = shared(study, kind)
    return {name: value for name, value in arm.changes(kind).items() if name not in common and name not in SOURCE_SETTINGS}


def with_change(arm: Arm, kind: str, name: str, value: Any) -> Arm:
    """Return the arm with a changed setting."""
    return _with_changes(arm, kind, {**arm.changes(kind), name: value})


def without_change(arm: Arm, kind: str, name: str) -> Arm:
    """Return the arm with a setting reset to the value of the preset."""
    return _with_changes(arm, kind, {one: value for one, value in arm.changes(kind).items() if one != name})


def _with_changes(arm: Arm, kind: str, changes: Mapping[str, Any]) -> Arm:
    values: dict[str, Any] = {kind: dict(changes)}
    return replace(arm, **values)


def change_words(arm: Arm, kind: str, name: str, value: Any) -> str:
    """Return a changed setting in a few words, for example "lambda 0.3" or "retraining epochs 20"."""
    info = fields_of(arm, kind).get(name)
    words = label_of(name)
    words = words if words.split()[0] in SPELLINGS.values() else words[0].lower() + words[1:]
    noun = f"retraining {words}" if kind == "retrain" else words
    if info is None:
        return f"{noun} {value}"
    text = value_text(info, value)
    phrase = setting_of(info).deviation
    return phrase.format(value=text) if phrase and kind == "search" else f"{noun} {text}"


def source_words(arm: Arm) -> str:
    """Return the network of an arm in a few words, for example "ARNAS" or "Published ADVRUSH cells"."""
    genotype = str(arm.retrain.get("genotype") or "")
    try:
        if arm.method:
            words = METHODS[arm.method].title
        elif str(arm.retrain.get("network") or DERIVED) != DERIVED:
            words = named_network(str(arm.retrain["network"])).title
        elif genotype in CATALOG:
            words = f"Published {genotype} cells"
        else:
            words = f"Genotype {Genotype.from_json(genotype).hash}" if genotype else "Genotype"
        grafts = read_grafts(str(arm.retrain.get("transplant") or ""))
    except RampartError:
        return "Arm"
    return ", ".join([words, *map(str, grafts)])


def proposed_name(study: Study, arm: Arm) -> str:
    """Return a name for an arm: its network, and the settings in which it differs from the other arms."""
    words = [change_words(arm, kind, name, value) for kind in ("search", "retrain")
             for name, value in own(study, arm, kind).items()]
    name = ", ".join([source_words(arm), *words])
    return name if len(name) <= LONGEST_NAME - 4 else f"{name[:LONGEST_NAME - 5].rstrip(', ')}…"


def proposed_question(study: Study) -> str:
    """Return a question for a study: do the other arms beat the reference arm or, without a reference, the first arm?"""
    base = study.reference or (study.arms[0].name if study.arms else "")
    others = [arm.name for arm in study.arms if arm.name != base]
    if len(others) > 1:
        return f"Which of {len(others)} other arms beats {base}?"
    return f"Can {others[0]} beat {base}?" if others else f"How good is {base or 'the network'}?"


def is_proposed(study: Study, arm: Arm) -> bool:
    """Return True if the name of an arm is a proposal, with or without a number such as " (2)" at its end."""
    return arm.name == BLANK or re.fullmatch(re.escape(proposed_name(study, arm)) + r"( \(\d+\))?", arm.name) is not None


def followed(before: Study, after: Study) -> Study:
    """Return a changed study with proposed names and a proposed question that fit the change.

    Args:
        before: the study before the change.
        after: the study after the change. New arms have the name `BLANK`.
    """
    proposed = {arm.name for arm in before.arms if is_proposed(before, arm)} | {BLANK}
    taken = {arm.name for arm in after.arms if arm.name not in proposed}
    named, names = [], {}
    for arm in after.arms:
        name = _free(proposed_name(after, arm), taken) if arm.name in proposed else arm.name
        taken.add(name)
        named.append(replace(arm, name=name))
        names[arm.name] = name
    result = renamed(replace(after, arms=tuple(named)), names)
    if len(after.arms) > len(before.arms):
        result = replace(result, contrasts=_extended(before, result))
    is_open = after.question == BLANK or (after.question == before.question == proposed_question(before))
    return replace(result, question=proposed_question(result)) if is_open else result


def _extended(before: Study, after: Study) -> tuple[tuple[str, str], ...]:
    """Return the contrasts (pairs of arms to compare) of a study to which an arm was added.

    If `before` compares every other arm with its reference or first arm, the new arm is compared with that arm, too. Otherwise
    the contrasts of `after` stay as they are.
    """
    usual = usual_contrasts(after)
    if before.contrasts == usual_contrasts(before):
        return usual
    known = {frozenset(pair) for pair in after.contrasts}
    if {frozenset(pair) for pair in before.contrasts} != {frozenset(pair) for pair in usual_contrasts(before)}:
        return after.contrasts
    turned = after.contrasts[0][1] == usual[0][0]
    return (*after.contrasts, *(pair[::-1] if turned else pair for pair in usual if frozenset(pair) not in known))


def _free(name: str, taken: Iterable[str]) -> str:
    known = set(taken)
    return next(one for one in (name, *(f"{name} ({number})" for number in range(2, len(known) + 3))) if one not in known)


def problems(study: Study, check: Callable[[str, RunConfig], None]) -> list[dict[tuple[str, str], str]]:
    """Return what is wrong with each arm, as {(kind of run, name of the setting): sentence}.

    A problem with the arm as a whole has the key ("", "").

    Args:
        study: the study.
        check: function that checks the configuration of a run, `engine.requests.check_config`.
    """
    names = [arm.name for arm in study.arms]
    known: dict[str, str] = {}
    return [_name_problem(arm, names) | _settings_problems(study, arm, check, known) for arm in study.arms]


def _settings_problems(study: Study, arm: Arm, check: Callable[[str, RunConfig], None],
                       known: dict[str, str]) -> dict[tuple[str, str], str]:
    """Return what is wrong with the settings of an arm, as {(kind of run, name of the setting): sentence}.

    An arm with the same settings as an earlier arm has the problem ("", "").

    Args:
        study, arm, check: as for `problems`.
        known: {settings as JSON: name of the first arm with them} for the arms checked before. Valid settings are added.
    """
    if source_of(arm) == "genotype" and not arm.retrain.get("genotype"):
        return {("", ""): "Choose a run with a genotype, or paste one."}
    try:
        configs = study.configurations(arm)
        for step, config in configs.items():
            check(kind_of(step), config)
    except ConfigError as refusal:
        return {_place(arm, name): sentence for name, sentence in refusal.problems.items()}
    except RampartError as refusal:
        return {("", ""): str(refusal)}
    content = json.dumps([arm.method, {step: one.model_dump(mode="json") for step, one in configs.items()}])
    first = known.setdefault(content, arm.name)
    return {} if first == arm.name else {("", ""): f"This arm has the same settings as {first}; change one of them."}


def _name_problem(arm: Arm, names: Sequence[str]) -> dict[tuple[str, str], str]:
    if names.count(arm.name) > 1:
        return {("", "name"): f"Arms must have different names, and {names.count(arm.name)} have this one; change it."}
    if len(arm.name) > LONGEST_NAME:
        return {("", "name"): f"The name of an arm can have at most {LONGEST_NAME} characters, got {len(arm.name)}; shorten it."}
    return {}


def _place(arm: Arm, name: str) -> tuple[str, str]:
    """Return (kind of run in which an arm changes a setting, name of the setting); ("", "") if the arm does not change it."""
    return next(((kind, name) for kind in KINDS if name in arm.changes(kind)), ("", ""))

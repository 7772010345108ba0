"""The steps of a launch (search, retrain, attack) as foldable forms, one below the other, with their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from app import session
from app.components.form import FormValues, check, draw_form, follow, form_values, found_in, label_of, with_unit
from app.components.launch_choice import OPEN, Choice, filled
from app.components.settings import setting_text
from app.formats import capitalised, dataset_title, plural
from app.recipes import TRAININGS
from app.theme import KIND_TITLES
from engine.attack.catalogue import ATTACKS
from engine.config import AttackConfig, RetrainConfig, RunConfig, SearchConfig, network_values
from engine.configuring import config_class, preset_values
from engine.data.splits import split_sizes
from engine.errors import ConfigError, RampartError
from engine.run.chain import NOUNS, followers, inherited
from engine.run.folder import RunFolder
from engine.search.methods.registry import METHODS

MOST_CHANGES = 4  # number of changed settings that the header of a fold lists
Below = Mapping[str, Callable[[FormValues], None]]


def forms_of(choice: Choice) -> dict[str, FormValues]:
    """Return {kind: content of its form} for every run of the chain. Problems of the chain as a whole are in the first form."""
    forms = {choice.kind: _first_form(choice)}
    for kind in choice.then:
        base = inherited_values(choice, forms, kind)
        key, cls = choice.form_key(kind), config_class(kind)
        follow(cls, base, key)
        forms[kind] = form_values(kind, cls, base, key=key, start=filled()["draft"].then_changes.get(kind))
    if all(values.config is not None for values in forms.values()):
        try:
            steps_of(choice, forms)
        except ConfigError as refusal:
            forms[choice.kind] = FormValues(forms[choice.kind].changes, refusal.problems, None)
        except RampartError as refusal:
            forms[choice.kind] = FormValues(forms[choice.kind].changes, {"": str(refusal)}, None)
    return forms


def _first_form(choice: Choice) -> FormValues:
    """Return the content of the form of the first run, validated together with the chosen genotype or network."""
    cls = config_class(choice.kind, choice.method)
    preset = preset_values(choice.kind, choice.method, choice.dataset, choice.preset)
    values = form_values(choice.kind, cls, preset, key=choice.form_key(choice.kind), start=filled()["draft"].changes)
    if not choice.source.changes or values.config is None:
        return values
    preset |= network_values(choice.source.changes.get("network", "derived"))
    return check(choice.kind, cls, preset, {**values.changes, **choice.source.changes})


def steps_of(choice: Choice, forms: Mapping[str, FormValues]) -> list[tuple[str, RunConfig]]:
    """Return a pair (kind, configuration) for every run of the chain. While a setting on a form is invalid, return [].

    Raises:
        ConfigError: a setting does not fit the parent run, or a later run cannot use the settings that it inherits.
        RampartError: the parent run cannot be read.
    """
    config = forms[choice.kind].config
    if config is None or any(values.config is None for values in forms.values()):
        return []
    first = inherited(_run_of(choice.source.parent), config, forms[choice.kind].changes) if choice.source.parent else config
    return [(choice.kind, first), *followers(choice.kind, first, choice.method, choice.preset, choice.then,
                                             then_changes(choice, forms))]


def then_changes(choice: Choice, forms: Mapping[str, FormValues]) -> dict[str, dict[str, Any]]:
    """Return {kind of a later run: its changed settings}."""
    return {kind: forms[kind].changes for kind in choice.then if forms[kind].changes}


def _run_of(run_id: str) -> dict[str, Any]:
    return RunFolder(session.runs_root(), run_id).read_run()


def inherited_values(choice: Choice, forms: Mapping[str, FormValues], kind: str) -> dict[str, Any]:
    """Return the value that each setting of a later run has until the user changes it: inherited or from the preset.

    Some settings are inherited from the earlier runs of the chain. The others have the values of the preset. While the settings
    of the earlier runs are invalid, all have the values of the preset.

    Args:
        choice, forms: content of the page. The forms of all earlier runs must be present.
        kind: kind of the later run.
    """
    then = choice.then[:choice.then.index(kind) + 1]
    first = forms[choice.kind].config
    if first is not None:
        before = {one: forms[one].changes for one in then[:-1] if forms[one].changes}
        try:
            return followers(choice.kind, first, choice.method, choice.preset, then, before)[-1][1].model_dump()
        except ConfigError:
            pass
    return preset_values(kind, None, choice.dataset, choice.preset)


def folds(choice: Choice, forms: Mapping[str, FormValues], find: str, below: Below) -> None:
    """Show one foldable form for each run of the chain.

    Args:
        choice: values of the controls at the top of the page.
        forms: {kind: content of its form}, from `forms_of`.
        find: words that filter the settings.
        below: {field of the first form: function that shows something below the field}.
    """
    for number, kind in enumerate(choice.kinds, start=1):
        method = choice.method if kind == "search" else None
        cls = config_class(kind, method)
        preset = preset_values(kind, method, choice.dataset, choice.preset)
        base = preset if kind == choice.kind else inherited_values(choice, forms, kind)
        label = f"**{number} {KIND_TITLES[kind]}** · {header(choice, kind, forms[kind])}"
        found = found_in(cls, find)
        st.session_state[f"launch.fold.{kind}"] = found > 0 and kind in st.session_state[OPEN]
        fold = st.expander(label + (f" · {plural(found, 'setting') if found else 'no setting'} found" if find else ""),
                           key=f"launch.fold.{kind}", on_change=_fold, args=(kind,))
        if not fold.open:
            continue
        with fold:
            source = {name: NOUNS[choice.kinds[number - 2]] for name in base if base[name] != preset[name]}
            draw_form(cls, base, forms[kind], key=choice.form_key(kind), find=find, inherited=source,
                      below=below if kind == choice.kind else None)


def _fold(kind: str) -> None:
    """Remember that the user has folded or unfolded a step."""
    is_open = st.session_state[f"launch.fold.{kind}"]
    (st.session_state[OPEN].add if is_open else st.session_state[OPEN].discard)(kind)


def header(choice: Choice, kind: str, values: FormValues) -> str:
    """Return one line of Markdown: what a run will do, and which settings differ from the preset."""
    parts = [_plain(does_words(choice, values.config))] if values.config else []
    method = choice.method if kind == "search" else None
    fields = config_class(kind, method).model_fields
    changed = [f"{label_of(name)} {shortened(setting_text(kind, method, name, value))}" for name, value in values.changes.items()
               if name not in ("genotype", "network") and name in fields]
    more = f" and {len(changed) - MOST_CHANGES} more" if len(changed) > MOST_CHANGES else ""
    if values.problems:
        parts.append(f":red[{plural(len(values.problems), 'problem')}]")
    parts.append(f":primary[changed: {_plain(', '.join(changed[:MOST_CHANGES]))}{more}]" if changed else ":gray[as the preset]")
    return " · ".join(parts)


def does_words(choice: Choice, config: RunConfig) -> str:
    """Return what a run will do in one phrase, for example "ARNAS on Digits 8x8, 16 epochs, 8 channels, 5 cells"."""
    title = dataset_title(config.dataset)
    if isinstance(config, AttackConfig):
        names = ", ".join(ATTACKS[name].title for name in config.attacks) or "sweep"
        radius = "epsilon" if config.norm == "Linf" else "epsilon_l2"
        images = split_sizes(config.dataset, config.images)["test"]
        return (f"{names} on {plural(images, 'test image')} of {title}, ε "
                f"{with_unit(AttackConfig.model_fields[radius], getattr(config, radius))}")
    assert isinstance(config, (RetrainConfig, SearchConfig))
    size = f"{config.channels} channels, {config.layers} cells"
    if isinstance(config, SearchConfig):
        return f"{METHODS[choice.method or ''].title} on {title}, {plural(config.epochs, 'epoch')}, {size}"
    training = capitalised(TRAININGS[config.training].format(config.attack_steps))
    return f"{training} on {title}, {plural(config.epochs, 'epoch')}, {choice.source.network or size}"


def shortened(text: str) -> str:
    """Return a value cut to 30 characters."""
    return text if len(text) <= 30 else f"{text[:29]}…"


def _plain(text: str) -> str:
    """Escape the characters of a text that Markdown would read as markup in a label."""
    for character in "\\`*_[]$<>#~:":
        text = text.replace(character, "\\" + character)
    return text


def reasons_of(choice: Choice, forms: Mapping[str, FormValues]) -> list[str]:
    """Return one sentence for each problem that keeps the chain from being launched."""
    sentences: Sequence[str] = [choice.source.problem] if choice.source.problem else []
    return [*sentences, *(text for values in forms.values() for text in values.problems.values())]

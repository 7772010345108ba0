"""A form that is built from a configuration class, with one widget per field.

The type of a field determines its widget. Meaning, bounds, unit and source of a field come from `engine.config`, so a new setting
or method needs no change in this file. The configuration class validates each value after the user has changed it. A problem is
shown below the field. Pixel values may be typed as "8/255".
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import streamlit as st
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from app.formats import markdown
from engine import requests
from engine.attack.catalogue import ATTACKS
from engine.config import RunConfig, is_pixels, parse_pixels, pixels_text, setting_of
from engine.configuring import published_values, validate
from engine.data.catalogue import image_source, image_sources
from engine.errors import ConfigError, GenotypeError
from engine.search.registries import OBJECTIVES

# Fields without a widget in the form, because separate controls at the top of the page set them.
NOT_IN_FORM = frozenset({"dataset", "genotype", "network"})
# Word in the name of a field -> its spelling in the label, if that differs.
SPELLINGS = {"Trades": "TRADES", "Mac": "MAC", "Autoattack": "AutoAttack", "lambda": "λ", "beta": "β", "l2": "in L2",
             "epsilon": "epsilon ε"}
# Text fields whose value must be one of several names -> function that returns these names.
NAMES_OF = {"second_dataset": image_sources}
COLUMNS = 3
LARGEST_SHOWN = 2**53 - 1  # a browser shows no larger whole number exactly


@dataclass(frozen=True)
class FormValues:
    """The content of a form.

    Attributes:
        changes: the values that differ from the preset, keyed by field.
        problems: one sentence per invalid value, keyed by field. The key "" holds a problem with the configuration as a whole.
        config: the complete configuration, or None while a value is invalid.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    config: RunConfig | None = None


def label_of(name: str) -> str:
    """Return the label of a field: "Weights learning rate" for "weights_learning_rate"."""
    words = name.replace("_", " ")
    words = " ".join(SPELLINGS.get(word, word) for word in words.split())
    first, *rest = words.split(" ")
    first = first if first in SPELLINGS.values() else first.capitalize()
    return " ".join([SPELLINGS.get(first, first), *rest])


def value_text(info: FieldInfo, value: Any) -> str:
    """Return a field's value as text.

    Examples are "8/255" for a pixel value that is a whole number of grey levels, and "yes" for True. The items of a list are
    separated by commas. For an empty field, return the text of `nothing_text`.
    """
    if value is None or value in ("", (), []):
        return nothing_text(info)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(title_of(str(name)) for name in value)
    if isinstance(value, float):
        return pixels_text(value) if is_pixels(info) else f"{value:.6g}"
    return str(setting_of(info).titles.get(value, value))


def nothing_text(info: FieldInfo) -> str:
    """Return the meaning of an empty field, for example "all"; "automatic" if the declaration of the field names no meaning."""
    return setting_of(info).empty.split(" (")[0] or "automatic"


def with_unit(info: FieldInfo, value: Any) -> str:
    """Return a field's value with its unit, for example "4 pixels" or "1 epoch"."""
    unit = unit_of(info)
    if not unit or value is None:
        return value_text(info, value)
    return f"{value_text(info, value)} {unit.removesuffix('s') if value == 1 else unit}"


def unit_of(info: FieldInfo) -> str:
    """Return the unit of a field, for example "pixels", or "" if it has none."""
    return setting_of(info).unit


def bounds_text(info: FieldInfo) -> str:
    """Return the allowed range of a field in words, or "" if the field has no bounds."""
    low = high = ""
    for part in info.metadata:
        low = f"at least {part.ge:g}" if isinstance(part, Ge) else f"above {part.gt:g}" if isinstance(part, Gt) else low
        high = f"at most {part.le:g}" if isinstance(part, Le) else f"below {part.lt:g}" if isinstance(part, Lt) else high
    return ", ".join(part for part in (low, high) if part)


def help_text(name: str, info: FieldInfo, published: Any) -> str:
    """Return the help text of a field as Markdown: meaning, range, reference value, source and command-line flag.

    The reference value is the published value or, if there is none, the default.
    """
    lines = [str(info.description)]
    if bounds_text(info):
        unit = " (pixel space; 8/255 may be typed)" if is_pixels(info) else f" {unit_of(info)}" if unit_of(info) else ""
        lines.append(f"Range: {bounds_text(info)}{unit}.")
    source = f" ({setting_of(info).source})" if setting_of(info).source else ""
    lines.append(f"{'Published' if source else 'Default'}: {value_text(info, published)}{source}.")
    lines.append(f"Flag: `--{name.replace('_', '-')}`")
    return "\n\n".join(lines)


def groups_of(cls: type[RunConfig]) -> dict[str, list[str]]:
    """Return {group of settings: names of its fields}.

    The groups are in the order of the configuration class, except that "Data" and "Run" come last.
    """
    groups: dict[str, list[str]] = {}
    for name, info in cls.model_fields.items():
        if name not in NOT_IN_FORM:
            groups.setdefault(setting_of(info).group, []).append(name)
    general = [group for group in ("Data", "Run") if group in groups]
    return {group: groups[group] for group in [*(g for g in groups if g not in general), *general]}


def admit(kind: str, cls: type[RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """Build a configuration from the values, check that a run of this kind can be launched with it, and return it.

    Raises:
        ConfigError: a setting is invalid. The error has one sentence per problem.
        GenotypeError: the genotype is invalid.
    """
    config = validate(cls, values)
    requests.check_config(kind, config)
    return config


def check(kind: str, cls: type[RunConfig], preset: Mapping[str, Any], changes: Mapping[str, Any]) -> FormValues:
    """Validate a preset together with the user's changes, and assign each problem to its field.

    Args:
        kind: kind of the run.
        cls: configuration class of the run.
        preset: value of every field, from `engine.configuring.preset_values`.
        changes: the user's values, keyed by field. They override the preset.
    """
    empty = {name: f"{name} must be a whole number, got nothing; the preset has {preset[name]}."
             for name, value in changes.items() if value is None and _is_required(cls.model_fields[name])}
    try:
        config = admit(kind, cls, {**preset, **changes})
    except ConfigError as refusal:
        return FormValues(dict(changes), refusal.problems | empty, None)
    except GenotypeError as refusal:
        return FormValues(dict(changes), {"": str(refusal)}, None)
    return FormValues(dict(changes), {}, config)


def form_values(kind: str, cls: type[RunConfig], preset: Mapping[str, Any], *, key: str,
                start: Mapping[str, Any] | None = None) -> FormValues:
    """Return the content of a form, which `draw_form` shows. A form that has not been shown yet has its initial values.

    Args:
        kind: kind of the run.
        cls: configuration class of the run.
        preset: value of every field before the user's changes.
        key: prefix of the widgets' keys in the session. A form with a new key starts with the initial values.
        start: initial values that differ from the preset, keyed by field, for example those of an imported configuration.
    """
    changes = {name: value for name in cls.model_fields if name not in NOT_IN_FORM
               and (value := held_value(cls.model_fields[name], f"{key}.{name}", (start or {}).get(name, preset[name])))
               != preset[name]}
    return check(kind, cls, preset, changes)


def follow(cls: type[RunConfig], inherited: Mapping[str, Any], key: str) -> None:
    """Bring a form's fields up to date when the values that they inherit have changed.

    A field that still holds its old inherited value gets the new one. Fields that the user has changed keep their values. Call
    this before `form_values`.

    Args:
        cls: configuration class of the run.
        inherited: value of every field that the run inherits from its preset and from the earlier runs of its chain.
        key: prefix of the widgets' keys in the session.
    """
    before = st.session_state.get(f"{key}.inherited", {})
    for name, info in cls.model_fields.items():
        widget = f"{key}.{name}"
        if name in NOT_IN_FORM or widget not in st.session_state or name not in before or before[name] == inherited[name]:
            continue
        if held_value(info, widget, before[name]) == before[name]:
            st.session_state[widget] = _in_widget(info, inherited[name])
    st.session_state[f"{key}.inherited"] = dict(inherited)


def draw_form(cls: type[RunConfig], preset: Mapping[str, Any], values: FormValues, *, key: str, find: str = "",
              below: Mapping[str, Callable[[FormValues], None]] | None = None,
              inherited: Mapping[str, str] | None = None) -> None:
    """Show the form for a configuration.

    Args:
        cls: configuration class of the run.
        preset: value of every field before the user's changes.
        values: content of the form, from `form_values`.
        key: prefix of the widgets' keys in the session.
        find: words that filter the fields; "" to show all.
        below: functions keyed by field. Each receives the content of the form and shows something below the field.
        inherited: {field: noun of the earlier run from which its value comes}, for example {"epsilon": "search"}.
    """
    published = published_values(cls, preset["dataset"])
    for group, all_names in groups_of(cls).items():
        names = [name for name in all_names if is_found(cls, name, find)]
        idle = _has_no_effect(group, cls, values.changes.get("added_objectives", preset.get("added_objectives")))
        if not names or (idle and not find):
            continue
        heading, body = st.columns([1, 5])
        heading.markdown(f"**{group}**")
        if idle:
            heading.caption("No effect unless you add the objective.")
        with body:
            for row in range(0, len(names), COLUMNS):
                of_row = names[row:row + COLUMNS]
                for column, name in zip(st.columns(COLUMNS), of_row):
                    with column:
                        _field(cls, name, preset, published[name], values, f"{key}.{name}", (inherited or {}).get(name, ""))
                for draw in (below[name] for name in of_row if below and name in below):
                    draw(values)


def is_found(cls: type[RunConfig], name: str, find: str) -> bool:
    """Return True if every word of `find` occurs in the name, label, help, source, group or choices of a field."""
    info = cls.model_fields[name]
    facts = setting_of(info)
    text = " ".join((name, label_of(name), str(info.description), facts.source, facts.group, facts.unit,
                     *(str(title) for title in facts.titles.values()))).lower()
    return all(word in text for word in find.lower().split())


def found_in(cls: type[RunConfig], find: str) -> int:
    """Return the number of fields of a form that match the words of `find`, as in `is_found`."""
    return sum(is_found(cls, name, find) for names in groups_of(cls).values() for name in names)


def holds(info: FieldInfo, value: Any) -> bool:
    """Return True if the widget of a field can hold a value. A text field can hold any text, even an invalid one."""
    kind = _kind(info)
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "choice":
        return value in typing.get_args(info.annotation)
    if kind == "integer":
        return value is None or (isinstance(value, int) and not isinstance(value, bool))
    return kind != "several" or isinstance(value, tuple)


def expected_words(info: FieldInfo) -> str:
    """Return a phrase for the values that the widget of a field can hold, such as "a whole number"."""
    kind = _kind(info)
    if kind == "choice":
        return f"one of {', '.join(map(str, typing.get_args(info.annotation)))}"
    return {"flag": "yes or no", "integer": "a whole number", "several": "names separated by commas"}.get(kind, "a value")


def _has_no_effect(group: str, cls: type[RunConfig], added: Sequence[str] | None) -> bool:
    """Return True if the settings of a group have no effect because they belong to an objective that has not been added.

    Args:
        group: group of settings on the form.
        cls: configuration class of the run.
        added: names of the objectives that the user has added to the method's own, or None.
    """
    if group == "Added objectives":
        return not added
    could_be_added = "added_objectives" in cls.model_fields and "curvature" in _several(cls.model_fields["added_objectives"])
    return group == "Curvature" and could_be_added and "curvature" not in (added or ())


def _field(cls: type[RunConfig], name: str, preset: Mapping[str, Any], published: Any, values: FormValues, key: str,
           inherited: str = "") -> None:
    """Show the widget of a field and, if needed, a line of text below the widget.

    For an invalid value, the line states the problem. For a value that differs from the published (or default) value, the line
    gives the published (or default) value. For a value that comes from an earlier run of the chain, it names the run.
    """
    info = cls.model_fields[name]
    field_widget(name, info, published, key)
    value = values.changes.get(name, preset[name])
    if name in values.problems:
        st.markdown(f":red[:material/error: {markdown(values.problems[name])}]")
    elif inherited and name not in values.changes:
        st.caption(f"As in the {inherited}")
    elif value != published and name not in ("seed", "split_seed", "device", "threads"):
        moved = name in values.changes and preset[name] != published
        reference = "Published" if setting_of(info).source else "Default"
        own = f" · preset: {value_text(info, preset[name])}" if moved else ""
        st.caption(f"{reference}: {with_unit(info, published)}{markdown(own)}")


def _is_required(info: FieldInfo) -> bool:
    return type(None) not in typing.get_args(info.annotation)


def _kind(info: FieldInfo) -> Literal["flag", "choice", "several", "integer", "number", "text"]:
    annotation = info.annotation
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if annotation is bool:
        return "flag"
    if typing.get_origin(annotation) is Literal:
        return "choice"
    if typing.get_origin(annotation) is tuple:
        return "several"
    return "integer" if annotation is int else "number" if annotation is float else "text"


def held_value(info: FieldInfo, key: str, start: Any) -> Any:
    """Return the value that the session holds for a widget. If it holds none, store the initial value `start` first.

    Call this before the widget is drawn.
    """
    kind = _kind(info)
    if key not in st.session_state:
        st.session_state[key] = _in_widget(info, start)
    held = st.session_state[key]
    if kind == "several":
        return tuple(held)
    if kind == "number":
        return _number(held, info, start)
    return held.strip() if kind == "text" and isinstance(held, str) else held


def _in_widget(info: FieldInfo, value: Any) -> Any:
    """Convert the value of a field to the type that its widget keeps in the session, for example a tuple of names to a list."""
    kind = _kind(info)
    if kind == "several":
        return list(value)
    return value_text(info, value) if kind == "number" else value


def _number(text: str | None, info: FieldInfo, start: Any) -> Any:
    """Convert typed text to a float. Return text that is not a number unchanged, so that the configuration class rejects it.

    The field shows the initial value `start` with only six digits. While the text is unchanged, return `start` with all digits.
    """
    if text is not None and text.strip() == value_text(info, start):
        return start
    value = parse_pixels((text or "").strip())
    return value if isinstance(value, float) else (text or "")


def field_widget(name: str, info: FieldInfo, published: Any, key: str, on_change: Callable[[], None] | None = None) -> None:
    """Show the widget of a field. The session keeps the widget's value under `key`, even while another page is open.

    Call `held_value` first. It gives the widget its initial value.

    Args:
        name, info: name and declaration of the field.
        published: published value of the field, or its default, for the help text.
        key: key of the widget in the session.
        on_change: function to call after the user has changed the value.
    """
    changed: Callable[[], None] | Literal["rerun"] = on_change or "rerun"
    kind, label, about = _kind(info), label_of(name), help_text(name, info, published)
    if unit_of(info):
        label += f" ({unit_of(info)})"
    if kind == "flag":
        st.toggle(label, key=key, help=about, on_change=changed, persist_state="session")
    elif kind == "choice":
        st.selectbox(label, typing.get_args(info.annotation), key=key, help=about,
                     format_func=lambda choice: value_text(info, choice), on_change=changed, persist_state="session")
    elif name == "transfer_from":  # ids of runs, to be typed
        st.multiselect(label, st.session_state[key], key=key, help=about, accept_new_options=True, on_change=changed,
                       persist_state="session")
    elif kind == "several":
        st.multiselect(label, _several(info, st.session_state[key]), key=key, help=about, format_func=title_of,
                       on_change=changed, persist_state="session")
    elif name in NAMES_OF:
        st.selectbox(label, NAMES_OF[name](), index=None, key=key, help=about, placeholder=nothing_text(info),
                     format_func=lambda one: image_source(one).title, on_change=changed, persist_state="session")
    elif kind == "integer":
        st.number_input(label, value=None, step=setting_of(info).step, key=key, help=about, placeholder=nothing_text(info),
                        on_change=changed, persist_state="session")
    else:
        st.text_input(label, key=key, help=about, live="400ms", on_change=changed, persist_state="session",
                      placeholder=nothing_text(info) if setting_of(info).empty else None)


def fits_widget(name: str, info: FieldInfo, value: Any) -> bool:
    """Return True if the widget of a field can show a value, which may come from a text that the user has written."""
    kind = _kind(info)
    if kind == "several":
        names = value if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value) else None
        return names is not None and len(set(names)) == len(names) and set(names) <= {*_several(info, names)}
    if kind == "integer":
        return value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_SHOWN)
    if kind == "number":
        return isinstance(value, (int, float, str)) or value is None
    if name in NAMES_OF:
        return value is None or value in NAMES_OF[name]()
    known = typing.get_args(info.annotation) if kind == "choice" else (True, False) if kind == "flag" else None
    return value in known if known else isinstance(value, str) or value is None


def _several(info: FieldInfo, held: Sequence[str] = ()) -> list[str]:
    """Return the options of a field whose value is a tuple of names.

    If the type of the field lists names, these are the options. Otherwise the options are all attacks of the catalogue.

    Args:
        info: the field.
        held: current value of the field. Its names are added to the attacks, because the catalogue lists PGD only with common
            numbers of steps, and the field may hold PGD with another number.
    """
    listed = typing.get_args(typing.get_args(info.annotation)[0])
    return list(listed or dict.fromkeys((*ATTACKS, *held)))


def title_of(name: str) -> str:
    """Return the title of an attack or objective. Any other name is returned unchanged."""
    return ATTACKS[name].title if name in ATTACKS else OBJECTIVES[name].title if name in OBJECTIVES else name


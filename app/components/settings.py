"""Tables and sentences about the settings of a run. They also show which settings differ from the published settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic.fields import FieldInfo

from app.components.form import label_of, with_unit
from app.components.html_table import StaticColumn, html_table
from app.formats import EMPTY, dataset_title, plural
from app.theme import KIND_TITLES
from engine.config import RunConfig, setting_of
from engine.configuring import Difference, config_class
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError
from engine.run.chain import SHARED
from engine.search.methods.registry import METHODS


def is_published(kind: str, method: str | None) -> bool:
    """Return True if a paper specifies the settings for this kind of run and method.

    Otherwise the settings of a run are compared with our own defaults.
    """
    return kind != "search" or method is None or method not in METHODS or METHODS[method].published


def reference_words(kind: str, method: str | None, dataset: str) -> str:
    """Return a phrase for the settings that a run is compared with, for example "the published settings for CIFAR-10"."""
    words = "the published settings" if is_published(kind, method) else "our default settings"
    return f"{words} for {DATASETS['cifar10'].title}" if _is_adapted(dataset) else words


def paper_words(kind: str, method: str | None, dataset: str, differing: int) -> str:
    """Return a description of the preset `paper`. It says whether any setting of the preset differs from the published value.

    Args:
        kind, method, dataset: kind, search method and dataset of the run.
        differing: number of settings in the preset that differ from the published values, as counted by `differences_from_paper`.
    """
    words = reference_words(kind, method, dataset)
    words = words[0].upper() + words[1:]
    if _is_adapted(dataset):
        words += f", adapted to {dataset_title(dataset)}: {differ_text(differing)}"
    elif differing:
        words += f" with {plural(differing, 'exception')}"
    return f"{words}.{_no_paper(kind, method)}"


def differences_words(kind: str, method: str | None, dataset: str, differing: int) -> str:
    """Return a sentence giving the number of differing settings, such as "15 settings differ from the published settings"."""
    return f"{differ_text(differing)} from {reference_words(kind, method, dataset)}.{_no_paper(kind, method)}"


def differences_html(kind: str, method: str | None, differences: Sequence[Difference], reference: str = "") -> str:
    """Return an HTML table of the settings in `differences`, with the value in the run and the reference value.

    Args:
        kind, method: kind and search method of the run.
        differences: the settings.
        reference: heading of the column of reference values; by default "Published" or "Default".
    """
    fields = _fields(kind, method)
    columns: tuple[StaticColumn[Difference], ...] = (
        StaticColumn(f"{KIND_TITLES.get(kind, kind)} setting", lambda one: label_of(one.field), names_row=True),
        StaticColumn("This run", lambda one: _value(fields, one.field, one.value)),
        StaticColumn(reference or ("Published" if is_published(kind, method) else "Default"),
                     lambda one: _value(fields, one.field, one.paper)),
    )
    return html_table(columns, differences, label=f"{KIND_TITLES.get(kind, kind)} settings that differ", look="rp-wrap")


def chain_settings_html(method: str | None, steps: Sequence[tuple[str, RunConfig]]) -> str:
    """Return an HTML table of the settings that runs of a chain inherit from the run before, with the value in each run.

    Args:
        method: search method of the chain.
        steps: (kind, configuration) of each run of the chain, earliest first.
    """
    fields = {kind: _fields(kind, method) for kind, _ in steps}
    columns = [StaticColumn("Setting", label_of, names_row=True)]
    columns += [StaticColumn(KIND_TITLES.get(kind, kind), partial(_value_in, fields[kind], config)) for kind, config in steps]
    return html_table(columns, [*SHARED, "split_seed"], label="Settings along the chain")


def _value_in(fields: Mapping[str, FieldInfo], config: RunConfig, name: str) -> object:
    return _value(fields, name, getattr(config, name)) if name in fields else EMPTY


def all_settings_html(kind: str, method: str | None, values: Mapping[str, Any], differences: Sequence[Difference]) -> str:
    """Return an HTML table of all settings by group, with value and meaning. Rows of settings in `differences` are tinted."""
    fields = _fields(kind, method)
    differing = {one.field for one in differences}
    columns: tuple[StaticColumn[str], ...] = (
        StaticColumn("Setting", label_of, names_row=True),
        StaticColumn("Value", lambda name: _value(fields, name, values[name])),
        StaticColumn("Meaning", lambda name: fields[name].description or "" if name in fields else "", look="rp-label"),
    )
    groups: dict[str, list[str]] = {}
    for name in values:
        groups.setdefault(_group(fields, name), []).append(name)
    names = [name for members in groups.values() for name in members]
    return html_table(columns, names, label="All settings", group=lambda name: _group(fields, name),
                      row_look=lambda name: "rp-differs" if name in differing else "")


def setting_text(kind: str, method: str | None, name: str, value: Any) -> str:
    """Return the value of a setting as text with its unit; a dash for None."""
    return EMPTY if value is None else _value(_fields(kind, method), name, value)


def _is_adapted(dataset: str) -> bool:
    """Return True if there are no published settings for the dataset, so that the settings for CIFAR-10 serve as reference."""
    return dataset in DATASETS and not DATASETS[dataset].published


def differ_text(number: int) -> str:
    """Return the number of differing settings in words, for example "15 settings differ" or "No setting differs"."""
    return f"{plural(number, 'setting')} {'differs' if number == 1 else 'differ'}" if number else "No setting differs"


def _no_paper(kind: str, method: str | None) -> str:
    return "" if is_published(kind, method) else f" No paper fixes the settings of {METHODS[str(method)].title}."


def _group(fields: Mapping[str, FieldInfo], name: str) -> str:
    return setting_of(fields[name]).group if name in fields else "Other"


def _fields(kind: str, method: str | None) -> Mapping[str, FieldInfo]:
    """Return the fields of a run's configuration, or {} if this version does not know the kind or method of the run."""
    try:
        return config_class(kind, method).model_fields
    except ConfigError:
        return {}


def _value(fields: Mapping[str, FieldInfo], name: str, value: Any) -> str:
    """Return the value of a setting as text. The unit is included if the setting is in `fields`."""
    if name == "dataset":
        return dataset_title(value)
    return with_unit(fields[name], value) if name in fields else str(value)

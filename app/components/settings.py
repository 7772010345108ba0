"""The settings of a run, or of one to be launched: what differs from the published ones, and all of them, grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from app.components.form import label_of, with_unit
from app.components.formats import escape
from engine.config import setting_of
from engine.configuring import Difference, config_class
from engine.errors import ConfigError
from engine.search.methods.registry import METHODS

OF_A_RUN = ("Setting", "This run", "Published")  # titles of the columns


def is_published(kind: str, method: str | None) -> bool:
    """Whether a paper fixes the settings that a run's are compared with, not we."""
    return kind != "search" or method not in METHODS or METHODS[method].published


def differences_html(kind: str, method: str | None, found: Sequence[Difference], titles: Sequence[str] = OF_A_RUN) -> str:
    """Setting, value here, published value, one row each, under three titles."""
    fields = _fields(kind, method)
    rows = "".join(f"<tr><td>{escape(label_of(one.field))}</td><td>{_value(fields, one.field, one.value)}</td>"
                   f"<td>{_value(fields, one.field, one.paper)}</td></tr>" for one in found)
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    return f'<div class="rp-scroll"><table class="rp-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def all_settings_html(kind: str, method: str | None, values: Mapping[str, Any], found: Sequence[Difference]) -> str:
    """Every setting by group with its meaning; those in `found` differ from the published ones and are tinted."""
    fields = _fields(kind, method)
    differing = {one.field for one in found}
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        info = fields.get(name)
        groups.setdefault(setting_of(info).group if info else "Other", []).append(
            f'<tr class="{"rp-differs" if name in differing else ""}"><td>{escape(label_of(name))}</td>'
            f'<td>{_value(fields, name, value)}</td>'
            f'<td class="rp-label">{escape(info.description or "") if info else ""}</td></tr>')
    parts = [f'<tr><th scope="rowgroup" colspan="3">{escape(group)}</th></tr>{"".join(rows)}' for group, rows in groups.items()]
    return f'<div class="rp-scroll"><table class="rp-table"><tbody>{"".join(parts)}</tbody></table></div>'


def _fields(kind: str, method: str | None) -> Mapping[str, FieldInfo]:
    """The fields of a run's settings; none for a kind or method that this version does not know."""
    try:
        return config_class(kind, method).model_fields
    except ConfigError:
        return {}


def _value(fields: Mapping[str, FieldInfo], name: str, value: Any) -> str:
    """A value with its unit, as the Launch page writes it; as it is where this version does not know the field."""
    return escape(with_unit(fields[name], value) if name in fields else value)

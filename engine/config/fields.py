"""The fields of a configuration: a setting with its bounds, help, source and unit, and settings that several classes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo

from engine.architecture.placement import RULES, PlacementName, width_ratio_text


def parse_pixels(value: Any) -> Any:
    """Parse "8/255" as a float in pixel space, 0..1; return anything else unchanged for pydantic."""
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError, OverflowError):
            return value
    return value


def pixels_text(value: float) -> str:
    """Format a value in pixel space: "8/255" for a whole number of grey levels, else six digits. Inverse of `parse_pixels`."""
    levels = round(value * 255)
    return f"{levels}/255" if 0 < levels < 255 and abs(levels - value * 255) < 1e-6 else f"{value:.6g}"


Pixels = Annotated[float, BeforeValidator(parse_pixels), Field(ge=0, le=1)]


def is_pixels(info: FieldInfo) -> bool:
    """Return True if a field is a value in pixel space (0..1) that may be written "8/255"."""
    return any(isinstance(part, BeforeValidator) for part in info.metadata)


@dataclass(frozen=True)
class Setting:
    """The facts about a setting in addition to its type and bounds.

    Attributes:
        group: heading of the setting in forms.
        source: paper or code that the default comes from; "" for our own default.
        unit: unit of the value, for example "pixels"; "" for none.
        empty: meaning of an empty field, for example "all"; "" if the field cannot be empty.
        step: step of the plus and minus buttons in forms.
        deviation: words for the name of a run whose value is not the published one, for example "lambda {value}"; "" if the
            value does not change the mathematics or `RunConfig.deviations` words it.
        titles: names of the choices on a page, if those in files are too short.
    """

    group: str
    source: str = ""
    unit: str = ""
    empty: str = ""
    step: int = 1
    deviation: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)


def setting(default: Any, text: str, *, group: str, source: str = "", unit: str = "", empty: str = "", step: int = 1,
            deviation: str = "", titles: Mapping[str, str] | None = None, **bounds: Any) -> Any:
    """Return a pydantic field with everything that forms, flags and the documentation show.

    Args:
        default: the published value if there is one.
        text: help in one or two sentences; the meaning of an empty field is appended. The text of a setting that can leave the
            published mathematics begins with "Differs" and the condition.
        group, source, unit, empty, step, deviation, titles: as in `Setting`.
        bounds: ge, gt, le, lt, multiple_of, pattern for pydantic.
    """
    facts = Setting(group, source, unit, empty, step, deviation, dict(titles or {}))
    description = f"{text} Empty: {empty}." if empty else text
    return Field(default, description=description, json_schema_extra=asdict(facts), **bounds)


def setting_of(info: FieldInfo) -> Setting:
    """Return the facts that `setting` stored in a field."""
    return Setting(**cast(dict[str, Any], info.json_schema_extra))


def value_words(info: FieldInfo, value: Any) -> str:
    """Format a value for names and tables: "8/255" in pixel space, else up to six digits."""
    if isinstance(value, float):
        return pixels_text(value) if is_pixels(info) else f"{value:.6g}"
    return str(value)


WidthRatio = Annotated[str, AfterValidator(width_ratio_text)]
PLACEMENT_TITLES = {name: rule.title for name, rule in RULES.items()}
THIRDS = "; ".join(f"{name}: {', '.join(' and '.join(kinds) for kinds in rule.thirds)}" for name, rule in RULES.items())


def placement_setting(default: PlacementName, source: str, note: str = "", group: str = "Supernet") -> Any:
    """Return the setting `placement` of a method published with the rule `default`; `note` is appended to the help."""
    return setting(
        default, f"Differs unless {default}: sets the cell kinds before the first reduction, between the two and after the "
        f"second. {THIRDS}.{' ' + note if note else ''}", group=group, source=source, titles=PLACEMENT_TITLES)


def width_ratio_setting(default: str, source: str, note: str = "", group: str = "Supernet") -> Any:
    """Return the setting `width_ratio` of a method published with `default`; `note` is appended to the help."""
    return setting(
        default, f"Differs unless {default}: widths of the cells before the first reduction, between the two and after the "
        f"second, in units of channels. Three whole numbers from 1 to 16, the first of them 1. Use 1:1:1 for equal widths."
        f"{' ' + note if note else ''}", group=group, source=source)


def normalisation(default: bool, source: str) -> Any:
    """Return the setting `normalise` of a class whose published code normalises images (True) or leaves them in 0..1."""
    return setting(
        default, f"Differs when {'off' if default else 'on'}: normalises images inside the network, by the mean and standard "
        "deviation of each channel. The numbers are the published ones for CIFAR-10, CIFAR-100 and SVHN, else those of the "
        "training images. Attacks stay in pixel space; cutout blanks with the mean.", group="Deviations", source=source)


def in_sentence(title: str) -> str:
    """Return a title with a lower-case first letter, for use within a sentence: "robust cells first"."""
    return title[:1].lower() + title[1:]

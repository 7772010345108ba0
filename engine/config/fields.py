"""Functions that declare settings. A declaration gives the default, bounds, help text, source and unit of a setting.

Settings that several configuration classes share are declared here as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo

from engine.architecture.placement import RULES, PlacementName, width_ratio_text

# A number, or a fraction of two. Its length and its exponent are bounded, because the value of a fraction is computed exactly,
# which takes minutes for a text such as 1e30000000.
_PART = r"[+-]?(?:[0-9]{1,32}\.?[0-9]{0,32}|\.[0-9]{1,32})(?:[eE][+-]?[0-9]{1,3})?"
_NUMBER = re.compile(f"{_PART}(?:/{_PART})?")


def parse_pixels(value: Any) -> Any:
    """Convert a text such as "8/255" or "0.03" to a float. Return any other value unchanged."""
    text = "/".join(part.strip() for part in value.split("/")) if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        try:
            return float(Fraction(text))
        except (ValueError, ZeroDivisionError, OverflowError):
            return value
    return value


def pixels_text(value: float) -> str:
    """Format a value in pixel space (0..1) as text that `parse_pixels` reads.

    A whole number of grey levels is written like "8/255", and any other value as a decimal number with up to six digits.
    """
    levels = round(value * 255) if 0 < value < 1 else 0  # a draft may hold any number, up to 1e308
    return f"{levels}/255" if 0 < levels < 255 and abs(levels - value * 255) < 1e-6 else f"{value:.6g}"


Pixels = Annotated[float, BeforeValidator(parse_pixels), Field(ge=0, le=1)]
# Length in pixel space that must not be 0, for example the radius of the ball in which an attack searches.
PositivePixels = Annotated[float, BeforeValidator(parse_pixels), Field(gt=0, le=1)]


def is_pixels(info: FieldInfo) -> bool:
    """Return True if a field holds a value in pixel space (0..1), which users may write as "8/255"."""
    return any(isinstance(part, BeforeValidator) for part in info.metadata)


@dataclass(frozen=True)
class Setting:
    """The facts about a setting that its type and bounds do not express.

    Attributes:
        group: heading under which forms show the setting.
        source: paper or code from which the default comes; "" if the default is our own.
        unit: unit of the value, for example "pixels"; "" if the value has no unit.
        empty: meaning of an empty field, for example "all"; "" if the field cannot be empty.
        step: amount by which the plus and minus buttons of a form change the value.
        deviation: phrase for the name of a run whose value differs from the preset's, for example "lambda {value}". "" stands for
            the name of the setting followed by the value.
        silent: True to leave this phrase out, because the setting changes only the size, length or bookkeeping of a run, or
            because `RunConfig.deviations` returns the phrase.
        titles: {value of the setting: display name on pages}. Empty if pages show the values themselves.
    """

    group: str
    source: str = ""
    unit: str = ""
    empty: str = ""
    step: int = 1
    deviation: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False


def setting(default: Any, text: str, *, group: str, source: str = "", unit: str = "", empty: str = "", step: int = 1,
            deviation: str = "", titles: Mapping[str, str] | None = None, silent: bool = False, **bounds: Any) -> Any:
    """Return a pydantic field that holds all facts about a setting, for forms, command-line flags and the documentation.

    Args:
        default: the published value, or our own default if nothing is published.
        text: help text. The meaning of an empty field is appended to it. If the setting can change the published mathematics, the
            text begins with "Differs" and the condition, for example "Differs when on:".
        group, source, unit, empty, step, deviation, titles, silent: attributes of `Setting`.
        bounds: pydantic's constraints ge, gt, le, lt, multiple_of and pattern.
    """
    facts = Setting(group, source, unit, empty, step, deviation, dict(titles or {}), silent)
    description = f"{text} Empty: {empty}." if empty else text
    return Field(default, description=description, json_schema_extra=asdict(facts), **bounds)


def setting_of(info: FieldInfo) -> Setting:
    """Return the facts that the function `setting` has stored in a field."""
    return Setting(**cast(dict[str, Any], info.json_schema_extra))


def value_words(info: FieldInfo, value: Any) -> str:
    """Format the value of a setting for run names and tables.

    A float gets up to six digits. If the setting is in pixel space (0..1), a whole number of grey levels is written like "8/255".
    """
    if isinstance(value, float):
        return pixels_text(value) if is_pixels(info) else f"{value:.6g}"
    return str(value)


WidthRatio = Annotated[str, AfterValidator(width_ratio_text)]
PLACEMENT_TITLES = {name: rule.title for name, rule in RULES.items()}
THIRDS = "; ".join(f"{name}: {', '.join(' and '.join(kinds) for kinds in rule.thirds)}" for name, rule in RULES.items())


def placement_setting(default: PlacementName, source: str, note: str = "", group: str = "Supernet") -> Any:
    """Return the field for the setting `placement`, the rule that determines which cell kind is used at which layer.

    Args:
        default: the rule that was published with the method.
        source: paper or code in which the rule was published.
        note: sentence that is appended to the help text.
        group: heading under which forms show the setting.
    """
    return setting(
        default, f"Differs unless {default}: sets the cell kinds before the first reduction, between the two and after the "
        f"second. {THIRDS}.{' ' + note if note else ''}", group=group, source=source, titles=PLACEMENT_TITLES)


def width_ratio_setting(default: str, source: str, note: str = "", group: str = "Supernet") -> Any:
    """Return the field for the setting `width_ratio`, the relative widths of the cells in the three thirds of the network.

    Args:
        default: the ratio that was published with the method, for example "1:2:4".
        source: paper or code in which the ratio was published.
        note: sentence that is appended to the help text.
        group: heading under which forms show the setting.
    """
    return setting(
        default, f"Differs unless {default}: widths of the cells before the first reduction, between the two and after the "
        f"second, in units of channels. Three whole numbers from 1 to 16, the first of them 1. Use 1:1:1 for equal widths."
        f"{' ' + note if note else ''}", group=group, source=source)


def normalisation(default: bool, source: str) -> Any:
    """Return the field for the setting `normalise`, which turns on the normalisation of images by mean and standard deviation.

    Args:
        default: True if the published code normalises images, False if it leaves them in 0..1.
        source: name of the published code.
    """
    return setting(
        default, f"Differs when {'off' if default else 'on'}: normalises images inside the network, by the mean and standard "
        "deviation of each channel. The numbers are the published ones for CIFAR-10, CIFAR-100 and SVHN, else those of the "
        "training images. Attacks stay in pixel space; cutout blanks with the mean.", group="Deviations", source=source)

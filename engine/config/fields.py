"""What one setting is: value, bounds, help, source and unit in one place, and the kinds of fields that several classes have."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo

from engine.placement import RULES, PlacementName, width_ratio_text


def parse_pixels(value: Any) -> Any:
    """Reads "8/255" as a float; anything else is left to pydantic. Values are in pixel space, 0..1."""
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            return value
    return value


def pixels_text(value: float) -> str:
    """The way back from `parse_pixels`: "8/255" for a whole number of grey levels, else the number to six digits."""
    levels = round(value * 255)
    return f"{levels}/255" if 0 < levels < 255 and abs(levels - value * 255) < 1e-6 else f"{value:.6g}"


Pixels = Annotated[float, BeforeValidator(parse_pixels), Field(ge=0, le=1)]


def is_pixels(info: FieldInfo) -> bool:
    """Whether a field is a value in pixel space (0..1) that may be written "8/255"."""
    return any(isinstance(part, BeforeValidator) for part in info.metadata)


def setting(default: Any, text: str, *, group: str, source: str = "", unit: str = "", titles: Mapping[str, str] | None = None,
            **bounds: Any) -> Any:
    """A field with everything that a form, a flag and the documentation show.

    Args:
        default: the published value where there is one.
        text: what the setting means, one or two plain sentences. One that can leave the published mathematics begins
            with "Differs" and when it does.
        group: heading under which forms put it.
        source: paper or code the default comes from.
        unit: unit of the value where the type cannot say.
        titles: what a form calls each choice, where its name is for files.
        bounds: ge, gt, le, lt, multiple_of for pydantic.
    """
    extra: dict[str, Any] = {"group": group, "source": source, "unit": unit} | ({"titles": dict(titles)} if titles else {})
    return Field(default, description=text, json_schema_extra=extra, **bounds)


WidthRatio = Annotated[str, AfterValidator(width_ratio_text)]
PLACEMENT_TITLES = {name: rule.title for name, rule in RULES.items()}
THIRDS = "; ".join(f"{name}: {', '.join(' and '.join(kinds) for kinds in rule.thirds)}" for name, rule in RULES.items())


def placement_setting(default: PlacementName, source: str, note: str = "", group: str = "Supernet") -> Any:
    """The setting `placement` of a method that is published with the rule `default`. note: a further sentence of the help."""
    return setting(
        default, f"Differs unless {default}: which kinds of cells there are, and which of them stand before the first reduction, "
        f"before the second and behind it. {THIRDS}.{' ' + note if note else ''}", group=group, source=source,
        titles=PLACEMENT_TITLES)


def width_ratio_setting(default: str, source: str, note: str = "", group: str = "Supernet") -> Any:
    """The setting `width_ratio` of a method that is published with `default`. note: as `placement_setting`."""
    return setting(
        default, f"Differs unless {default}: widths of the cells before the first reduction, before the second and behind it, in "
        f"units of channels. Three whole numbers from 1 to 16, the first of them 1; 1:1:1 for equal widths."
        f"{' ' + note if note else ''}", group=group, source=source)


def normalisation(default: bool, source: str) -> Any:
    """The setting `normalise` of a class whose published code normalises images (True) or leaves them in 0..1."""
    return setting(
        default, f"Differs when {'off' if default else 'on'}: the network subtracts from each image channel its mean and divides "
        "by its standard deviation (published numbers on CIFAR-10, CIFAR-100 and SVHN, elsewhere those of the training images). "
        "Attacks stay in pixels; a square that is cut out is blanked with the mean.", group="Deviations", source=source)


def in_sentence(title: str) -> str:
    """A title as it stands inside a sentence: "robust cells first"."""
    return title[:1].lower() + title[1:]

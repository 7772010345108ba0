"""The questions that ship with Rampart. Each is a recipe for a study, in a YAML file in engine/study/recipes/. Imports no torch.

A recipe lists the arms and the pairs of arms to compare. The size of the study, "demo" or "full", adds the seeds. The size "demo"
also adds settings that make the runs short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from engine.configuration_file import read_record
from engine.configuring import preset_values
from engine.data.catalogue import DATASETS, image_source
from engine.data.prepared import absence
from engine.data.splits import split_sizes
from engine.errors import ConfigError
from engine.registry import Registry, unknown_name
from engine.study.declaration import Study
from engine.study.parsing import ENTRIES, checked, from_record

FOLDER = Path(__file__).parent / "recipes"
# Values of settings of a search that depend on the study: the source dataset of a transfer, and the last epoch of the first half.
SOURCE, HALF = "SOURCE", "HALF"


@dataclass(frozen=True)
class Size:
    """A size of a study: the number of its seeds and the length of its runs.

    Attributes:
        name: "demo" or "full".
        title: name shown to users.
        words: one sentence on the purpose of this size.
        search_seeds, retrainings: number of search seeds, and of retrainings for each of them.
        changes: changed settings of every arm, as {kind of run: {name of the setting: value}}. Settings that a method does not
            have are left out. A number is changed only if that makes it smaller than in the preset.
    """

    name: str
    title: str
    words: str
    search_seeds: int
    retrainings: int
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


SIZES = {
    "demo": Size("demo", "Demonstration", "Shows how the study works. With Digits 8x8, it takes at most 20 minutes on two CPU "
                 "cores. It makes no claim.", 2, 1, {"search": {"epochs": 4, "switch_epoch": 1}, "retrain": {"epochs": 6},
                        "attack": {"attacks": ("autoattack",), "autoattack_images": 100, "checks": False, "certify": False,
                                   "sweep_radii": None}}),
    "full": Size("full", "Full", "Enough seeds for a claim: at least five search seeds an arm or, where networks are ranked, "
                 "at least ten. Each is retrained twice.", 5, 2,
                 {"attack": {"sweep_radii": None, "certify": False}}),
}


@dataclass(frozen=True)
class Recipe:
    """A question that ships with Rampart, as a recipe for the study that answers it.

    Attributes:
        name: registry name, which is the name of its file.
        number: position in the list of questions.
        title: short title.
        question: the question, as a sentence.
        compares: one or two sentences that say what is compared.
        remark: sentences on the arms that a reader of the answer must know; "" for none.
        record: the declaration of the study without seeds, as an object.
    """

    name: str
    number: int
    title: str
    question: str
    compares: str
    remark: str
    record: Mapping[str, Any]

    @property
    def needs_source(self) -> bool:
        """True if the recipe needs a second dataset, on which the search finds the cells of the network."""
        return SOURCE in str(self.record)

    def study(self, size: str = "full", dataset: str = "digits", *, preset: str | None = None, source: str = "",
              seeds: int | None = None) -> Study:
        """Return the study that answers the question.

        Args:
            size: "demo" or "full".
            dataset: dataset of the runs.
            preset: preset of the runs; None for `paper` on datasets with published settings, and for `quick` on others.
            source: dataset of the search; used only if `needs_source` is True.
            seeds: number of search seeds; None for the number that belongs to the size.

        Raises:
            ConfigError: the size or a dataset is unknown, or a setting does not fit the dataset.
        """
        if size not in SIZES:
            raise ConfigError(unknown_name("size of a study", size, SIZES))
        if self.needs_source and (source not in DATASETS or source == dataset):
            raise ConfigError(unknown_name("source dataset of a transfer", source, sources_for(dataset)))
        chosen = SIZES[size]
        record = {name: value for name, value in self.record.items() if name in ENTRIES}
        preset = preset or ("paper" if DATASETS[dataset].published else "quick")
        record |= {"arms": [_sized(arm, chosen, dataset, preset, source) for arm in self.record["arms"]], "dataset": dataset,
                   "preset": preset, "recipe": self.name, "size": size,
                   "search_seeds": int(self.record.get("seeds", {}).get(size, chosen.search_seeds)) if seeds is None else seeds,
                   "retrainings": chosen.retrainings}
        return checked(from_record(record))


def sources_for(dataset: str) -> list[str]:
    """Return the datasets from which cells can be transferred to `dataset`, most informative first.

    Datasets with other images come before datasets with the same images at another size. Within each of these two groups,
    datasets on this machine come first.
    """
    others = [name for name in DATASETS if name != dataset]
    return sorted(others, key=lambda name: (DATASETS[name].origin == DATASETS[dataset].origin, bool(absence(image_source(name)))))


def _sized(arm: Mapping[str, Any], size: Size, dataset: str, preset: str, source: str) -> dict[str, Any]:
    """Return an arm of a recipe with the settings that a size adds. Settings that the arm has already are not changed."""
    changed = dict(arm)
    for kind, common in size.changes.items():
        if kind == "search" and not arm.get("method"):
            continue
        usual = preset_values(kind, arm.get("method") if kind == "search" else None, dataset, preset)
        if kind == "attack":
            usual["autoattack_images"] = split_sizes(dataset, usual["images"])["test"]  # an attack cannot have more images
        values = {name: _shorter(value, usual[name]) for name, value in common.items() if name in usual}
        changed[kind] = values | dict(arm.get(kind) or {})
    if search := changed.get("search"):
        epochs = int(search.get("epochs") or preset_values("search", arm["method"], dataset, preset)["epochs"])
        words = {SOURCE: source, HALF: epochs // 2 - 1}
        changed["search"] = {name: words.get(value, value) if isinstance(value, str) else value for name, value in search.items()}
    return changed


def _shorter(value: Any, usual: Any) -> Any:
    """Return the smaller of `value` and `usual`, or `value` if one of them is not an integer."""
    numbers = all(isinstance(one, int) and not isinstance(one, bool) for one in (value, usual))
    return min(value, usual) if numbers else value


def _read(path: Path) -> Recipe:
    record = read_record(path.read_text(encoding="utf-8"))
    return Recipe(path.stem, int(record["number"]), record["title"], record["question"], record["compares"],
                  record.get("remark", ""), record)


@cache
def recipes() -> Registry[Recipe]:
    """Return all recipes, keyed by name, in the order of their numbers."""
    registry: Registry[Recipe] = Registry("question")
    for recipe in sorted(map(_read, FOLDER.glob("*.yaml")), key=lambda one: one.number):
        registry.add(recipe.name, recipe)
    return registry

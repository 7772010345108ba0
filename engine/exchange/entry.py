"""The door of the import: what a file is, and which questions it leaves open. Imports torch for checkpoints only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import ConfigError
from engine.exchange import imported, source
from engine.exchange.forms import ENDINGS, FORMS, form_of
from engine.registry import unknown_name

# Which form each further option belongs to.
_BELONGS = {"name": ("genotype",), **dict.fromkeys(("genotype", "placement", "mean", "std"), ("checkpoint",))}


def take(runs: Path, path: Path, form: str | None = None, *, name: str | None = None, genotype: str | None = None,
         dataset: str | None = None, placement: str | None = None, title: str | None = None,
         mean: Sequence[float] | None = None, std: Sequence[float] | None = None, command: str = "") -> str:
    """Makes a finished run of a file; returns its id.

    Args:
        runs: folder of all runs.
        path: the file.
        form: one of `FORMS`; None to go by the file's ending.
        name: which genotype, where the file has several.
        genotype: of a checkpoint: a catalogue name, JSON, or the id of a run.
        dataset: registry name; a checkpoint needs it.
        placement: of a checkpoint's cells; None for that of the run which `genotype` names, else the published rule.
        title: what to call the run.
        mean, std: see `engine.exchange.weights.import_checkpoint`.
        command: the line that asked for it.

    Raises:
        ConfigError, GenotypeError, CheckpointError, RunError: a sentence; nothing was written then.
    """
    form = form or form_of(path.name)
    if form is None:
        raise ConfigError(f"What a file is must be told by its ending ({', '.join(ENDINGS)}), got {path.name!r}; give --as "
                          f"{' or --as '.join(FORMS)}.")
    if form not in FORMS:
        raise ConfigError(unknown_name("form of import", form, FORMS))
    for option, value in (("name", name), ("genotype", genotype), ("placement", placement), ("mean", mean), ("std", std)):
        if value is not None and form not in _BELONGS[option]:
            raise ConfigError(f"--{option} belongs to the import of a {' or '.join(_BELONGS[option])}, got it for a {form}; "
                              "leave it out.")
    origin = imported.origin_of(path, form, command)
    if form == "genotype":
        return imported.import_genotype(runs, path, origin, name=name, title=title, dataset=dataset)
    if form == "log":
        return imported.import_log(runs, path, origin, title=title, dataset=dataset)
    if form == "curves":
        from engine.exchange.curves import import_curves

        return import_curves(runs, path, origin, title=title, dataset=dataset)
    for option, value in (("genotype", genotype), ("dataset", dataset)):
        if value is None:
            raise ConfigError(f"A checkpoint needs --{option}, because the file does not say with which it was trained, got "
                              "none; give it.")
    from engine.exchange.weights import import_checkpoint

    assert genotype is not None and dataset is not None
    network = source.find(genotype, runs).cells("An imported checkpoint")
    return import_checkpoint(runs, path, origin, genotype=network.genotype, dataset=dataset,
                             placement=placement or network.placement, title=title, mean=mean, std=std)

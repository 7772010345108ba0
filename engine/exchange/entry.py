"""Import of a file of any form. Imports torch for checkpoints only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import ConfigError
from engine.exchange import imported, source
from engine.exchange.forms import ENDINGS, FORMS, form_of
from engine.registry import unknown_name

# Option -> the forms that take it. All take a title and a dataset.
_FORMS_OF = {"name": ("genotype",), **dict.fromkeys(("genotype", "placement", "mean", "std"), ("checkpoint",))}


def take(runs: Path, path: Path, form: str | None = None, *, name: str | None = None, genotype: str | None = None,
         dataset: str | None = None, placement: str | None = None, title: str | None = None,
         mean: Sequence[float] | None = None, std: Sequence[float] | None = None, command: str = "") -> str:
    """Import a file as a finished run. Returns the run's id.

    Args:
        runs: folder of all runs.
        path: the file.
        form: one of `FORMS`; None for the form of the file's ending.
        name: genotype files only: the genotype to take; needed where the file has several.
        genotype: checkpoints only, required: a catalogue name, JSON, or the id of a run.
        dataset: registry name; required for checkpoints.
        placement: checkpoints only: position rule of the cells; None for that of the run that `genotype` names, else the
            published one.
        title: of the run; None for a name from the file.
        mean, std: checkpoints only: as `engine.exchange.weights.import_checkpoint`.
        command: the command line, kept with the run.

    Raises:
        ConfigError, GenotypeError, CheckpointError, RunError: the file does not fit or the run cannot be written; nothing is
            left behind.
    """
    form = form or form_of(path.name)
    if form is None:
        raise ConfigError(f"The ending of a file must tell what it is ({', '.join(ENDINGS)}), got {path.name!r}; give --as "
                          f"{' or --as '.join(FORMS)}.")
    if form not in FORMS:
        raise ConfigError(unknown_name("form of import", form, FORMS))
    for option, value in (("name", name), ("genotype", genotype), ("placement", placement), ("mean", mean), ("std", std)):
        if value is not None and form not in _FORMS_OF[option]:
            raise ConfigError(f"--{option} belongs to the import of a {' or '.join(_FORMS_OF[option])}, got it for the form "
                              f"{form}; leave it out.")
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
            raise ConfigError(f"A checkpoint needs --{option}, got none: the file does not hold it; give the {option} that the "
                              "network was trained with.")
    from engine.exchange.weights import import_checkpoint

    assert genotype is not None and dataset is not None
    network = source.find(genotype, runs).cells("An imported checkpoint")
    return import_checkpoint(runs, path, origin, genotype=network.genotype, dataset=dataset,
                             placement=placement or network.placement, title=title, mean=mean, std=std)

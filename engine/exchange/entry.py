"""Import of a file in any supported form: genotype, search log, alphas of a search, or checkpoint.

This module loads torch only if the file is a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.acts import act, returned
from engine.errors import ConfigError
from engine.exchange import imported, source
from engine.exchange.forms import ENDINGS, FORMS, form_of
from engine.registry import unknown_name

# For each option, the forms of files to which it applies. A title and a dataset can be given for every form.
_FORMS_OF = {"name": ("genotype",), **dict.fromkeys(("genotype", "placement", "mean", "std"), ("checkpoint",))}


@act("import", returned)
def take(runs: Path, path: Path, form: str | None = None, *, name: str | None = None, genotype: str | None = None,
         dataset: str | None = None, placement: str | None = None, title: str | None = None,
         mean: Sequence[float] | None = None, std: Sequence[float] | None = None, command: str = "") -> str:
    """Import a file as a finished run, and return the run's id. If the import fails, no run folder remains.

    Args:
        runs: folder of all runs.
        path: file to import.
        form: one of `FORMS`, which says what the file contains; None to infer it from the file's ending.
        name: for genotype files, the name of the genotype to import. Required if the file contains several genotypes.
        genotype: for checkpoints (required), the genotype of the network, as a catalogue name, JSON, or the id of a run.
        dataset: registry name of the dataset of the search or training; required for checkpoints.
        placement: for checkpoints, the position rule, which says where in the network each kind of cell is used. None means the
            rule of the run if `genotype` is the id of a run, and the published rule otherwise.
        title: title of the run; None to make a title from the content or the name of the file.
        mean: for checkpoints, the mean of each image channel that the training subtracted, for pixels in 0..1. None if the
            training did not normalise images, or the file contains the values.
        std: for checkpoints, the standard deviation of each image channel by which the training divided. None if the training did
            not normalise images, or the file contains the values.
        command: command line that imports the file, recorded in the run.

    Raises:
        ConfigError: an option is missing, invalid or does not apply to this form of file, or the file cannot be read.
        GenotypeError: a genotype is missing or invalid.
        CheckpointError: the content of a checkpoint or alphas file is unsuitable.
        RunError: the new run cannot be written, or the run that `genotype` names is unsuitable.
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

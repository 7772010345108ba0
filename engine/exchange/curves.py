"""Import of the alphas that E2RNAS's public search saves every epoch (Yue et al. 2022, arXiv 2011.09820; NAS-Benchmark, DARTS/).

`alphas_normal.npy` and `alphas_reduce.npy` hold one snapshot per epoch, taken before its training: the softmax weights of 14
edges over 8 operations, "none" first. Left out are `sols.npy` and `loss_data.npy`, whose columns are not documented.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from engine.architecture.genotype import EDGES, NONE, PRIMITIVES, Genotype, derive_genotype
from engine.errors import CheckpointError, ConfigError, first_line
from engine.exchange.forms import CURVES
from engine.exchange.imported import Origin, check_dataset, new_run, origin_of, write_result
from engine.exchange.reading import unreadable
from engine.run.event_kinds import Alert, Alpha, DerivedGenotype, Finished, Progress

COLUMNS = (NONE, *PRIMITIVES)
_ROUNDING = 1e-3  # tolerance of a row's sum; the files hold single precision


def import_curves(runs: Path, path: Path, origin: Origin, *, title: str | None = None, dataset: str | None = None) -> str:
    """Import both files as a finished search with alphas and a genotype per epoch. Returns the run's id.

    Alphas are the logarithms of the softmax weights: they give back the weights exactly, but not the alphas' constant per edge.

    Args:
        runs: folder of all runs.
        path: either file; the other must be in the same folder.
        origin: of `path`, by `engine.exchange.imported.origin_of`.
        title: of the run; None for the file's name.
        dataset: registry name of the dataset it was searched on; None if unknown.

    Raises:
        ConfigError, CheckpointError, RunError: the files do not fit or the run cannot be written; nothing is left behind.
    """
    config = check_dataset(dataset)
    if path.name not in CURVES.values():
        raise ConfigError(f"Curves must be one of the files {' and '.join(CURVES.values())}, got {path.name!r}; give either, "
                          "with the other in the same folder.")
    weights = {kind: read_weights(path.with_name(name)) for kind, name in CURVES.items()}
    epochs = len(weights["normal"])
    if len(weights["reduce"]) != epochs:
        raise CheckpointError(f"{CURVES['normal']} and {CURVES['reduce']} must have equally many epochs, got {epochs} and "
                              f"{len(weights['reduce'])}; take both from one search.")
    other = next(path.with_name(name) for name in CURVES.values() if name != path.name)
    other_hash = origin_of(other, origin.form, origin.command).sha256
    genotypes = [genotype_at(weights, epoch) for epoch in range(epochs)]
    with new_run(runs, "search", title or f"search of {origin.file}", config, origin) as (folder, events):
        events.write(Alert(level="info", text=f"Imported with it: {other.name} (SHA-256 {other_hash})."), step=0, epoch=0)
        for epoch, genotype in enumerate(genotypes):
            for kind in CURVES:
                # A softmax at low temperature can underflow to 0, which has no logarithm.
                alpha = np.log(np.maximum(weights[kind][epoch], np.finfo(np.float32).tiny))
                events.write(Alpha(cell=kind, primitives=COLUMNS, alpha=alpha), step=epoch, epoch=epoch)
            events.write(DerivedGenotype(genotype=genotype), step=epoch, epoch=epoch)
        last = epochs - 1
        events.write(Progress(phase="search", done=last, total=last, unit="epochs", detail=""), step=last, epoch=last)
        write_result(folder, genotypes[-1])
        events.write(Finished(), step=last, epoch=last)
    return folder.id


def genotype_at(weights: dict[str, np.ndarray], epoch: int) -> Genotype:
    """Return the genotype derived from the snapshot of an epoch. weights: cell kind -> [epochs, 14, 8]."""
    return derive_genotype({kind: of_kind[epoch].tolist() for kind, of_kind in weights.items()}, COLUMNS)


def read_weights(path: Path) -> np.ndarray:
    """Return the content of one file: float64 [epochs, 14, 8], summing to 1 over the last axis. Unpickles nothing.

    Raises:
        ConfigError: the file is missing or cannot be opened.
        CheckpointError: a damaged file, or other content.
    """
    try:
        # Memory-mapped, so that a header that claims more than the file holds costs no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as problem:
        raise unreadable(path, problem) from None
    except (ValueError, OSError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, zipfile.BadZipFile) as problem:
        reason = first_line(problem) or type(problem).__name__
        raise CheckpointError(f"{path.name} must be an array of numbers as numpy.save writes it, and cannot be read as one "
                              f"({reason}); save it anew without objects.") from None
    expected = (len(EDGES), len(COLUMNS))
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim != 3 or array.shape[1:] != expected \
            or not len(array):
        got = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise CheckpointError(f"{path.name} must be floating-point numbers [epochs, {expected[0]}, {expected[1]}], one weight "
                              f"per edge and operation with {NONE!r} first, got {got}; give a file of E2RNAS's search.")
    array = np.array(array, dtype=np.float64)
    if not (array >= 0).all() or np.abs(array.sum(axis=2) - 1).max() > _ROUNDING:
        raise CheckpointError(f"The rows of {path.name} must be softmax weights (not negative, sum 1), got other numbers; save "
                              "the softmax of the alphas, as the public code does.")
    return array

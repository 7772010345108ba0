"""Import of the alphas that the public code of E2RNAS saves in every epoch of a search.

E2RNAS is described by Yue et al. 2022, arXiv 2011.09820; its code is in the folder DARTS/ of the repository NAS-Benchmark. The
files `alphas_normal.npy` and `alphas_reduce.npy` contain one snapshot per epoch, taken before the epoch's training. A snapshot
holds the softmax weights of 8 operations on each of 14 edges. The first operation is "none". The files `sols.npy` and
`loss_data.npy` are not imported, because the meaning of their columns is not documented.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from engine.architecture.genotype import EDGES, NONE, PRIMITIVES, Genotype, derive_genotype
from engine.errors import CheckpointError, ConfigError, first_line
from engine.exchange.forms import CURVES
from engine.exchange.imported import Origin, check_dataset, new_run, origin_of, write_result
from engine.exchange.limits import bounded_memory
from engine.exchange.reading import unreadable
from engine.run.event_kinds import Alert, Alpha, DerivedGenotype, Finished, Progress

COLUMNS = (NONE, *PRIMITIVES)
_ROUNDING = 1e-3  # largest accepted deviation of a row's sum from 1, because the files hold single-precision numbers


LARGEST_CURVES = 64 * 2**20  # bytes; a search of 10,000 epochs has 9 MiB


def import_curves(runs: Path, path: Path, origin: Origin, *, title: str | None = None, dataset: str | None = None) -> str:
    """Import alphas_normal.npy and alphas_reduce.npy, written by E2RNAS's code, as a finished search. Return the new run's id.

    The run has alphas and a genotype for each epoch. The files contain softmax weights. Their logarithms are stored as alphas,
    which may differ from the original alphas by a constant per edge. If the import fails, no run folder remains.

    Args:
        runs: folder of all runs.
        path: one of the two files. The other file must be in the same folder.
        origin: record of the file at `path`, made by `engine.exchange.imported.origin_of`.
        title: title of the run; None to name the run after the file.
        dataset: registry name of the dataset on which the search ran; None if unknown.

    Raises:
        ConfigError: `path` has another file name, a file cannot be opened, or the dataset is unknown.
        CheckpointError: the content of a file is unsuitable, or the two files have different numbers of epochs.
        RunError: the run cannot be written.
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
                # A very small softmax weight can be stored as 0, which has no logarithm.
                alpha = np.log(np.maximum(weights[kind][epoch], np.finfo(np.float32).tiny))
                events.write(Alpha(cell=kind, primitives=COLUMNS, alpha=alpha), step=epoch, epoch=epoch)
            events.write(DerivedGenotype(genotype=genotype), step=epoch, epoch=epoch)
        last = epochs - 1
        events.write(Progress(phase="search", done=last, total=last, unit="epochs", detail=""), step=last, epoch=last)
        write_result(folder, genotypes[-1])
        events.write(Finished(), step=last, epoch=last)
    return folder.id


def genotype_at(weights: dict[str, np.ndarray], epoch: int) -> Genotype:
    """Derive a genotype from the softmax weights of one epoch.

    Args:
        weights: softmax weights [epochs, 14 edges, 8 operations], keyed by cell kind.
        epoch: number of the epoch, from 0.
    """
    return derive_genotype({kind: of_kind[epoch].tolist() for kind, of_kind in weights.items()}, COLUMNS)


def read_weights(path: Path) -> np.ndarray:
    """Read softmax weights from a file, as float64 [epochs, 14 edges, 8 operations]. The weights of an edge sum to 1.

    The file is read without unpickling, so it cannot execute code.

    Raises:
        ConfigError: the file is missing or cannot be opened.
        CheckpointError: the file is damaged or contains something other than softmax weights of this shape.
    """
    try:
        # Memory mapping protects against a header that announces more data than the file contains, as it allocates no memory.
        with bounded_memory(path, LARGEST_CURVES):
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

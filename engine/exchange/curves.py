"""The alphas that E2RNAS's public search saves after every epoch (Yue et al. 2022, arXiv 2011.09820; NAS-Benchmark, DARTS/).

`alphas_normal.npy` and `alphas_reduce.npy` hold one snapshot an epoch, taken before its training: the softmax weights of 14
edges over 8 operations, "none" first. Left out are `sols.npy` and `loss_data.npy`, which do not say what their columns are.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from engine.errors import CheckpointError, ConfigError
from engine.exchange.forms import CURVES
from engine.exchange.imported import Origin, check_dataset, new_run, origin_of, write_result
from engine.exchange.reading import unreadable
from engine.genotype import EDGES, NONE, PRIMITIVES, Genotype, derive_genotype
from engine.run.event_kinds import Alert, Alpha, DerivedGenotype, Finished, Progress

COLUMNS = (NONE, *PRIMITIVES)
_ROUNDING = 1e-3  # of a row's sum; the files hold single precision


def import_curves(runs: Path, path: Path, origin: Origin, *, title: str | None = None, dataset: str | None = None) -> str:
    """The two files as a finished search with alphas and a genotype per epoch. Returns the run's id.

    The softmax weights are kept exactly; alphas are their logarithms, which is all that weights tell of them.

    Args:
        runs: folder of all runs.
        path: either file; the other must lie beside it.
        origin: of `path`; see `engine.exchange.imported.origin_of`.
        title: what to call the run; None for the file's name.
        dataset: the one it was searched on, if that is one of ours.

    Raises:
        ConfigError, CheckpointError, RunError: a sentence; nothing was written then.
    """
    config = check_dataset(dataset)
    if path.name not in CURVES.values():
        raise ConfigError(f"Curves must be one of the files {' and '.join(CURVES.values())}, got {path.name!r}; give either, "
                          "with the other beside it.")
    weights = {kind: read_weights(path.with_name(name)) for kind, name in CURVES.items()}
    epochs = len(weights["normal"])
    if len(weights["reduce"]) != epochs:
        raise CheckpointError(f"{CURVES['normal']} and {CURVES['reduce']} must have equally many epochs, got {epochs} and "
                              f"{len(weights['reduce'])}; take both from one search.")
    other = next(path.with_name(name) for name in CURVES.values() if name != path.name)
    other_hash = origin_of(other, origin.form, origin.command).sha256
    found = [genotype_at(weights, epoch) for epoch in range(epochs)]
    with new_run(runs, "search", title or f"search of {origin.file}", config, origin) as (folder, events):
        events.write(Alert(level="info", text=f"With it {other.name} (SHA-256 {other_hash})."), step=0, epoch=0)
        for epoch, genotype in enumerate(found):
            for kind in CURVES:
                # A softmax at low temperature can round to 0, of which there is no logarithm.
                alpha = np.log(np.maximum(weights[kind][epoch], np.finfo(np.float32).tiny))
                events.write(Alpha(cell=kind, primitives=COLUMNS, alpha=alpha), step=epoch, epoch=epoch)
            events.write(DerivedGenotype(genotype=genotype), step=epoch, epoch=epoch)
        last = epochs - 1
        events.write(Progress(phase="search", done=last, total=last, unit="epochs", detail=""), step=last, epoch=last)
        write_result(folder, found[-1])
        events.write(Finished(), step=last, epoch=last)
    return folder.id


def genotype_at(weights: dict[str, np.ndarray], epoch: int) -> Genotype:
    """What the snapshot of an epoch derives. weights: cell kind -> [epochs, 14, 8]."""
    return derive_genotype({kind: of_kind[epoch].tolist() for kind, of_kind in weights.items()}, COLUMNS)


def read_weights(path: Path) -> np.ndarray:
    """One of the files: float64 [epochs, 14, 8] whose last axis sums to 1. Nothing in it is unpickled.

    Raises:
        ConfigError: it cannot be opened, or does not lie beside the other.
        CheckpointError: it is damaged, or holds something else.
    """
    try:
        # Mapped, so that a header that promises more than the file has costs no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as problem:
        raise unreadable(path, problem) from None
    except (ValueError, OSError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, zipfile.BadZipFile) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise CheckpointError(f"{path.name} must be an array of numbers as numpy.save writes it, and cannot be read so "
                              f"({reason[:120]}); save it anew without objects.") from None
    expected = (len(EDGES), len(COLUMNS))
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim != 3 or array.shape[1:] != expected \
            or not len(array):
        got = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise CheckpointError(f"{path.name} must be floating-point numbers [epochs, {expected[0]}, {expected[1]}], one weight "
                              f"per edge and operation with {NONE!r} first, got {got}; only such files of E2RNAS fit.")
    array = np.array(array, dtype=np.float64)
    if not (array >= 0).all() or np.abs(array.sum(axis=2) - 1).max() > _ROUNDING:
        raise CheckpointError(f"The rows of {path.name} must be softmax weights (not negative, of sum 1), got others; save the "
                              "softmax of the alphas, as the public code does.")
    return array

"""Checkpoints of public code become retrained networks that can be attacked. Loaded as tensors only, never executed."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.config import build
from engine.data import DATASETS, Dataset
from engine.description import event_of
from engine.errors import CheckpointError
from engine.exchange.imported import Origin, new_run
from engine.exchange.reading import unreadable
from engine.genotype import Genotype
from engine.placement import LARGEST_WIDTH, STEM_MULTIPLIER, reductions, resolved
from engine.run import admission, checkpoint
from engine.run.event_kinds import Alert, Finished, NetworkBuilt
from engine.run.folder import atomic_write_json
from engine.space.darts_names import tensors_of
from engine.space.network import ALPHAS, Network, load_darts_state_dict

AUXILIARY = "auxiliary_head."
# Under which names public code keeps the state dict inside a checkpoint.
_INSIDE = ("state_dict", "model_state_dict", "net", "model")
_OVERLAP = ("Which images this network was trained on, and whether test images chose its checkpoint, is not recorded: accuracies "
            "on the test split may be too high.")


def import_checkpoint(runs: Path, path: Path, origin: Origin, *, genotype: Genotype, dataset: str, placement: str = "",
                      title: str | None = None, mean: Sequence[float] | None = None,
                      std: Sequence[float] | None = None) -> str:
    """A trained network of the DARTS family as a finished retraining, which an attack can follow. Returns the run's id.

    Widths, depth and classes are read off the tensors. `module.` prefixes are stripped; alphas and the auxiliary head, which
    serves training only, are left out.

    Args:
        runs: folder of all runs.
        path: a state dict, or a checkpoint with one inside, as torch.save writes it.
        origin: see `engine.exchange.imported.origin_of`.
        genotype: the one it was trained with; a file does not hold it.
        dataset: the one it was trained on.
        placement: where its cells stand, as `engine.placement.positions`; empty for the published rule of the cells.
        title: what to call the run; None for the file's name.
        mean, std: what training subtracted from pixels in 0..1, and divided by, per image channel; None for images that stayed
            in 0..1 and for files that hold both.

    Raises:
        ConfigError, CheckpointError, RunError: a sentence; nothing was written then.
    """
    facts = DATASETS[dataset]
    tensors = network_tensors(path)
    sizes = sizes_of(tensors, facts, genotype, placement)
    network = Network(genotype, **sizes, mean=mean, std=std)
    load_darts_state_dict(network, tensors)
    config = {"dataset": dataset, "genotype": genotype.to_json(),
              **{name: sizes[name] for name in ("channels", "layers", "placement", "width_ratio")}}
    description = {"genotype": genotype.to_dict(), **sizes}
    with new_run(runs, "retrain", title or origin.file, config, origin) as (folder, events):
        events.write(NetworkBuilt.from_json(event_of(description)), step=0, epoch=0)
        events.write(Alert(level="warning", text=_OVERLAP), step=0, epoch=0)
        folder.results.mkdir()
        atomic_write_json(folder.results / "network.json", description)
        folder.checkpoint.mkdir()
        checkpoint.write(folder.checkpoint / checkpoint.BEST, {"network": network.state_dict()})
        events.write(Finished(), step=0, epoch=0)
    return folder.id


def network_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names in the DARTS family, without alphas and auxiliary head.

    Raises:
        ConfigError: the file cannot be opened.
        CheckpointError: it is damaged, holds more than tensors and plain values, or holds no state dict.
    """
    state = _loaded(path)
    for name in _INSIDE:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    tensors = {name: value for name, value in tensors_of(state, ALPHAS).items() if not name.startswith(AUXILIARY)}
    if not tensors:
        raise CheckpointError(f"{path.name} must hold a network's tensors, got none; give the file that torch.save wrote of "
                              "model.state_dict().")
    return tensors


def _loaded(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):  # torch does not check the sums that it wrote
            with zipfile.ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as problem:
        raise unreadable(path, problem) from None
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError,
            ValueError, TypeError, AttributeError, AssertionError, OverflowError, ImportError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise CheckpointError(f"{path.name} must hold tensors and plain values only, as torch.save writes a state dict, and "
                              f"cannot be read so ({reason[:160]}); where it was written, load it and save model.state_dict() "
                              "alone.") from None


def sizes_of(tensors: Mapping[str, Tensor], facts: Dataset, genotype: Genotype, placement: str = "") -> dict[str, Any]:
    """Sizes of the network that a state dict belongs to, as `Network` takes them; placement is what is not in the tensors.

    Raises:
        CheckpointError: tensors of no such network, of another dataset, or a supernet's.
        ConfigError: a size that no network of ours may have, or a placement of other cells.
    """
    if any(re.search(r"_ops\.\d+\._ops\.", name) for name in tensors):
        raise CheckpointError("A checkpoint to import must be a derived network's, got a supernet's (of a search); import the "
                              "search's log.txt with --as log, or give the checkpoint of the retraining.")
    stem, classifier = tensors.get("stem.0.weight"), tensors.get("classifier.weight")
    cells = {int(found[1]) for name in tensors if (found := re.match(r"cells\.(\d{1,4})\.", name))}
    if stem is None or stem.ndim != 4 or classifier is None or classifier.ndim != 2 or not cells:
        raise CheckpointError("A checkpoint to import must have the names of the DARTS family's CIFAR network (stem.0.weight, "
                              f"cells.0..., classifier.weight), got {', '.join(sorted(tensors)[:3])}, ...; only such fit.")
    if cells != set(range(len(cells))):
        raise CheckpointError(f"The cells of a checkpoint must be numbered 0 to {max(cells)}, got only {len(cells)} of them; "
                              "is the file complete?")
    of_data = (("classes", classifier.shape[0], facts.classes), ("image channels", stem.shape[1], facts.image_shape[0]))
    for what, got, expected in of_data:
        if got != expected:
            raise CheckpointError(f"The network must have the {what} of the dataset {facts.name} ({expected}), got {got}; give "
                                  "the dataset that it was trained on (--dataset).")
    channels, rest = divmod(stem.shape[0], STEM_MULTIPLIER)
    if rest:
        raise CheckpointError(f"The stem must have {STEM_MULTIPLIER} C channels, got {stem.shape[0]}; only networks with the "
                              "DARTS family's stem fit.")
    arrangement = resolved(genotype.kinds, placement, _width_ratio(tensors, channels, len(cells)))
    config = build("retrain", None, facts.name, "paper", {"genotype": genotype.to_json(), "channels": channels,
                                                        "layers": len(cells), "auxiliary_weight": 0.0, **arrangement})
    admission.check_config("retrain", config)
    return {"channels": channels, "layers": len(cells), "classes": facts.classes, "image_shape": list(facts.image_shape),
            "auxiliary": False, **arrangement}


def _width_ratio(tensors: Mapping[str, Tensor], channels: int, layers: int) -> str:
    """The widths of the three thirds, read off the first cell of each; "" where those are no widths that ours can have."""
    widths: list[int] = []
    for i in (0, *reductions(layers)):
        weight = tensors.get(f"cells.{i}.preprocess1.op.1.weight")
        multiple, rest = divmod(weight.shape[0], channels) if weight is not None and weight.ndim and channels else (0, 1)
        if rest or not 1 <= multiple <= LARGEST_WIDTH:
            return ""
        widths.append(multiple)
    return ":".join(map(str, widths)) if widths[0] == 1 else ""

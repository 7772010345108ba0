"""Import of checkpoints that public code has written. Each becomes a finished retraining, which can then be attacked.

Only tensors and plain values are loaded from a checkpoint. No code in a checkpoint is executed.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from engine.architecture.genotype import Genotype
from engine.architecture.network import DerivedNetwork
from engine.architecture.placement import LARGEST_WIDTH, STEM_MULTIPLIER, reductions, resolved
from engine.configuring import build
from engine.data.catalogue import DATASETS
from engine.data.dataset import Dataset
from engine.errors import CheckpointError, first_line, shortened
from engine.exchange.imported import Origin, new_run
from engine.exchange.limits import bounded_memory
from engine.exchange.reading import unreadable
from engine.files import atomic_write_json
from engine.run import admission, checkpoint
from engine.run.event_kinds import Alert, Finished, NetworkBuilt
from engine.space.darts_names import tensors_of
from engine.space.network import ALPHAS, Network, load_darts_state_dict

AUXILIARY = "auxiliary_head."
# Keys under which public code stores the state dict in a checkpoint.
_INSIDE = ("state_dict", "model_state_dict", "net", "model")
_OVERLAP = ("The file does not record which images this network was trained on, nor whether its checkpoint was selected on test "
            "images: accuracies on the test split may be too high.")
_PICKLES = 4  # in a file of torch before 1.6: magic number, version, byte order, content
# Exceptions that reading a damaged or foreign file can raise.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError,
            ValueError, TypeError, AttributeError, AssertionError, OverflowError, ImportError, MemoryError)


def import_checkpoint(runs: Path, path: Path, origin: Origin, *, genotype: Genotype, dataset: str, placement: str = "",
                      title: str | None = None, mean: Sequence[float] | None = None,
                      std: Sequence[float] | None = None) -> str:
    """Import a trained network of the DARTS family as a finished retraining, and return the run's id.

    The run can then be attacked. Widths, depth and number of classes are inferred from the shapes of the tensors. The prefix
    `module.` is removed from tensor names. Alphas and the auxiliary head are ignored, because only search and training use them.
    If the import fails, no run folder remains.

    Args:
        runs: folder of all runs.
        path: file that torch.save has written. It contains a state dict, or a checkpoint with a state dict.
        origin: record of the file at `path`, made by `engine.exchange.imported.origin_of`.
        genotype: genotype of the network, which checkpoints do not contain.
        dataset: registry name of the dataset on which the network was trained.
        placement: name of a position rule in `engine.architecture.placement.RULES`, which says where in the network each kind of
            cell is used; empty for the published rule.
        title: title of the run; None to name the run after the file.
        mean: mean of each image channel that the training subtracted, for pixels in 0..1. None if the training did not normalise
            images, or the file contains the values.
        std: standard deviation of each image channel by which the training divided. None if the training did not normalise
            images, or the file contains the values.

    Raises:
        ConfigError: the file cannot be opened, the dataset is unknown, or the placement or a size is unsuitable.
        CheckpointError: the file contains no suitable network.
        RunError: the run cannot be written.
    """
    facts = DATASETS[dataset]
    tensors = network_tensors(path)
    sizes = sizes_of(tensors, facts, genotype, placement)
    network = Network(genotype, **sizes, mean=mean, std=std)
    load_darts_state_dict(network, tensors)
    config = {"dataset": dataset, "genotype": genotype.to_json(),
              **{name: sizes[name] for name in ("channels", "layers", "placement", "width_ratio")}}
    described = DerivedNetwork(genotype, **sizes)
    with new_run(runs, "retrain", title or origin.file, config, origin) as (folder, events):
        events.write(NetworkBuilt.of(described), step=0, epoch=0)
        events.write(Alert(level="warning", text=_OVERLAP), step=0, epoch=0)
        folder.results.mkdir()
        atomic_write_json(folder.results / "network.json", described.to_dict())
        folder.checkpoint.mkdir()
        checkpoint.write(folder.checkpoint / checkpoint.BEST, {"network": network.state_dict()})
        events.write(Finished(), step=0, epoch=0)
    return folder.id


def network_tensors(path: Path) -> dict[str, Tensor]:
    """Return {name: tensor} for the network in a file. Alphas and the auxiliary head are left out.

    All public codes of the DARTS family give the tensors of a network the same names.

    Raises:
        ConfigError: the file cannot be opened.
        CheckpointError: the file is damaged, contains a pickled module or other objects, or contains no tensors of a network.
    """
    state = _loaded(path)
    for name in _INSIDE:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    tensors = {name: value for name, value in tensors_of(state, ALPHAS).items() if not name.startswith(AUXILIARY)}
    # A tensor can claim many more entries than the file holds, by repeating one of them.
    if large := [name for name, one in tensors.items() if one.numel() * one.element_size() > one.untyped_storage().nbytes()]:
        raise CheckpointError(f"The tensors of {path.name} must hold all their entries, got a repeated one for "
                              f"{shortened(large[0])}; save model.state_dict() instead.")
    if not tensors:
        raise CheckpointError(f"{path.name} must hold a network's tensors, got none; give a file written by "
                              "torch.save(model.state_dict(), ...).")
    return tensors


def _loaded(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):  # torch writes checksums but does not verify them
            with zipfile.ZipFile(path) as archive:
                checkpoint.check_archive(archive)
        with bounded_memory(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on foreign formats would mix with our message on stderr
            return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as problem:
        raise unreadable(path, problem) from None
    except _DAMAGED as problem:
        if isinstance(problem, pickle.UnpicklingError) and _holds_module(path):
            raise CheckpointError(f"{path.name} must hold a state dict, got a pickled module; load it with the code that wrote "
                                  "it and save model.state_dict() instead.") from None
        raise CheckpointError(f"{path.name} must hold a state dict, tensors and plain values only, and cannot be read as one "
                              f"({_reason(problem)}); load it with the code that wrote it and save model.state_dict() alone."
                              ) from None


def _reason(problem: Exception) -> str:
    """Return the part of torch's error message that names the cause.

    Torch's advice is left out, because following it may execute code in the file.
    """
    cause = str(problem).rpartition("WeightsUnpickler error: ")[2]
    if foreign := re.search(r"\bGLOBAL (\S+)", cause):
        return f"it holds {foreign[1]}"
    return first_line(cause) or type(problem).__name__


def _holds_module(path: Path) -> bool:
    """Return True if the file contains a pickled class of torch.nn, which means that a whole module was saved.

    The function reads the pickle's opcodes without unpickling anything.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return any(_names_torch_nn(file) for _ in range(_PICKLES))
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                return bool(names) and _names_torch_nn(archive.open(names[0]))
    except _DAMAGED:
        return False


def _names_torch_nn(file: IO[bytes]) -> bool:
    return any(isinstance(value, str) and value.startswith("torch.nn.modules.") for _, value, _ in pickletools.genops(file))


def sizes_of(tensors: Mapping[str, Tensor], facts: Dataset, genotype: Genotype, placement: str = "") -> dict[str, Any]:
    """Infer the sizes of a network from its tensors, and return them as keyword arguments for `engine.space.network.Network`.

    Args:
        tensors: tensors of the network, keyed by name.
        facts: dataset on which the network was trained.
        genotype: genotype of the network.
        placement: name of a position rule, which says where in the network each kind of cell is used; empty for the published
            rule.

    Raises:
        CheckpointError: the tensors belong to a supernet, to a network of another kind, or to a network for another dataset.
        ConfigError: a size is outside the range of its setting, or the placement is for other kinds of cells.
    """
    if any(re.search(r"_ops\.\d+\._ops\.", name) for name in tensors):
        raise CheckpointError("A checkpoint to import must be a derived network's, got a supernet's; import the search's log.txt "
                              "with --as log, or give the checkpoint of the retraining.")
    stem, classifier = tensors.get("stem.0.weight"), tensors.get("classifier.weight")
    cells = {int(match[1]) for name in tensors if (match := re.match(r"cells\.(\d{1,4})\.", name))}
    if stem is None or stem.ndim != 4 or classifier is None or classifier.ndim != 2 or not cells:
        raise CheckpointError("A checkpoint to import must have the names of the DARTS family's CIFAR network (stem.0.weight, "
                              f"cells.0..., classifier.weight), got {', '.join(sorted(tensors)[:3])}, ...; give a file of such a "
                              "network.")
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
                              "DARTS family's stem can be imported.")
    arrangement = resolved(genotype.kinds, placement, _width_ratio(tensors, channels, len(cells)))
    config = build("retrain", None, facts.name, "paper", {"genotype": genotype.to_json(), "channels": channels,
                                                        "layers": len(cells), "auxiliary_weight": 0.0, **arrangement})
    admission.check_config("retrain", config)
    return {"channels": channels, "layers": len(cells), "classes": facts.classes, "image_shape": list(facts.image_shape),
            "auxiliary": False, **arrangement}


def _width_ratio(tensors: Mapping[str, Tensor], channels: int, layers: int) -> str:
    """Return the width ratio of a network, such as "1:2:4", inferred from the first cell of each third of the network.

    Return "" if the widths do not form a valid width ratio.
    """
    widths: list[int] = []
    for i in (0, *reductions(layers)):
        weight = tensors.get(f"cells.{i}.preprocess1.op.1.weight")
        multiple, rest = divmod(weight.shape[0], channels) if weight is not None and weight.ndim and channels else (0, 1)
        if rest or not 1 <= multiple <= LARGEST_WIDTH:
            return ""
        widths.append(multiple)
    return ":".join(map(str, widths)) if widths[0] == 1 else ""

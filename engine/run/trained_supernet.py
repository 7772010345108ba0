"""The supernet of a finished search with its final weights, read from the folder of the run."""

from __future__ import annotations

import torch

from engine.config import SearchConfig
from engine.configuring import recorded
from engine.data.catalogue import DATASETS
from engine.data.dataset import ChannelStatistics
from engine.data.loading import channel_statistics, load_split
from engine.data.splits import halved_in_file_order, splits_of
from engine.errors import RunError
from engine.run import checkpoint
from engine.run.folder import RunFolder
from engine.search.construction import method_class, supernet_of
from engine.search.inherited import TrainedSupernet
from engine.search.method import SearchMethod


def trained_supernet(folder: RunFolder, device: torch.device) -> TrainedSupernet:
    """Build the supernet of a finished search, and load the weights of its last checkpoint.

    Args:
        folder: folder of the search. Nothing is written into it.
        device: device of the weights.

    Raises:
        RunError: the run does not exist, or is not a search on a supernet.
        CheckpointError: the checkpoint is missing, damaged, or does not fit the supernet.
    """
    run = folder.read_run()
    config = recorded(run)
    if not isinstance(config, SearchConfig) or not config.on_supernet:
        raise RunError(f"Weights can only be inherited from a search on a supernet, got {folder.id}; name such a search.")
    facts = DATASETS[config.dataset]
    supernet = supernet_of(str(run["method"]), config, classes=facts.classes, image_shape=facts.image_shape,
                           statistics=_statistics(config) if config.normalise else None)
    state = checkpoint.read(folder.checkpoint / checkpoint.LAST, device)
    search: SearchMethod = method_class(str(run["method"]))(config, supernet, device=device, seed=config.seed)
    with checkpoint.fitting(f"checkpoint/last.pt of run {folder.id} must hold the search"):
        search.load_state_dict(state["method"])
    return TrainedSupernet(supernet, search.weights)


def _statistics(config: SearchConfig) -> ChannelStatistics:
    """Return the channel statistics with which a search normalised images."""
    dataset = DATASETS[config.dataset]
    splits = splits_of(dataset, config.split_seed, config.images)
    if config.halves == "file_order":
        splits = halved_in_file_order(splits)
    return channel_statistics(dataset, load_split(dataset, splits, "weights")[0])

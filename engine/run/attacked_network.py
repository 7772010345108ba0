"""The network that an attack run attacks, read from the folder of its retraining."""

from __future__ import annotations

from torch import Tensor, nn

from engine.architecture.network import Network, network_from_dict
from engine.errors import CheckpointError, RunError
from engine.run import checkpoint
from engine.run.folder import RunFolder, read_json


def network_of(parent: RunFolder, which: str = "best") -> tuple[Network, nn.Module, dict[str, Tensor]]:
    """Load the network that a retraining trained.

    Args:
        parent: folder of the retraining.
        which: "best" for the checkpoint that the retraining chose by accuracy, "last" for the checkpoint after the last epoch
            (with averaged weights if the retraining averages weights).

    Returns:
        The description of the network.
        The module of the network, with the weights of the checkpoint.
        The state dict of these weights.

    Raises:
        RunError, GenotypeError, ConfigError, CheckpointError: the retraining has no network, or a file of the network cannot
            be read.
    """
    content = read_json(parent.results / "network.json")
    if content is None:
        raise RunError(f"The parent must have results/network.json, and {parent.id} has none; resume it first.")
    with checkpoint.fitting(f"results/network.json of run {parent.id} must describe its network"):
        network = network_from_dict(content)
        module = network.build()
    name = checkpoint.BEST if which == "best" else checkpoint.LAST
    try:
        state = checkpoint.read(parent.checkpoint / name)
    except CheckpointError as problem:
        other = "" if which == "best" else ", or attack the best one (--checkpoint best)"
        raise CheckpointError(f"{problem} It holds the network of {parent.id}: restore it from a backup or launch that run again"
                              f"{other}.") from None
    with checkpoint.fitting(f"checkpoint/{name} of run {parent.id} must hold the network of its results/network.json"):
        weights = state["network"] if which == "best" else (state["training"].get("average") or state["training"])["network"]
        module.load_state_dict(weights)
    return network, module, weights

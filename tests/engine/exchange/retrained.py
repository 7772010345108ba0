"""Folders of finished retrainings, with networks whose running statistics differ from their initial values."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.architecture.genotype import Genotype
from engine.run import checkpoint
from engine.space.network import Network
from tests import sample_runs


def settled(network: Network, seed: int = 0) -> Network:
    """Give a network random parameters and running statistics; return it in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_var" in name or name == "std":
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point():
                value.copy_(0.4 * torch.randn(value.shape, generator=generator))
    return network.eval()


def write_retrained(root: Path, genotype: Genotype, *, channels: int = 2, layers: int = 4, auxiliary: bool = False,
                    run: str = "20261118-0920-retrain-digits-0b01") -> Network:
    """Write a finished retraining on digits to `root`; return its network."""
    sizes = {"channels": channels, "layers": layers, "classes": 10, "image_shape": [1, 8, 8], "auxiliary": auxiliary}
    network = settled(Network(genotype, **sizes))
    folder = sample_runs.write_run_json(root, run, "retrain", changes={"genotype": genotype.to_json()})
    sample_runs.write_json(folder / "results" / "network.json", {"genotype": genotype.to_dict(), **sizes})
    (folder / "checkpoint").mkdir()
    checkpoint.write(folder / "checkpoint" / checkpoint.BEST, {"network": network.state_dict()})
    events = sample_runs.EventsFile(folder)
    sample_runs.write_finished(folder, events)
    return network

"""One of several processes that train together, for test_distributed.py.

    python -m tests.engine.train.pair NUMBER COUNT FOLDER EPOCHS CASE...

The processes compute the cases one after another, and each writes what it has computed.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

from engine.architecture.catalogue import CATALOG
from engine.architecture.hand_made import ResidualShape
from engine.data.augmentation import generator_for
from engine.data.loading import batches
from engine.graphs import Graphs
from engine.space.building import with_channels_last
from engine.space.network import Network
from engine.space.residual import ResidualNetwork
from engine.train.distributed import Processes, connect
from engine.train.retrain import Retraining, reports
from tests.engine.search.recordings import Rerun
from tests.engine.train.test_retrain import config

# {name: (network, number of images, changed settings)}. Batches have 8 images. The last one has 4, 5 or 3, and 3 are not divided.
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "PGD-AT": ("rows", 11, {"training": "pgd_at"}),
    "natural": ("rows", 13, {"training": "natural", "drop_path": 0.0}),
    "TRADES": ("rows", 13, {"training": "trades", "average_decay": 0.9}),
    "Fast-AT": ("rows", 13, {"training": "fast_at", "probe_every": 2, "schedule": "cyclic"}),
    "PGD-AT, auxiliary head": ("maps", 12, {"training": "pgd_at", "auxiliary_weight": 0.4, "normalise": True}),
    "PGD-AT, residual network": ("residual", 13, {"training": "pgd_at", "channels_last": True}),
    "statistics of each process": ("rows", 8, {"training": "natural", "drop_path": 0.0, "batch_norm": "per_process"}),
    **{name: ("rows", 29, {"training": "pgd_at", "batch_norm": "per_process"}) for name in ("eager", "recorded")},
}
MORE_CASES: dict[str, tuple[str, int, dict[str, Any]]] = {  # for the slow tests
    "Fast-AT, last batch too small": ("rows", 11, {"training": "fast_at"}),
    "TRADES, auxiliary head on adversarial images": (
        "maps", 13, {"training": "trades", "auxiliary_weight": 0.4, "auxiliary_input": "adversarial"}),
    "Fast-AT, auxiliary head on natural images": ("maps", 13, {"training": "fast_at", "auxiliary_weight": 0.4}),
}
SHAPES = {"rows": (1, 8, 8), "maps": (3, 20, 20), "residual": (3, 8, 8)}


def network_of(kind: str, changes: dict[str, Any]) -> nn.Module:
    torch.manual_seed(1)
    shape, mean = SHAPES[kind], (0.4, 0.5, 0.6) if changes.get("normalise") else None
    if kind == "residual":
        plan = ResidualShape("test", "Test", "ours", 3, (1, 2), 1, False, 3)
        return with_channels_last(ResidualNetwork(plan, classes=4, image_shape=shape)).double()
    genotype = CATALOG["ARNAS"].genotype
    assert genotype is not None
    return Network(genotype, channels=2, layers=3, classes=4, image_shape=shape,
                   auxiliary=changes.get("auxiliary_weight", 0.0) > 0, mean=mean, std=mean).double()


def training_of(case: str, processes: Processes) -> tuple[Retraining, torch.Tensor, torch.Tensor]:
    """Return the training of a case, its images and its labels."""
    kind, images, changes = (CASES | MORE_CASES)[case]
    settings = config(**{"auxiliary_weight": 0.0, "learning_rate": 0.02, "crop_padding": 2, "drop_path": 0.3} | changes)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(images, *SHAPES[kind], generator=generator, dtype=torch.float64)
    y = torch.randint(4, (images,), generator=generator)
    graphs = Graphs(Rerun if case == "recorded" else None)
    return Retraining(settings, network_of(kind, changes), -(-images // 8), processes, graphs), x, y


def computed(case: str, epochs: int, processes: Processes, sent: Counter[str] | None = None) -> dict[str, Any]:
    """Train, and return the state and everything that was measured.

    Args:
        case: name of the case.
        epochs: number of epochs.
        processes: this process and the others.
        sent: counter of all-reduces; None if nothing is sent.
    """
    training, x, y = training_of(case, processes)
    measured, counts = [], []
    for epoch in range(epochs):
        for step, indices in enumerate(batches(len(y), 8, generator_for(2, "order", epoch))):
            before = Counter(sent or {})
            (report,) = reports([training.step(x[indices], y[indices], epoch=epoch, step=step)])
            counts.append(dict(Counter(sent or {}) - before))
            measured.append(asdict(report))
        before = Counter(sent or {})
        selection = training.select(x[:9], y[:9], batch_size=4)
        counts.append(dict(Counter(sent or {}) - before))
        training.keep_best(selection, epoch)
        measured.append(asdict(selection))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in training.network.modules())
    return {"state": training.state_dict(), "measured": measured, "sent": counts, "norms": norms}


def counted() -> Counter[str]:
    """Count all-reduces from now on, by the number of dimensions of what is sent: 1 for gradients and sums, 2 for statistics."""
    sent: Counter[str] = Counter()
    real = torch.distributed.all_reduce

    def all_reduce(tensor: torch.Tensor, *more: Any, **options: Any) -> Any:
        sent["statistics" if tensor.dim() == 2 else "sums" if len(tensor) <= 4 else "gradients"] += 1
        return real(tensor, *more, **options)

    torch.distributed.all_reduce = all_reduce
    return sent


def main(number: int, count: int, folder: Path, epochs: int, cases: list[str]) -> None:
    torch.set_num_threads(1)
    connect(number, count, folder / "meeting", "cpu")
    sent, found = counted(), {}
    for case in cases:
        is_synchronised = (CASES | MORE_CASES)[case][2].get("batch_norm") != "per_process"
        found[case] = computed(case, epochs, Processes(number, count, is_synchronised), sent)
    torch.save(found, folder / f"process-{number}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])

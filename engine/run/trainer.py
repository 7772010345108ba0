"""What each process of a retraining holds: the images, the network and its training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from engine.config import RetrainConfig
from engine.data.augmentation import generator_for
from engine.data.loading import batches, channel_statistics
from engine.data.splits import stable_seed, steps_in_epoch
from engine.data.transfer import to_device
from engine.run.lineage import trained_network
from engine.run.preparation import Prepared
from engine.space.building import with_channels_last
from engine.train.distributed import ALONE, Processes
from engine.train.retrain import Measured, Retraining, Selection


class Trainer:
    """The images and the network of a retraining, with its steps and measurements by their place in the run.

    Attributes:
        x, y: images and labels on which the network is trained.
        x_select, y_select: images and labels by which the checkpoint is chosen.
        steps_per_epoch: number of steps in an epoch.
        network: description of the network.
        training: the training of the network.
    """

    def __init__(self, prepared: Prepared, runs: Path, parent: str | None, processes: Processes = ALONE) -> None:
        """Load the images and build the network.

        Args:
            prepared: configuration, dataset, splits and device of the run.
            runs: folder of all runs.
            parent: id of the run's search; None without one.
            processes: the processes that share each batch.

        Raises:
            RunError: the parent search has no genotype.
        """
        config: RetrainConfig = prepared.config
        self.config, self.device = config, prepared.device
        self.x, self.y = prepared.load("weights", "alphas")
        self.x_select, self.y_select = prepared.load("select")
        self.steps_per_epoch = steps_in_epoch(len(self.y), config.batch_size, config.steps_per_epoch)
        self.network = trained_network(runs, config, parent)
        torch.manual_seed(stable_seed(config.seed, "network"))
        # The statistics become buffers of the network, so that every checkpoint and every export contains them.
        mean, std = channel_statistics(prepared.dataset, self.x) if config.normalise else (None, None)
        network = self.network.build(mean=mean, std=std).to(self.device)
        if config.channels_last:
            network = with_channels_last(network)
        self.training = Retraining(config, network, self.steps_per_epoch, processes)
        self._order_of, self._batches = -1, list[torch.Tensor]()

    def order(self, epoch: int) -> list[torch.Tensor]:
        """Return the batches of an epoch counted from 0, as positions of images."""
        if self._order_of != epoch:
            self._order_of = epoch
            # Drawn on the CPU, so that the order is the same on every device.
            self._batches = list(batches(len(self.y), self.config.batch_size, generator_for(self.config.seed, "order", epoch),
                                         self.config.steps_per_epoch))
        return self._batches

    def step(self, epoch: int, position: int, poll: Callable[[], None] = lambda: None) -> Measured:
        """Take the step at a position in an epoch, both counted from 0. `poll` is called before each forward pass."""
        chosen = self.order(epoch)[position]
        labels = self.y[to_device(chosen, self.device)]
        return self.training.step(self.x[chosen], labels, epoch=epoch, step=position, poll=poll)

    def select(self, poll: Callable[[], None] = lambda: None) -> Selection:
        """Measure the network on the select split. `poll` is called before each forward pass."""
        return self.training.select(self.x_select, self.y_select, poll=poll)

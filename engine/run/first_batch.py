"""Some images of a run's first training batch, their attacked versions, and the network's predictions for both.

A search or retraining writes them to results/samples.parquet after its first step, and again with the final weights. The attack
draws from a generator of its own and changes neither the network nor the random numbers of the run. The images are not augmented.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.attack.catalogue import NATURAL
from engine.attack.guard import under_attack
from engine.config import pixels_text
from engine.data.augmentation import generator_for
from engine.data.loading import Images
from engine.errors import StopRequested
from engine.run.session import Session
from engine.search.bilevel import Bilevel
from engine.search.bilevel_method import BilevelMethod
from engine.train.adversarial import training_images
from engine.train.retrain import Retraining

MOST_IMAGES = 16
TRAINING = "training"  # name of the attack in the column `attack`
Network = Callable[[Tensor], Tensor]


class FirstBatch:
    """The images of the first batch of a run."""

    def __init__(self, session: Session, images: Images, labels: Tensor, numbers: np.ndarray, chosen: Tensor) -> None:
        """Choose at most `MOST_IMAGES` images of the first batch.

        Args:
            session: session of the worker.
            images, labels: all images of the splits on which the run trains, and the labels of these images.
            numbers: position of each of these images in the dataset.
            chosen: indices, into `images`, of the images in the first batch.
        """
        first = chosen[:MOST_IMAGES]
        self.session, self.path = session, session.folder.results / "samples.parquet"
        self.x, self.y = images[first], labels[first.to(labels.device)]
        self.numbers = numbers[first.cpu().numpy()].tolist()
        self.is_written = self.path.exists()

    def poll(self) -> None:
        """Raise StopRequested if a stop is requested.

        Forward passes on the images of the first batch do not count as passes of the run.
        """
        if self.session.stop.is_requested():
            self.session.stop.requested = True
            raise StopRequested

    def of_search(self, method: Any, seed: int) -> None:
        """Write the natural images, adversarial versions of them, and the predictions of a search's supernet for both.

        The adversarial images are made with the attack that the search uses in its steps. BatchNorm uses the statistics of these
        images, as in the steps. For a method that attacks no images, only natural images are written; for a method without a
        supernet, nothing is written.

        Args:
            method: the search method with its weights and alphas.
            seed: seed of the starting point of the attack.
        """
        if not isinstance(method, BilevelMethod):
            return
        supernet, settings, generator = method.supernet, method.attack_of_steps, generator_for(seed, "samples")
        attacked = None
        if settings is not None:
            noise = (2 * torch.rand(self.x.shape, generator=generator) - 1) * settings.epsilon
            attacked = Bilevel(self.poll).attack(settings, supernet, self.x, self.y, noise.to(self.x), method.weights,
                                                 method.alphas)
        title = "" if settings is None else f"PGD-{settings.steps}, epsilon {pixels_text(settings.epsilon)}"
        self._write(lambda x: supernet.logits(x, method.weights, method.alphas), attacked, title)

    def of_retraining(self, training: Retraining) -> None:
        """Write the natural images, adversarial versions of them, and the predictions of a retraining's network for both.

        The network is `training.selected` in evaluation mode. The adversarial images are made with the attack by which the
        retraining selects its checkpoint.
        """
        config, network = training.config, training.selected
        attacked = training_images(network, self.x, self.y, epsilon=config.epsilon, step_size=config.epsilon / 4,
                                   steps=config.selection_steps, start="uniform", poll=self.poll,
                                   generator=generator_for(config.seed, "samples", device=self.x.device))
        with under_attack(network):
            self._write(network, attacked, f"PGD-{config.selection_steps}, epsilon {pixels_text(config.epsilon)}")

    @torch.no_grad()
    def _write(self, network: Network, attacked: Tensor | None, title: str) -> None:
        # Imported here, because a worker should take its first step before it loads what only files need.
        import pyarrow as pa

        from engine.run.parquet_files import write_parquet

        columns: dict[str, list[Any]] = {name: [] for name in ("image", "label", "attack", "pixels", "prediction", "confidence")}
        for name, pixels in ((NATURAL, self.x), (TRAINING, attacked)):
            if pixels is None:
                continue
            self.poll()
            confidence, prediction = network(pixels).float().softmax(dim=1).max(dim=1)
            columns["image"] += self.numbers
            columns["label"] += self.y.tolist()
            columns["attack"] += [name] * len(self.numbers)
            columns["pixels"] += [one.tobytes() for one in pixels.float().contiguous().numpy(force=True)]
            columns["prediction"] += prediction.tolist()
            columns["confidence"] += confidence.tolist()
        about = {"shape": ",".join(map(str, self.x.shape[1:])), "title": title, "step": str(self.session.step)}
        write_parquet(self.path, pa.table(columns).replace_schema_metadata(about))
        self.is_written = True

"""The loop of a search: epochs, batches, learning rates, events and checkpoints. The search method computes the steps.

Differs: the order of images and the learning rates are not those of the methods' released code. The settings `alphas_batches`,
`schedule_ahead` and `halves` of `SearchConfig` restore the released behaviour.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from engine.architecture.cost import cost
from engine.config import SearchConfig
from engine.data.augmentation import augment, generator_for
from engine.data.loading import batches, channel_statistics
from engine.data.out_of_distribution import OutOfDistributionImages, restated
from engine.data.splits import halved_in_file_order, steps_in_epoch
from engine.data.transfer import to_device
from engine.errors import RunError
from engine.run import checkpoint, environment
from engine.run.early_stop import EarlyStop
from engine.run.event_kinds import Alpha, DerivedGenotype, MeasuredCandidate, Metric, Objectives
from engine.run.first_batch import FirstBatch
from engine.run.folder import RunFolder
from engine.run.preparation import Prepared, at_work, prepare, save
from engine.run.session import Session
from engine.run.trained_supernet import trained_supernet
from engine.search.candidates import Candidate, Ranking, ranked
from engine.search.construction import method_class, supernet_of
from engine.search.method import StepReport
from engine.search.proposal import Batch
from engine.space.supernet import Supernet

# Most alpha events of a run. This is enough for every chart of the alphas and keeps the events file of a long run small.
MOST_ALPHA_LINES = 1800


def learning_rate(config: SearchConfig, epoch: int) -> float:
    """Return the learning rate of an epoch from DARTS's cosine schedule: min + (lr - min) (1 + cos(pi e / E)) / 2.

    Here e is the epoch, counted from 0, and E is the number of epochs. lr and min are the settings `weights_learning_rate` and
    `weights_learning_rate_min`. With the setting `schedule_ahead`, the result is the rate of epoch e + 1. If the search trains
    several networks one after another, the schedule restarts for each network (`SearchConfig.training_epoch`).
    """
    low, (position, epochs) = config.weights_learning_rate_min, config.training_epoch(epoch)
    position = min(position + config.schedule_ahead, epochs)
    return low + (config.weights_learning_rate - low) * (1 + math.cos(math.pi * position / epochs)) / 2


def run(session: Session) -> None:
    """Run a search to its end. Continue from the checkpoint of an earlier attempt if one exists.

    Raises:
        StopRequested: the user stopped the run. A checkpoint of the last complete step has been written.
        RunError: a loss or a weight is NaN or infinite.
    """
    SearchLoop(session, prepare(session)).run()


class SearchLoop:
    """One attempt of a search, that is, one start of its worker."""

    def __init__(self, session: Session, prepared: Prepared) -> None:
        self.session, self.device = session, prepared.device
        self.config: SearchConfig = prepared.config
        # Settings of methods that measure candidates.
        self.ranking: Ranking = getattr(prepared.config, "ranking", "none")
        self.inherits: str = getattr(prepared.config, "inherit_from", "")
        if self.config.halves == "file_order":
            prepared = replace(prepared, splits=halved_in_file_order(prepared.splits))
        # Candidates are measured on images that the search does not train on.
        self.measured_split = "alphas" if self.config.on_supernet else "select"
        self.weights_split, self.other_split = prepared.load("weights"), prepared.load(self.measured_split)
        self.images = len(self.weights_split[1])
        if self.config.on_supernet:
            self.images = min(self.images, len(self.other_split[1]))
        # The number of the first step of each epoch, and at the end the number of all steps.
        self.starts = [0, *accumulate(self._steps_in(epoch) for epoch in range(self.config.epochs))]
        session.total = self.starts[-1]
        self.statistics = channel_statistics(prepared.dataset, self.weights_split[0]) if self.config.normalise else None
        self.blank = None if self.statistics is None else torch.tensor(self.statistics.mean, device=self.device)
        self.second = prepared.second and OutOfDistributionImages.of(
            *prepared.second, prepared.dataset.image_shape, batch_size=self.config.batch_size, seed=self.config.seed,
            device=self.device)
        self.second_statistics = self.second.channel_statistics() if self.second and self.statistics else None
        name = str(session.run["method"])
        self.supernet = supernet_of(name, self.config, classes=prepared.dataset.classes,
                                    image_shape=prepared.dataset.image_shape, statistics=self.statistics)
        if self.config.on_supernet:
            self._fix_backends(self.supernet)
        self.method = method_class(name)(self.config, self.supernet, device=self.device, dtype=torch.float32,
                                              seed=self.config.seed)
        if self.inherits:
            self.method.trained = trained_supernet(RunFolder(session.folder.runs, self.inherits), self.device)
            self._fix_backends(self.method.trained.supernet)
        if prepared.state is not None:
            with checkpoint.fitting(f"checkpoint/last.pt of run {session.folder.id} must hold this search"):
                self.method.load_state_dict(prepared.state["method"])
        self.fresh, self.early = prepared.state is None, EarlyStop(prepared.config, prepared.state)
        self.candidates_told = len(self.method.candidates)
        lines = session.total * len(self.supernet.kinds)
        self.alpha_every = max(1, math.ceil(lines / MOST_ALPHA_LINES))
        self._order = lru_cache(maxsize=2)(self._new_order)  # one entry per split in the current epoch
        self.first_batch = FirstBatch(session, *self.weights_split, prepared.splits.weights, self._chosen("weights", 0, 0))
        session.describe = lambda: self._with_stage(self.method.activity)

    def _fix_backends(self, supernet: Supernet) -> None:
        """Make a supernet compute its cells with the same back ends (implementations) as at the run's first start."""
        backends, different = environment.fix_backends(self.session.folder, supernet.backends(self.device.type))
        supernet.use_backends(backends)
        for sentence in different:
            self.session.alert("warning", sentence)

    def run(self) -> None:
        """Run the remaining steps, and then write the genotype found by the search to results/genotype.json."""
        session = self.session
        if self.fresh:
            self._write_alphas()
            self._write_genotype()
            self._save()
        with at_work(session, self._save):
            while session.step < session.total and not self.early.reason:
                self._step()
                if not self.first_batch.is_written:
                    self.first_batch.of_search(self.method, self.config.seed)
                if self._is_end_of_epoch or self.early.reason or session.checkpoint_due():
                    self._save()
            if session.step < session.total:
                session.finished_early = self.early.sentence(session.epoch, self.config.epochs)
            self.first_batch.of_search(self.method, self.config.seed)
        session.folder.write_json(session.folder.results / "genotype.json", self.method.genotype().to_dict())

    def _step(self) -> None:
        session, config = self.session, self.config
        epoch = bisect_right(self.starts, session.step) - 1
        position = session.step - self.starts[epoch]
        rate = learning_rate(config, epoch)
        self.method.begin_epoch(epoch)
        of_network = config.training_epoch(epoch)[0]
        train, alpha = self._batches(epoch, position)
        given = {"out_of_distribution": self._second_batch(of_network, position)} if self.second else {}
        session.begin_step(self.method.passes_per_step)
        started = time.perf_counter()
        report = self.method.step(train, alpha, learning_rate=rate, poll=session.poll,
                                  generator=generator_for(config.seed, "step", of_network, position), **given)
        seconds = time.perf_counter() - started
        for sentence in self.method.notices:
            session.warn_once(sentence)
        self._check_finite(report, epoch)
        session.end_step(epoch=epoch + 1, passes=report.passes)
        session.activity = self._with_stage(session.activity)
        used = [len(batch[1]) for batch, is_used in ((train, report.train_loss is not None), (alpha, report.names)) if is_used]
        self._write_step(report, rate, sum(used) / seconds)
        self._apply_early_stop(report)
        session.progress()

    @property
    def _is_end_of_epoch(self) -> bool:
        return self.session.step == self.starts[self.session.epoch]

    def _apply_early_stop(self, report: StepReport) -> None:
        """Apply the early-stop rules after a step.

        If a rule ends the search within an epoch, write events with the current alphas and genotype.
        """
        if self._is_end_of_epoch and report.names and self.config.on_supernet:  # not in a warm-up
            self.early.after_epoch_of_search(self.method.genotype())
        # Without a supernet, the search ends between two candidates.
        if self.config.on_supernet or (self._is_end_of_epoch and self._measures(self.session.epoch - 1)):
            self.early.after_step()
        if self.early.reason and not self._is_end_of_epoch:
            self._write_alphas()
            self._write_genotype()

    def _with_stage(self, activity: str) -> str:
        """Return a progress message. In a search with stages, such as AdvRush, it begins with the current stage."""
        return f"{self.method.stage}. {activity}" if self.method.stage else activity

    def _measures(self, epoch: int) -> bool:
        """Return True if an epoch measures the accuracy of a candidate network. All other epochs train a network."""
        position, epochs = self.config.training_epoch(epoch)
        return position == epochs

    def _steps_in(self, epoch: int) -> int:
        """Return the number of steps in an epoch.

        An epoch either trains a network or measures a candidate network. A measuring epoch visits each image of the select split
        (images reserved for such measurements) once. The setting `steps_per_epoch` limits the number of steps of every epoch, of
        both kinds.
        """
        if not self._measures(epoch):
            return steps_in_epoch(self.images, self.config.batch_size, self.config.steps_per_epoch)
        steps = math.ceil(len(self.other_split[1]) / self.config.batch_size)
        return min(steps, self.config.steps_per_epoch or steps)

    def _batches(self, epoch: int, position: int) -> tuple[Batch, Batch]:
        """Return the two batches of a step.

        The batches depend only on the seed, the split, the epoch and the position of the step in the epoch. If a search trains
        several networks one after another, epochs are counted separately for each network.

        Returns:
            The batch with which the step trains weights.
            The batch with which the step trains alphas. It is the same batch if the method has no alphas.
        """
        of_network = self.config.training_epoch(epoch)[0]
        if self.config.on_supernet:
            return self._batch("weights", of_network, position), self._batch("alphas", of_network, position)
        batch = self._batch("select" if self._measures(epoch) else "weights", of_network, position)
        return batch, batch

    def _batch(self, split: str, epoch: int, position: int) -> Batch:
        """Return the images and labels of a split for one step. Images of the splits "weights" and "alphas" are augmented."""
        images, labels = self.weights_split if split == "weights" else self.other_split
        chosen = self._chosen(split, epoch, position)
        batch_labels = labels[to_device(chosen, labels.device)]
        if split == "select":
            return images[chosen], batch_labels
        x = augment(images[chosen], generator_for(self.config.seed, "augment", split, epoch, position),
                    self.config.crop_padding, self.config.flip, self.config.cutout, self.blank)
        return x, batch_labels

    def _chosen(self, split: str, epoch: int, position: int) -> Tensor:
        """Return the indices of the images of one batch. Index 0 is the first image of the split."""
        if split == "alphas" and self.config.alphas_batches == "fresh":
            generator = generator_for(self.config.seed, "order", split, epoch, position)
            return torch.randperm(len(self.other_split[1]), generator=generator)[:self.config.batch_size]
        return self._order(split, epoch)[position]

    def _new_order(self, split: str, epoch: int) -> Sequence[Tensor]:
        """Draw a random order of the images of a split, and return the image indices of each batch of an epoch."""
        size, generator = self.config.batch_size, generator_for(self.config.seed, "order", split, epoch)
        if split == "select":
            order = torch.randperm(len(self.other_split[1]), generator=generator)
            # The supernet normalises with the statistics of a batch, and those of a small last batch would be worse.
            return order.tensor_split(math.ceil(len(order) / size)) if self.inherits else order.split(size)
        return list(batches(self.images, size, generator, self.config.steps_per_epoch))

    def _second_batch(self, epoch: int, position: int) -> Tensor:
        """Return the out-of-distribution images of one step.

        In the published code, these images are normalised by the statistics of the out-of-distribution dataset. Here the network
        normalises all images by the statistics of the run's dataset. Therefore the images are rescaled in advance, so that the
        result is the same.
        """
        assert self.second is not None
        x = self.second.batch(epoch, position)
        if self.statistics is None or self.second_statistics is None:
            return x
        return restated(x, self.second_statistics, self.statistics)

    def _check_finite(self, report: StepReport, epoch: int) -> None:
        """Check the losses of a step before the step is recorded, so that the last checkpoint stays usable.

        Raises:
            RunError: a loss is NaN or infinite.
        """
        if not all(math.isfinite(value) for value in (*report.losses, report.train_loss) if value is not None):
            raise RunError(f"Every loss must be finite, got NaN or infinity in step {self.session.step + 1} (epoch {epoch + 1}); "
                           "launch the search again with a smaller learning rate.")

    def _write_step(self, report: StepReport, rate: float, images_per_s: float) -> None:
        session = self.session
        measured: dict[str, float | None] = dict(zip(report.names, report.losses))
        if measured:  # empty in a warm-up and while a candidate is trained
            self._write_objectives(report)
        session.write(Metric(split="weights", statistics="batch", values=_known({
            "train_loss": report.train_loss, "train_accuracy": report.train_accuracy,
            "train_adversarial_accuracy": report.train_adversarial_accuracy,
            "learning_rate": None if report.train_loss is None else rate,
            "images_per_s": round(images_per_s, 3)})))
        end_of_epoch = self._is_end_of_epoch
        if end_of_epoch or session.step % self.alpha_every == 0:
            self._write_alphas()
        if end_of_epoch:
            self.method.end_epoch()
            self._write_candidates()
            self._write_genotype()
            told = measured or {"training": report.train_loss}
            losses = ", ".join(f"{name} loss {value:.3f}" for name, value in told.items() if value is not None)
            print(f"epoch {session.epoch} of {self.config.epochs}: {losses}, genotype {self.method.genotype().hash}", flush=True)

    def _write_objectives(self, report: StepReport) -> None:
        """Write an event with the losses and accuracies of a step.

        If the step has objectives, write a second event with the weight, gradient norm and cosine of each objective.
        """
        self.session.write(Metric(split=self.measured_split, statistics=report.statistics, values=_known({
            **{f"{name}_loss": value for name, value in zip(report.names, report.losses, strict=True)},
            "natural_accuracy": report.natural_accuracy, "adversarial_accuracy": report.adversarial_accuracy})))
        if not report.weights:
            return
        self.session.write(Objectives(names=report.names, losses=report.losses, weights=report.weights, norms=report.norms,
                                      cosines=report.cosines, stage=report.stage or None))

    def _write_alphas(self) -> None:
        if self.method.alphas is None:
            return
        betas = self.supernet.beta_views(self.method.alphas)
        for kind, alpha in self.supernet.alpha_views(self.method.alphas).items():
            self.session.write(Alpha(cell=kind, primitives=self.supernet.primitives, alpha=alpha.numpy(force=True),
                                     beta=betas[kind].numpy(force=True) if betas else None))

    def _write_candidates(self) -> None:
        """Write an event for each newly measured candidate network, and update candidates.json.

        The file lists all candidates, best first.
        """
        candidates = self.method.candidates
        if len(candidates) == self.candidates_told:
            return
        for one in candidates[self.candidates_told:]:
            self.session.write(self._measured(one))
        self.candidates_told = len(candidates)
        in_order = enumerate(ranked(candidates, self.ranking), start=1)
        self.session.folder.write_json(self.session.folder.results / "candidates.json", {
            "ranking": self.ranking, "split": self.measured_split, "candidates": [{"rank": rank} | {
                name: value for name, value in self._measured(one).to_json().items() if name != "ranking"}
                for rank, one in in_order]})

    def _measured(self, candidate: Candidate) -> MeasuredCandidate:
        """Return the event that describes a measured candidate, including the size of its network."""
        size = cost(candidate.genotype, channels=self.config.channels, layers=self.config.layers, classes=self.supernet.classes,
                    image_shape=self.supernet.image_shape, placement=self.config.placement, width_ratio=self.config.width_ratio)
        return MeasuredCandidate(
            candidate=candidate.number, images=candidate.images, natural_correct=candidate.natural_correct,
            adversarial_correct=candidate.adversarial_correct, parameters=size.parameters, macs=size.macs,
            genotype=candidate.genotype, ranking=self.ranking,
            inherited_natural_correct=candidate.inherited_natural_correct,
            inherited_adversarial_correct=candidate.inherited_adversarial_correct)

    def _write_genotype(self) -> None:
        self.session.write(DerivedGenotype(genotype=self.method.genotype()))

    def _save(self) -> None:
        save(self.session, method=self.method.state_dict(), **self.early.state())


def _known(values: dict[str, float | None]) -> dict[str, float]:
    """Return the entries whose value is not None. None stands for a value that the search method does not measure."""
    return {name: value for name, value in values.items() if value is not None}

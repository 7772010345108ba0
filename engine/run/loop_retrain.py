"""The loop of a retraining, which trains a network from scratch and chooses the best checkpoint.

The checkpoint is chosen by the accuracy on the select split, which holds images that are reserved for such choices.
"""

from __future__ import annotations

import time

from engine.attack.statistics import share_words
from engine.config import RetrainConfig
from engine.run import checkpoint
from engine.run.early_stop import EarlyStop
from engine.run.event_kinds import Metric
from engine.run.first_batch import FirstBatch
from engine.run.preparation import Prepared, at_work, prepare, save, write_network
from engine.run.session import Session
from engine.run.step_log import Step, StepLog
from engine.run.trainer import Trainer
from engine.train.distributed import Processes, connect, send
from engine.train.retrain import Probe


def run(session: Session) -> None:
    """Run a retraining to its end. Continue from the checkpoint of an earlier attempt if one exists.

    Raises:
        StopRequested: the user stopped the run. A checkpoint of the last complete step has been written.
        RunError: the parent search has no genotype, or a loss or a weight is NaN or infinite.
    """
    RetrainLoop(session, prepare(session)).run()


class RetrainLoop:
    """One attempt of a retraining, that is, one start of its worker."""

    def __init__(self, session: Session, prepared: Prepared) -> None:
        config: RetrainConfig = prepared.config
        self.session, self.config = session, config
        self.trainer = Trainer(prepared, session.folder.runs, session.run.get("parent"),
                               Processes.of(config, 0, session.processes))
        self.training, self.network, self.steps_per_epoch = (
            self.trainer.training, self.trainer.network, self.trainer.steps_per_epoch)
        session.total = config.epochs * self.steps_per_epoch
        self.log = StepLog(session, config, self.steps_per_epoch)
        self.fresh, self.measured_epoch = prepared.state is None, 0
        self.early = EarlyStop(config, prepared.state)
        self.first_batch = FirstBatch(session, self.trainer.x, self.trainer.y, prepared.splits.indices("weights", "alphas"),
                                      self.trainer.order(0)[0])
        if prepared.state is not None:
            with checkpoint.fitting(f"checkpoint/last.pt of run {session.folder.id} must hold this training"):
                self.training.load_state_dict(prepared.state["training"])
                self.measured_epoch = int(prepared.state["measured_epoch"])
        if session.peers is not None:
            connect(0, session.processes, session.peers.place, session.device)
            send(checkpoint.as_bytes(self.training.state_dict() | {"best": None}))

    def run(self) -> None:
        """Run the remaining training steps. Between epochs, measure the accuracy on images reserved for choosing a checkpoint."""
        session = self.session
        # Written at every start, because the file may be damaged since the first.
        session.folder.write_json(session.folder.results / "network.json", self.network.to_dict())
        if self.fresh:
            write_network(session, self.network)
            self._save()
        elif self.training.best is not None:
            self._write_best()  # best.pt may be damaged, or newer than the checkpoint that was read
        with at_work(session, self._save):
            while True:
                if self._measurement_due():
                    self._measure()
                    self._save()
                if session.step == session.total or self.early.reason:
                    self.first_batch.of_retraining(self.training)
                    break
                self._step()
                if not self.first_batch.is_written:
                    self.first_batch.of_retraining(self.training)
                self.early.after_step()
                if session.checkpoint_due():
                    self._save()
        if session.step < session.total:
            session.finished_early = self.early.sentence(session.epoch, self.config.epochs)

    def _step(self) -> None:
        session, config = self.session, self.config
        epoch, position = divmod(session.step, self.steps_per_epoch)
        session.begin_step(self.training.expected_passes, f"epoch {epoch + 1} of {config.epochs}, batch {position + 1} of "
                                                          f"{self.steps_per_epoch}")
        started = time.perf_counter()
        self._tell("step", epoch, position)
        measured = self.trainer.step(epoch, position, session.poll)
        self.log.add(Step(session.step + 1, epoch, position, len(self.trainer.order(epoch)[position]), started, measured))
        session.warn_once(self.training.graphs.refusal)
        session.end_step(epoch=epoch + 1, passes=measured.passes)
        if measured.probe is not None:
            self._write_probe(measured.probe)
        session.progress()

    def _tell(self, *words: object) -> None:
        """Tell the other processes of the run what to compute, if there are any."""
        if self.session.peers is not None:
            self.session.peers.tell(*words)

    def _measurement_due(self) -> bool:
        """Return True if the run is between two epochs and the epoch just completed still has to be measured.

        Every `selection_every`-th epoch and the last epoch are measured. If an early-stop rule ends the run within an epoch, the
        part of this epoch that was trained counts as an epoch.
        """
        session = self.session
        epoch, inside = divmod(session.step, self.steps_per_epoch)
        if self.early.reason:  # the run ends here
            return session.epoch > self.measured_epoch
        if inside or epoch == 0 or epoch <= self.measured_epoch:
            return False
        return epoch % self.config.selection_every == 0 or session.step == session.total

    def _measure(self) -> None:
        session = self.session
        self.log.write()
        session.begin_step(self.config.selection_steps + 2, f"epoch {session.epoch}: measuring on the select split")
        passes = session.passes
        self._tell("select")
        selection = self.trainer.select(session.poll)
        session.warn_once(self.training.graphs.refusal)
        session.begin_step(1)  # keeps the passes of the measurement, which is not a step and so never ends by `end_step`
        self.measured_epoch = session.epoch
        session.write(Metric(split="select", statistics="running", values={
            "natural_loss": selection.natural_loss, "natural_accuracy": selection.natural_accuracy,
            "adversarial_loss": selection.adversarial_loss, "adversarial_accuracy": selection.adversarial_accuracy}))
        best = self.training.keep_best(selection, self.measured_epoch)
        if best:
            self._write_best()
        assert self.training.best is not None
        self.early.after_measurement(self.measured_epoch, int(self.training.best["epoch"]))
        natural, adversarial = (share_words(round(accuracy * selection.images), selection.images)
                                for accuracy in (selection.natural_accuracy, selection.adversarial_accuracy))
        print(f"epoch {self.measured_epoch} of {self.config.epochs}: on {selection.images:,} images of the select split natural "
              f"{natural}, adversarial {adversarial}{', best so far' if best else ''} ({session.passes - passes} passes)",
              flush=True)

    def _write_best(self) -> None:
        assert self.training.best is not None
        checkpoint.write(self.session.folder.checkpoint / checkpoint.BEST, {
            **self.training.best, "description": self.network.to_dict()})

    def _write_probe(self, probe: Probe) -> None:
        self.session.write(Metric(split="weights", statistics="running", values={
            "probe_fgsm_accuracy": probe.fgsm_accuracy, "probe_pgd_accuracy": probe.pgd_accuracy}))
        if probe.alert:
            highest, now, fgsm = (f"{100 * value:.1f} %" for value in (probe.highest, probe.pgd_accuracy, probe.fgsm_accuracy))
            self.session.alert("warning", f"Catastrophic overfitting: on a training batch, accuracy under PGD-"
                               f"{self.config.probe_steps} fell from a high of {highest} to {now}, while accuracy under FGSM is "
                               f"{fgsm}. The best checkpoint is kept. A smaller fast_step, learning rate or epsilon may keep the "
                               "training robust.")

    def _save(self) -> None:
        self.log.write()
        save(self.session, training=self.training.state_dict(), measured_epoch=self.measured_epoch, **self.early.state())

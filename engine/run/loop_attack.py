"""The loop of an attack run, which evaluates a retrained network on the test split, one block of images at a time."""

from __future__ import annotations

import pyarrow as pa
import torch
from torch import nn

from engine.attack.badge import Finding
from engine.attack.catalogue import ATTACKS
from engine.attack.checks import CHECKS, inspect
from engine.attack.evaluation import Evaluation, preprocessing_of
from engine.attack.inspection import Inspection
from engine.attack.statistics import accuracy_words
from engine.config import AttackConfig
from engine.errors import StopRequested
from engine.run import checkpoint
from engine.run.after_attacks import AfterAttacks
from engine.run.attack_events import AttackCheck, AttackResult, EvaluationBegun, SplitOpened
from engine.run.attacked_network import network_of
from engine.run.folder import RunFolder
from engine.run.latency import latencies
from engine.run.loop_verdict import VerdictLoop
from engine.run.parquet_files import read_samples, samples_table, write_parquet
from engine.run.preparation import Prepared, at_work, prepare, save, write_network
from engine.run.session import Session


def run(session: Session) -> None:
    """Run an attack run to its end. Continue from the checkpoint of an earlier attempt if one exists.

    Raises:
        StopRequested: the user stopped the run. A checkpoint of the last complete block has been written.
        RunError, CheckpointError: the parent run has no network, or its network cannot be loaded.
    """
    prepared = prepare(session)
    (VerdictLoop if prepared.config.against else AttackLoop)(session, prepared).run()


class AttackLoop:
    """One attempt (start of the worker) of an attack run. Each step attacks a block of test images (`Evaluation.step`)."""

    def __init__(self, session: Session, prepared: Prepared) -> None:
        config: AttackConfig = prepared.config
        self.session, self.config = session, config
        parent = RunFolder(session.folder.runs, str(session.run.get("parent")))
        self.attacked, network, weights = network_of(parent, config.checkpoint)
        network = network.to(prepared.device).eval().requires_grad_(False)
        x, y = prepared.load("test")
        self.evaluation = Evaluation(config, network, x, y, classes=prepared.dataset.classes, indices=prepared.splits.test,
                                     checkpoint=checkpoint.tensors_hash(weights), sources=self._sources(prepared.device))
        self.after = AfterAttacks(self.evaluation)
        self.fresh = prepared.state is None
        self.findings: list[Finding] = []
        if prepared.state is not None:
            with checkpoint.fitting(f"checkpoint/last.pt of run {session.folder.id} must hold this evaluation"):
                self.evaluation.load_state_dict(prepared.state["evaluation"])
                self.after.load_state_dict(prepared.state.get("after", {}))
                self.findings = [Finding(**finding) for finding in prepared.state.get("findings", ())]
        session.total, session.unit = self.evaluation.progress[1] + self.after.progress[1], "image passes"
        session.measure = lambda: self.evaluation.progress[0] + self.after.progress[0]
        # The events of rows that were complete at the checkpoint were written before it.
        self._written = {self._key(row) for row in self.evaluation.rows() if row["complete"]}

    def run(self) -> None:
        """Run the remaining attacks, then the sweep and the certified bound if the run has them, and then the reliability checks.

        The sweep gives the accuracy at several attack radii. The result of each attack is written as an event once the attack is
        complete. Each checkpoint also writes two files:

        - results/outcomes.parquet: the outcome of each attack for each image.
        - results/samples.parquet: some adversarial images.
        """
        session = self.session
        if self.fresh:
            write_network(session, self.attacked)
            session.write(self._begun())
            for latency in latencies(self.evaluation.network, self.attacked.image_shape, session.device):
                session.write(latency)
            session.write(SplitOpened(split="test", images=len(self.evaluation.y), purpose="attack"))
            self._save()
        with at_work(session, self._save):
            while not self.evaluation.over:
                self._step()
            self._save()
            self.after.run(session, self._save)
            session.warn_once(self.evaluation.graphs.refusal)
            if self.config.checks and self.config.attacks:
                self._check()
            self._save()

    def _sources(self, device: torch.device) -> dict[str, nn.Module]:
        """Return {hash of the weights: network} for the networks whose adversarial images are used in transfer attacks."""
        sources = {}
        for run_id in self.config.transfer_from:
            _, network, weights = network_of(RunFolder(self.session.folder.runs, run_id))
            sources[checkpoint.tensors_hash(weights)] = network.to(device).eval().requires_grad_(False)
        return sources

    def _begun(self) -> EvaluationBegun:
        protocol, preprocessing = self.evaluation.protocol, preprocessing_of(self.evaluation.network)
        return EvaluationBegun(protocol=protocol.hash, title=protocol.title, fields=protocol.fields(),
                               network=self.evaluation.network_hash, checkpoint=self.config.checkpoint,
                               preprocessing={} if isinstance(preprocessing, str) else preprocessing)

    def _step(self) -> None:
        session, evaluation = self.session, self.evaluation
        session.begin_step(1, self._title(evaluation.stage))
        try:
            evaluation.step(poll=session.poll)
        except StopRequested:
            if evaluation.keeps_iterations:
                session.passes_at_start_of_step = session.passes
            raise
        session.warn_once(evaluation.graphs.refusal)
        session.end_step(epoch=0)
        session.activity = self._title(evaluation.stage) if evaluation.stage else "finished"
        done = [row for row in evaluation.rows() if row["complete"] and self._key(row) not in self._written]
        for row in done:
            session.write(AttackResult(**row))
            self._written.add(self._key(row))
            print(f"{row['title']}: {accuracy_words(row['correct'], row['images'])}", flush=True)
        session.progress()
        if done or session.checkpoint_due():
            self._save()

    def _check(self) -> None:
        """Make the remaining reliability checks.

        Each check is a step of the run, so a resumed run repeats only the checks after its checkpoint.
        """
        session = self.session
        kept = read_samples(session.folder.results / "samples.parquet")
        inspection = Inspection(self.evaluation, kept, poll=session.poll)
        made = {finding.check_name for finding in self.findings}
        for check in (one for one in CHECKS.values() if one.name not in made):
            session.begin_step(1, f"Checks: {check.title}")
            session.progress(force=True)
            finding = inspect(check, inspection, self.findings)
            session.end_step(epoch=0)
            self.findings.append(finding)
            session.write(AttackCheck(**vars(finding)))
            print(f"Check \"{check.title}\" {finding.finding}: {finding.measured}", flush=True)
            session.progress()

    def _title(self, stage: str) -> str:
        entry = self.evaluation.stages[stage]
        title = entry.attack.title if entry.attack else "Natural images"
        return f"{title} of {ATTACKS[entry.cascade].title}" if entry.cascade and entry.cascade in ATTACKS else title

    @staticmethod
    def _key(row: dict[str, object]) -> tuple[object, object]:
        return row["attack"], row.get("part_of")

    def _save(self) -> None:
        evaluation, results = self.evaluation, self.session.folder.results
        save(self.session, weights=False, evaluation=evaluation.state_dict(), after=self.after.state_dict(),
             findings=[vars(finding) for finding in self.findings])
        write_parquet(results / "outcomes.parquet", pa.table(evaluation.outcome_columns()))
        write_parquet(results / "samples.parquet", samples_table(evaluation))
        if (distances := self.after.distances()) is not None:
            write_parquet(results / "distances.parquet", distances)

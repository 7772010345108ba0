"""The loop of an attack run that does nothing but compare its network with the network of another attack run."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from engine.attack.comparison import PairedEvaluation
from engine.attack.evaluation import Evaluation
from engine.attack.protocol import Protocol, worst_case_fields
from engine.attack.verdict import in_words
from engine.config import AttackConfig
from engine.errors import RunError
from engine.files import open_to_read
from engine.run import checkpoint
from engine.run.attack_events import EarlyVerdict, EvaluationBegun, SplitOpened
from engine.run.attacked_network import network_of
from engine.run.events import read_events
from engine.run.folder import RunFolder
from engine.run.parquet_files import write_parquet
from engine.run.preparation import Prepared, at_work, save, write_network
from engine.run.recorded_outcomes import correct_images
from engine.run.session import Session


class VerdictLoop:
    """One attempt of an attack run that does nothing but compare its network with the network of another attack run.

    The run records verdicts (interim results of the comparison) as events, and both networks' outcomes for each image in
    results/pairs.parquet. It records no attack results and does not appear in robustness tables. Its accuracies would be biased,
    because the outcomes determine after how many images the comparison stops.
    """

    def __init__(self, session: Session, prepared: Prepared) -> None:
        config: AttackConfig = prepared.config
        self.session, self.config = session, config
        self.attacked, network, weights = network_of(RunFolder(session.folder.runs, str(session.run.get("parent"))),
                                                     config.checkpoint)
        network = network.to(prepared.device).eval().requires_grad_(False)
        x, y = prepared.load("test")
        images, hashed = [int(index) for index in prepared.splits.test], checkpoint.tensors_hash(weights)
        protocol = Evaluation(config, network, x, y, classes=prepared.dataset.classes, indices=images).protocol
        self.other = RunFolder(session.folder.runs, config.against)
        self.begun = evaluation_of(self.other, protocol)
        self.comparison = PairedEvaluation(config, network, x, y, classes=prepared.dataset.classes, indices=images,
                                           other=worst_cases(self.other), checkpoint=hashed)
        self.fresh = prepared.state is None
        if prepared.state is not None:
            with checkpoint.fitting(f"checkpoint/last.pt of run {session.folder.id} must hold this comparison"):
                self.comparison.load_state_dict(prepared.state["comparison"])
        session.total, session.unit = len(self.comparison.order), "images"
        session.measure = lambda: self.comparison.progress

    def run(self) -> None:
        """Attack the remaining images until the comparison is decided. A verdict is written as an event after each chunk."""
        session = self.session
        if self.fresh:
            write_network(session, self.attacked)
            session.write(SplitOpened(split="test", images=len(self.comparison.y), purpose="attack"))
            self._save()
        with at_work(session, self._save):
            while not self.comparison.over:
                self._step()
            self._save()

    def _step(self) -> None:
        session, comparison = self.session, self.comparison
        session.begin_step(1, comparison.stage)
        complete = comparison.step(poll=session.poll)
        session.warn_once(comparison.graphs.refusal)
        session.end_step(epoch=0)
        session.activity = comparison.stage or "finished"
        if complete:
            verdict = self._verdict()
            session.write(verdict)
            print(in_words(vars(verdict), session.folder.id, self.other.id), flush=True)
        session.progress()
        if complete or session.checkpoint_due():
            self._save()

    def _verdict(self) -> EarlyVerdict:
        sequence, counts = self.comparison.sequence, self.comparison.counts
        low, high = sequence.interval
        return EarlyVerdict(against=self.other.id, protocol=str(self.begun["protocol"]), network=self.comparison.network_hash,
                            other=str(self.begun["network"]), total=sequence.images, images=sequence.seen,
                            both_correct=counts.both, first_only=counts.first_only, second_only=counts.second_only,
                            neither=counts.neither, low=low, high=high, level=1 - sequence.alpha, verdict=sequence.verdict)

    def _save(self) -> None:
        save(self.session, weights=False, comparison=self.comparison.state_dict())
        write_parquet(self.session.folder.results / "pairs.parquet", pa.table(self.comparison.pairs()))


def evaluation_of(other: RunFolder, protocol: Protocol) -> dict[str, Any]:
    """Return the event with which another attack run began its evaluation. Check that the worst cases can be compared.

    In the worst case, an image counts as correct only if all attacks of the protocol fail on it. Two worst cases can be compared
    if their protocols (the conditions of the evaluations) agree on everything that affects the worst case.

    Args:
        other: folder of the other run.
        protocol: protocol of this run.

    Raises:
        RunError: the other run recorded no protocol, or one that differs, for example in the version of a library.
    """
    events = [event for event in read_events(other.events)[0] if event["event"] == EvaluationBegun.kind]
    if not events or worst_case_fields(events[-1].get("fields", {})) != worst_case_fields(protocol.fields()):
        recorded = events[-1].get("protocol") if events else "none"
        raise RunError(f"The protocol of run {other.id} must be that of this run, {protocol.hash}, got {recorded}; attack its "
                       "network again with this version of Rampart.")
    return events[-1]


def worst_cases(other: RunFolder) -> dict[int, bool]:
    """Return {dataset index of an image: True if the image withstood every attack of another attack run}.

    Args:
        other: folder of the other run.

    Raises:
        RunError: results/outcomes.parquet of the other run cannot be read.
    """
    try:
        with open_to_read(other.results / "outcomes.parquet") as file:
            return correct_images(pd.read_parquet(file))
    except (OSError, ValueError, KeyError) as problem:
        raise RunError(f"results/outcomes.parquet of run {other.id} must be a Parquet table of outcomes and cannot be read "
                       f"({problem}); attack its network again.") from None

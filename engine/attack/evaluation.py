"""Evaluation of one network under the attacks of a protocol. It records one outcome per attack and image, and can be resumed.

Natural predictions come first: an image that the network misclassifies without an attack counts as wrong under every attack. Then
each attack runs on its images. A suite such as AutoAttack is a cascade: each part attacks only the images that are still
classified correctly. If the protocol measures only the worst case, all its attacks together are one cascade.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.attack.batches import Batches
from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.attack.declaration import Attack
from engine.attack.fingerprint import attack_fields, fingerprint, images_hash
from engine.attack.guard import Watched, attacked, finite_logits, under_attack
from engine.attack.methods import check_attack, likely_classes, start
from engine.attack.outcomes import CORRECT, UNKNOWN, WRONG, Outcomes
from engine.attack.pools import Pools
from engine.attack.protocol import Protocol
from engine.attack.statistics import wilson
from engine.attack.walk import Attacked
from engine.config import AttackConfig
from engine.data.loading import Images
from engine.data.splits import stratified_subset
from engine.data.transfer import to_device
from engine.errors import CheckpointError
from engine.graphs import Graphs
from engine.lanes import Lanes

SAMPLE_BYTES = 24 * 2**20  # largest size of all stored adversarial images together


@dataclass(frozen=True)
class Stage:
    """One step of an evaluation: the natural predictions, an attack, or one part of a cascade.

    In a cascade, each attack runs only on the images that have withstood the attacks before it.

    Attributes:
        name: for example "natural", "fgsm", or "autoattack/apgd-ce" for a part of a cascade.
        attack: declaration of the attack; None for the natural predictions.
        cascade: name of the cascade that contains this stage: the name of a suite, or "worst-case". None if there is no cascade.
        before: name of the stage whose correctly classified images this stage attacks; None for the natural predictions.
        positions: positions of this stage's images among the images of the evaluation, int64 [n], ascending.
    """

    name: str
    attack: Attack | None
    cascade: str | None
    before: str | None
    positions: Tensor


class Evaluation:
    """The attacks of a protocol on one network, with the outcome for each test image.

    Example:
        evaluation = Evaluation(config, network, x, y, classes=10, indices=splits.test, checkpoint=hash)
        while not evaluation.over:
            evaluation.step(poll=poll)
        evaluation.rows()

    Attributes:
        protocol: the protocol (images, norm, radius, attacks and seed).
        network_hash: hash of the network's weights.
        stages: {name: stage}, in order. A stage is the natural predictions, an attack, or one part of a suite of attacks.
        outcomes: {name of a stage: outcomes of its images}.
        sample: positions of the images whose adversarial images are kept, int64 [s].
        adversarial: {name of a stage: kept adversarial images, float32 [s, C, H, W] on the CPU}.
        graphs: recorder of the passes in attacks, of the network and of those on which transfer attacks make their images.
    """

    def __init__(self, config: AttackConfig, network: nn.Module, x: Tensor | Images, y: Tensor, *, classes: int,
                 indices: Iterable[int], checkpoint: str = "", sources: Mapping[str, nn.Module] | None = None,
                 first_block: int = 0, graphs: Graphs | None = None) -> None:
        """Prepare the stages; nothing runs yet.

        Args:
            config: attacks, norm, radius, step size, block size, seed.
            network: function from pixels in 0..1 to logits. Any normalisation happens inside it.
            x: float32 [N, C, H, W], pixels in 0..1, on the network's device.
            y: int64 [N] labels on the network's device.
            classes: number of classes of the dataset.
            indices: dataset index of each of the N images.
            checkpoint: hash of the network's weights.
            sources: {hash of the weights: network} for the networks on which transfer attacks make adversarial images. They are
                on the device of the attacked network.
            first_block: number of the first block of images (images attacked at once). It is not 0 if these images follow images
                of another evaluation. Random numbers may depend on the number of the block.
            graphs: recorder that other evaluations of the same network with the same settings use as well; None to create one.

        Raises:
            ConfigError: an attack is unknown, or is not defined for the number of classes or the norm.
        """
        self.config, self.network, self.x, self.y, self.classes = config, network, x, y, classes
        self.indices, self.network_hash, self.first_block = [int(index) for index in indices], checkpoint, first_block
        subset = self._subset()
        self.protocol = Protocol.of(config, classes=classes, images=self.indices, sources=sources,
                                    subset=[self.indices[position] for position in subset.tolist()])
        self.stages = self._stages(subset)
        self.outcomes = {name: Outcomes(len(y)) for name in self.stages}
        self.sample = self._sample()
        natural = x[self.sample].cpu()
        self.adversarial = {name: natural.clone() for name in self.stages}
        self._seconds = dict.fromkeys(self.stages, 0.0)
        aims = max((stage.attack.targets_among(classes) for stage in self.stages.values() if stage.attack), default=0)
        self._targets = torch.zeros((len(y), max(aims, 1)), dtype=torch.int64, device=y.device)
        self._stage = NATURAL
        self._running: Pools | Batches | None = None
        self._standing = torch.arange(0)  # positions of the images that the current stage attacks
        self._watched: Watched | None = None
        self._logits: Callable[[Tensor], Tensor] | None = None
        self.graphs = graphs or Graphs.on(y.device)

    @property
    def over(self) -> bool:
        """True when every stage (natural predictions, attack, or part of a suite) has covered its images."""
        return self._running is None and self._stage == ""

    @property
    def stage(self) -> str:
        """The name of the current stage (natural predictions, attack, or part of a suite); "" at the end."""
        return self._stage

    @property
    def keeps_iterations(self) -> bool:
        """True if the current attack can be interrupted at any iteration and continue there.

        False if it must repeat the current block (the images that it attacks in one call).
        """
        return isinstance(self._running, Pools)

    @property
    def progress(self) -> tuple[float, int]:
        """The pair (completed, total) of network evaluations. One evaluation is one image in one forward pass.

        The total assumes that no attack succeeds. If an attack breaks an image early, all evaluations of this image count as
        completed.
        """
        done, total = 0.0, 0
        for name, stage in self.stages.items():
            passes = 1 if stage.attack is None else stage.attack.passes(self.classes).forward
            finished = int((self.outcomes[name].correct != UNKNOWN).sum())
            total += passes * len(stage.positions)
            done += passes * finished
        return done + (self._running.active_iterations if self._running else 0), total

    def step(self, poll: Callable[[], None] = lambda: None, on_pass: Callable[[int], None] = lambda passes: None) -> None:
        """Attack for a while, and record the outcomes of finished images.

        An attack that can be interrupted at any iteration takes some iterations on its present images. With two lanes (threads),
        it divides the images between them, and each lane attacks up to `batch_size` images at once. Any other attack finishes one
        block, that is, the images that it attacks in one call.

        If `poll` raises, the evaluation can continue, or be saved and continue later, with the same results.

        Args:
            poll: function called before each forward pass; it may raise StopRequested.
            on_pass: function called after each forward pass with the number of images that have passed through the network in
                this step. An image counts once per pass.
        """
        started = time.perf_counter()
        stage = self.stages[self._stage]
        with under_attack(self.network):
            watched, lanes = self._watch(), Lanes.on(self.y.device)
            watched.poll, watched.on_pass, watched.passes, watched.lanes = poll, on_pass, 0, lanes
            try:
                running = self._running = self._running or self._begun(stage, lanes.count)
                try:
                    running.step(lanes)
                finally:
                    with lanes:  # one lane's threads, which is faster for so few images
                        for batch in running.finished():
                            self._keep(stage, batch)
            finally:
                self._seconds[stage.name] += time.perf_counter() - started
        if running.over:
            self._running = None
            names = [*self.stages, ""]
            self._stage = names[names.index(stage.name) + 1]

    def rows(self) -> list[dict[str, Any]]:
        """Return the results. Each is a dict with the fields of one `AttackResult` event. Results without images are left out.

        The natural accuracy comes first. A suite comes before its parts. The worst case over all attacks comes last. It is
        measured on the images that every attack covers.

        If the protocol measures only the worst case, its attacks are the parts of one cascade. The accuracy of a part is then
        the accuracy under this part and all parts before it.
        """
        rows, cascades = [], []
        for name, stage in self.stages.items():
            if stage.cascade and stage.cascade not in cascades:
                cascades.append(stage.cascade)
                if stage.cascade != WORST:
                    rows.append(self._suite_row(stage.cascade))
            rows.append(self._stage_row(name))
        if self.protocol.attacks:
            rows.append(self._worst_row())
        return [row for row in rows if row["images"]]

    def outcome_columns(self) -> dict[str, list[Any]]:
        """Return the columns of results/outcomes.parquet, as {name: column}. They have one entry per attack and attacked image.

        In a suite such as AutoAttack, the entry of an image comes from the attack that broke it or, if none did, from the last.

        Columns:
            image, label, attack: number of the image in the dataset, its label, and the name of the attack.
            correct, prediction, margin, linf, l2, iterations, confidence: see `Outcomes`.
        """
        columns: dict[str, list[Any]] = {name: [] for name in ("image", "label", "attack", *self.outcomes[NATURAL].columns)}
        last_parts = {stage.cascade: name for name, stage in self.stages.items() if stage.cascade}
        for name, source in {**{name: name for name in self.stages}, **last_parts}.items():
            outcomes = self.outcomes[source]
            known = (outcomes.correct != UNKNOWN).nonzero().flatten()
            columns["image"] += [self.indices[position] for position in known.tolist()]
            columns["label"] += self.y.cpu()[known].tolist()
            columns["attack"] += [name] * len(known)
            for column, values in outcomes.columns.items():
                columns[column] += values[known].bool().tolist() if column == "correct" else values[known].tolist()
        return columns

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume, in a form that torch.load(..., weights_only=True) can read."""
        return {"setup": self._setup(), "stage": self._stage, "standing": self._standing, "targets": self._targets.cpu(),
                "running": self._running.state_dict() if self._running else None, "seconds": dict(self._seconds),
                "outcomes": {name: outcomes.state_dict() for name, outcomes in self.outcomes.items()},
                "adversarial": {name: images.clone() for name, images in self.adversarial.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` has returned.

        Raises:
            CheckpointError: the state belongs to another network, or to another protocol.
        """
        if state.get("setup") != self._setup():
            raise CheckpointError("The saved evaluation must belong to the same network, images, attacks and settings as "
                                  "this run, but one of them differs; start a new attack run.")
        for name in self.stages:
            self.outcomes[name].load_state_dict(state["outcomes"][name])
            self.adversarial[name].copy_(state["adversarial"][name])
            self._seconds[name] = float(state["seconds"][name])
        self._stage, self._standing = state["stage"], state["standing"]
        self._targets.copy_(state["targets"])
        self._running = None
        if state["running"] is not None:
            with under_attack(self.network):
                self._running = self._start(self.stages[self._stage])
            self._running.load_state_dict(state["running"])

    def _begun(self, stage: Stage, pools: int) -> Pools | Batches:
        """Start a stage (an attack, or one part of a cascade of attacks), and return the runner of its attack.

        The stage attacks only the images that are still classified correctly after the previous stage. All other images keep
        their outcome from the previous stage.

        Args:
            stage: the stage.
            pools: number of pools among which an iterated attack divides the images.
        """
        self._standing = stage.positions
        if stage.before is not None:
            before = self.outcomes[stage.before]
            self._standing = stage.positions[before.correct[stage.positions] == CORRECT]
            fallen = stage.positions[before.correct[stage.positions] == WRONG]
            self.outcomes[stage.name].inherit(fallen, before)
            kept = torch.isin(self.sample, fallen)
            self.adversarial[stage.name][kept] = self.adversarial[stage.before][kept]
        return self._start(stage, pools)

    def _start(self, stage: Stage, pools: int = 1) -> Pools | Batches:
        where = to_device(self._standing, self.y.device)
        y = self.y[where]

        def images(position: Tensor) -> Tensor:
            return self.x[self._standing[position]]

        if stage.attack is None:
            return Batches(lambda x, y: x, images, y, seed=lambda block: 0, size=self.config.batch_size, iterations=0)
        return start(stage.attack, self._watch(), images, y, targets=self._targets[where],
                     ids=[self.indices[position] for position in self._standing.tolist()], size=self.config.batch_size,
                     settings=replace(self.protocol.settings, graphs=self.graphs), first_block=self.first_block, pools=pools)

    def _watch(self) -> Watched:
        """Return the wrapper of the network that all attacks of the evaluation use. The first call creates it.

        Call this inside `under_attack`, which puts the network into the state that attacks need.
        """
        if self._watched is None:
            self._watched = Watched(self.network, logits=self.logits())
        return self._watched

    def logits(self) -> Callable[[Tensor], Tensor]:
        """Return the function that attacks differentiate, which maps images to logits. Call this inside `under_attack`."""
        if self._logits is None:
            self._logits = attacked(self.network, graphs=self.graphs, batch=self.config.batch_size)
        return self._logits

    def _keep(self, stage: Stage, finished: list[Attacked]) -> None:
        """Record the outcomes of images whose attack has ended.

        The network itself predicts the classes, not the faster form of it that the attack used.

        Args:
            stage: the attack, or the natural predictions.
            finished: results of this stage, one per image, at least one.
        """
        positions = self._standing[[image.position for image in finished]]
        where = to_device(positions, self.y.device)
        x, y, x_adv = self.x[positions], self.y[where], torch.stack([image.x_adv for image in finished])
        logits = finite_logits(self.network, x_adv)
        if stage.attack is None:
            self._targets[where] = likely_classes(logits, y, self._targets.shape[1])
        settings = self.protocol.settings
        self.outcomes[stage.name].record(
            positions, x, x_adv, y, logits, torch.tensor([image.iterations for image in finished]),
            beyond=(settings.norm, settings.epsilon) if stage.attack and stage.attack.nearest else None)
        kept = torch.isin(self.sample, positions)
        order = torch.searchsorted(positions.sort().values, self.sample[kept])
        self.adversarial[stage.name][kept] = x_adv.cpu()[positions.argsort()[order]]

    def _stages(self, subset: Tensor) -> dict[str, Stage]:
        everything = torch.arange(len(self.y))
        stages = [Stage(NATURAL, None, None, None, everything)]
        before = NATURAL
        for name in self.protocol.attacks:
            attack = ATTACKS[name]
            check_attack(attack, self.protocol.settings)
            cascade = WORST if self.config.worst_case_only else name if attack.parts else None
            if not self.config.worst_case_only:
                before = NATURAL
            for part in attack.parts or (attack,):
                positions = subset if attack.parts or self.config.worst_case_only else everything
                stages.append(Stage(f"{cascade}/{part.name}" if cascade else name, part, cascade, before, positions))
                before = stages[-1].name if cascade else NATURAL
        return {stage.name: stage for stage in stages}

    def _subset(self) -> Tensor:
        wanted = self.config.autoattack_images
        count = len(self.y) if wanted is None else wanted
        return torch.from_numpy(stratified_subset(self.y.cpu().numpy(), count, self.config.split_seed))

    def _sample(self) -> Tensor:
        """Return the positions of the images whose adversarial images are kept: a sample that is stratified by class.

        The adversarial images of all stages together take at most `SAMPLE_BYTES`, unless the sample has only one image.
        """
        bytes_per_image = 4 * self.x[:1].numel() * len(self.stages)
        count = min(len(self.y), max(SAMPLE_BYTES // bytes_per_image, 1))
        return torch.from_numpy(stratified_subset(self.y.cpu().numpy(), count, 0))

    def _setup(self) -> str:
        """Return a hash of everything on which the outcomes depend."""
        return fingerprint({"protocol": self.protocol.fields(), "network": self.network_hash, "blocks": self.config.batch_size,
                            "stages": {name: images_hash(stage.positions) for name, stage in self.stages.items()}})

    def _stage_row(self, name: str) -> dict[str, Any]:
        stage = self.stages[name]
        title = "Natural" if stage.attack is None else stage.attack.title
        fields = self._fields(stage)
        row = self._row(stage.attack.name if stage.attack else NATURAL, title, fields, self.outcomes[name].correct,
                        self._seconds[name], self._complete(stage))
        return row | {"part_of": stage.cascade} if stage.cascade else row

    def _fields(self, stage: Stage) -> dict[str, Any]:
        """Return {name: value} of everything that determines the accuracy of one stage, as the input of `fingerprint`."""
        images = {"images": len(stage.positions), "images_hash": images_hash(self.indices[i] for i in stage.positions.tolist())}
        if stage.attack is None:
            return attack_fields(None, self.protocol.settings) | images
        fields = self.protocol.part(stage.attack) | images
        if stage.cascade:
            # A part attacks only the images that its predecessors left: its figure is that of the cascade up to here.
            parts = [other.name for other in self.stages.values() if other.cascade == stage.cascade]
            fields["after"] = parts[:parts.index(stage.name)]
        return fields

    def _suite_row(self, suite: str) -> dict[str, Any]:
        parts = [stage for stage in self.stages.values() if stage.cascade == suite]
        return self._row(suite, ATTACKS[suite].title, self.protocol.part(ATTACKS[suite]), self.outcomes[parts[-1].name].correct,
                         sum(self._seconds[part.name] for part in parts), all(map(self._complete, parts)))

    def _worst_row(self) -> dict[str, Any]:
        """Return the row "worst-case" of the results, as {name of the column: value}.

        An image counts as correct if it withstands every attack. Images that some attack does not cover are left out.
        """
        # UNKNOWN is below WRONG, so one missing outcome makes the image unknown.
        worst = torch.stack([outcomes.correct for outcomes in self.outcomes.values()]).min(0).values
        covered = torch.stack([torch.isin(torch.arange(len(self.y)), stage.positions) for stage in self.stages.values()]).all(0)
        worst = torch.where(covered, worst, UNKNOWN)
        images = {"images": int(covered.sum()), "images_hash": images_hash(self.indices[i] for i in covered.nonzero().flatten())}
        fields = self.protocol.fields() | {"attack": WORST} | images
        return self._row(WORST, "Worst case", fields, worst, sum(self._seconds.values()), self.over)

    def _complete(self, stage: Stage) -> bool:
        return bool((self.outcomes[stage.name].correct[stage.positions] != UNKNOWN).all())

    def _row(self, name: str, title: str, fields: dict[str, Any], correct: Tensor, seconds: float,
             complete: bool) -> dict[str, Any]:
        images, right = int((correct != UNKNOWN).sum()), int((correct == CORRECT).sum())
        low, high = wilson(right, images)
        return {"attack": name, "title": title, "epsilon": fields["epsilon"], "images": images, "correct": right,
                "accuracy": right / images if images else 0.0, "low": low, "high": high, "fingerprint": fingerprint(fields),
                "fields": fields, "duration_s": round(seconds, 3), "complete": complete}


def preprocessing_of(network: nn.Module) -> str | dict[str, list[float]]:
    """Return how a network normalises pixels: {"mean": numbers, "std": numbers}, one number per image channel, or "none"."""
    mean, std = getattr(network, "mean", None), getattr(network, "std", None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor) or (not mean.any() and bool((std == 1).all())):
        return "none"
    # Seven digits, the precision of float32: 0.3, not 0.30000001.
    return {name: [round(value, 7) for value in numbers.tolist()] for name, numbers in (("mean", mean), ("std", std))}

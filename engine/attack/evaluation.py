"""Evaluation of one network under several attacks: an outcome per attack and image, resumable block by block.

The images are cut into fixed blocks. The random numbers of a block depend on (seed, attack, block) alone, so an interruption
changes nothing. Natural predictions come first: an image that the network misclassifies without an attack counts as wrong
under every attack. A suite (AutoAttack) runs part by part; each part attacks only the images that withstood the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.attack.declaration import LINF, Attack
from engine.attack.fingerprint import attack_fields, fingerprint, images_hash
from engine.attack.guard import Watched, predictions, under_attack
from engine.attack.methods import check_classes, run_attack
from engine.attack.statistics import wilson
from engine.config import AttackConfig
from engine.data.loading import Images
from engine.data.splits import stable_seed, stratified_subset
from engine.errors import CheckpointError

# Ordered, so that the worst of several outcomes is their minimum.
UNKNOWN, WRONG, CORRECT = -1, 0, 1


@dataclass(frozen=True)
class Stage:
    """One pass over blocks of images: natural prediction, an attack, or one part of a suite.

    Attributes:
        name: "natural", "fgsm", or "autoattack/apgd-ce" for a part.
        attack: the declaration; None for natural prediction.
        suite: name of the suite that the stage is a part of, or None.
        before: name of the stage whose surviving images this one attacks; None for natural prediction.
        positions: int64 [n], the positions among the images that it covers, ascending.
    """

    name: str
    attack: Attack | None
    suite: str | None
    before: str | None
    positions: Tensor


class Evaluation:
    """The attacks of a configuration on fixed images, run block by block.

    Example:
        evaluation = Evaluation(config, network, x, y, classes=10, indices=splits.test, checkpoint=hash)
        for stage, block in evaluation.remaining():
            evaluation.run_block(stage, block, poll=poll)
        evaluation.rows()
    """

    def __init__(self, config: AttackConfig, network: nn.Module, x: Tensor | Images, y: Tensor, *, classes: int,
                 indices: Iterable[int], checkpoint: str = "", chosen: str = "best") -> None:
        """Prepare the stages; nothing runs yet.

        Args:
            config: attacks, radius, step size, block size, seed.
            network: x -> logits, with any normalisation inside (buffers `mean` and `std`, which the fingerprint records).
            x: float32 [N, C, H, W], pixels in 0..1, on the network's device.
            y: int64 [N] labels on the network's device.
            classes: number of classes of the dataset.
            indices: N numbers of the images in the dataset, recorded by hash and in the outcomes.
            checkpoint: hash of the network's weights, for the record.
            chosen: checkpoint of the retraining that was attacked, "best" or "last", for the record.

        Raises:
            ConfigError: an unknown attack, or one that needs more classes.
        """
        self.config, self.network, self.x, self.y, self.classes = config, network, x, y, classes
        self.indices = [int(index) for index in indices]
        self.checkpoint, self.chosen, self.preprocessing = checkpoint, chosen, preprocessing_of(network)
        self.stages = self._stages()
        self._outcomes = {name: torch.full((len(y),), UNKNOWN, dtype=torch.int8) for name in self.stages}
        self._done = {name: torch.zeros(len(self._blocks(name)), dtype=torch.int8) for name in self.stages}
        self._seconds = dict.fromkeys(self.stages, 0.0)

    def remaining(self) -> list[tuple[str, int]]:
        """Return the (stage, block) pairs still to run, in order."""
        return [(name, block) for name in self.stages for block, done in enumerate(self._done[name].tolist()) if not done]

    @property
    def progress(self) -> tuple[int, int]:
        """The number of blocks done, and of all blocks."""
        done = sum(int(flags.sum()) for flags in self._done.values())
        return done, sum(len(flags) for flags in self._done.values())

    def expected_passes(self, stage: str) -> int:
        """Return the forward passes of one block of this stage: the attack's on a block of which no image breaks, and one more
        for the prediction."""
        attack = self.stages[stage].attack
        return 1 if attack is None else attack.passes(self.classes).forward + 1

    def run_block(self, stage: str, block: int, poll: Callable[[], None] = lambda: None,
                  on_pass: Callable[[int], None] = lambda passes: None) -> None:
        """Run one block and keep its outcomes. If `poll` raises, nothing is kept and the block can be run again.

        Args:
            stage, block: one of `remaining()`; earlier stages must have covered the same images.
            poll: called before each forward pass; may raise StopRequested.
            on_pass: called after each forward pass with the number of passes so far in this block.
        """
        started = time.perf_counter()
        positions = self._blocks(stage)[block]
        before = self.stages[stage].before
        standing = positions if before is None else positions[self._outcomes[before][positions] == CORRECT]
        correct = self._survivors(stage, block, standing, poll, on_pass)
        self._outcomes[stage][positions] = WRONG
        self._outcomes[stage][standing[correct]] = CORRECT
        self._done[stage][block] = 1
        self._seconds[stage] += time.perf_counter() - started

    def rows(self) -> list[dict[str, Any]]:
        """Return the body of one `attack` event per result that has at least one block.

        Natural accuracy comes first, a suite before its parts, and last the worst case over all attacks, on the images that
        every attack covered.
        """
        rows, suites = [], []
        for name, stage in self.stages.items():
            if stage.suite and stage.suite not in suites:
                suites.append(stage.suite)
                rows.append(self._suite_row(stage.suite))
            rows.append(self._stage_row(name))
        rows.append(self._worst_row())
        return [row for row in rows if row["images"]]

    def outcomes(self) -> dict[str, list[Any]]:
        """Return the columns image (number in the dataset), label, attack, correct: one entry per attack and image covered."""
        columns: dict[str, list[Any]] = {"image": [], "label": [], "attack": [], "correct": []}
        labels = self.y.tolist()
        results = {name: self._outcomes[name] for name in self.stages}
        results |= {suite: self._outcomes[parts[-1]] for suite, parts in self._suites().items()}
        for name, outcome in results.items():
            known = (outcome != UNKNOWN).nonzero().flatten().tolist()
            columns["image"] += [self.indices[position] for position in known]
            columns["label"] += [labels[position] for position in known]
            columns["attack"] += [name] * len(known)
            columns["correct"] += [bool(outcome[position]) for position in known]
        return columns

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed evaluation needs: tensors, numbers and strings, so it loads with weights_only=True."""
        return {"setup": self._setup(), "outcomes": {name: value.clone() for name, value in self._outcomes.items()},
                "done": {name: value.clone() for name, value in self._done.items()}, "seconds": dict(self._seconds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the outcomes of `state_dict`.

        Raises:
            CheckpointError: the state belongs to another network, other images, attacks, settings or block size.
        """
        if state.get("setup") != self._setup():
            raise CheckpointError("The saved evaluation must belong to the same network, images, attacks and settings as "
                                  "this run, but one of them differs; start a new attack run.")
        for name in self.stages:
            self._outcomes[name].copy_(state["outcomes"][name])
            self._done[name].copy_(state["done"][name])
            self._seconds[name] = float(state["seconds"][name])

    def _survivors(self, stage: str, block: int, standing: Tensor, poll: Callable[[], None],
                   on_pass: Callable[[int], None]) -> Tensor:
        """Return bool [len(standing)] on the CPU: True for images that are still classified correctly after this stage."""
        attack = self.stages[stage].attack
        if not len(standing):
            return torch.zeros(0, dtype=torch.bool)
        x, y = self.x[standing.to(self.x.device)], self.y[standing.to(self.y.device)]
        passes = 0

        def count(done: int) -> None:
            nonlocal passes
            passes = done
            on_pass(done)

        if attack is not None:
            x = run_attack(attack, self.network, x, y, epsilon=self.config.epsilon, step_size=self.config.step_size,
                           classes=self.classes, seed=stable_seed(self.config.seed, stage, block), poll=poll, on_pass=count)
        with under_attack(self.network):
            return (predictions(Watched(self.network, poll, lambda one: on_pass(passes + one)), x) == y).cpu()

    def _stages(self) -> dict[str, Stage]:
        everything = torch.arange(len(self.y))
        stages = [Stage(NATURAL, None, None, None, everything)]
        for name in self.config.attacks:
            attack = ATTACKS[name]
            check_classes(attack, self.classes)
            if not attack.parts:
                stages.append(Stage(name, attack, None, NATURAL, everything))
                continue
            before, positions = NATURAL, self._autoattack_positions()
            for part in attack.parts:
                stages.append(Stage(f"{name}/{part.name}", part, name, before, positions))
                before = stages[-1].name
        return {stage.name: stage for stage in stages}

    def _autoattack_positions(self) -> Tensor:
        wanted = self.config.autoattack_images
        count = len(self.y) if wanted is None else wanted
        return torch.from_numpy(stratified_subset(self.y.cpu().numpy(), count, self.config.split_seed))

    def _blocks(self, stage: str) -> tuple[Tensor, ...]:
        return torch.split(self.stages[stage].positions, self.config.batch_size)

    def _suites(self) -> dict[str, list[str]]:
        """Return the names of the stages of each suite, in order."""
        suites: dict[str, list[str]] = {}
        for name, stage in self.stages.items():
            if stage.suite:
                suites.setdefault(stage.suite, []).append(name)
        return suites

    def _setup(self) -> str:
        """Return a hash of everything the outcomes depend on."""
        fields = self._fields(None, torch.arange(len(self.y)))
        fields |= {"network": self.checkpoint, "seed": self.config.seed, "blocks": self.config.batch_size, "stages": {
            name: [self._attack_fields(stage.attack), images_hash(stage.positions)] for name, stage in self.stages.items()}}
        return fingerprint(fields)[0]

    def _attack_fields(self, attack: Attack | None) -> dict[str, Any]:
        return attack_fields(attack, epsilon=self.config.epsilon, step_size=self.config.step_size, classes=self.classes)

    def _fields(self, attack: Attack | None, positions: Tensor) -> dict[str, Any]:
        """Return the fingerprint's fields for a result on these images."""
        return self._attack_fields(attack) | {
            "dataset": self.config.dataset, "images": len(positions),
            "images_hash": images_hash(self.indices[position] for position in positions.tolist()),
            # Natural predictions draw no random numbers.
            "seed": None if attack is None else self.config.seed,
            "preprocessing": self.preprocessing, "mode": "eval, float32",
            "block_images": self.config.batch_size, "checkpoint": self.checkpoint, "chosen": self.chosen}

    def _stage_row(self, name: str) -> dict[str, Any]:
        stage = self.stages[name]
        title = "Natural" if stage.attack is None else stage.attack.title
        fields = self._fields(stage.attack, stage.positions)
        row = self._row(stage.attack.name if stage.attack else NATURAL, title, fields, self._outcomes[name],
                        self._seconds[name], bool(self._done[name].all()))
        if stage.suite:
            # A part attacks only what its predecessors left: its result is that of the suite up to here.
            fields["after"] = list(self._suites()[stage.suite][: self._suites()[stage.suite].index(name)])
            row |= {"part_of": stage.suite, "fingerprint": fingerprint(fields)[0], "fields": fields}
        return row

    def _suite_row(self, suite: str) -> dict[str, Any]:
        parts = self._suites()[suite]
        fields = self._fields(ATTACKS[suite], self.stages[parts[0]].positions)
        return self._row(suite, ATTACKS[suite].title, fields, self._outcomes[parts[-1]],
                         sum(self._seconds[part] for part in parts), all(bool(self._done[part].all()) for part in parts))

    def _worst_row(self) -> dict[str, Any]:
        """Return the row of images that withstood every attack, among those that all attacks covered."""
        stacked = torch.stack([self._outcomes[name] for name in self.stages])
        worst = stacked.min(0).values  # UNKNOWN is below WRONG, so one missing outcome makes the image unknown.
        covered = torch.stack([torch.isin(torch.arange(len(self.y)), stage.positions) for stage in self.stages.values()]).all(0)
        positions = covered.nonzero().flatten()
        fields = self._fields(None, positions) | {"attack": WORST, "norm": LINF, "epsilon": self.config.epsilon,
                                                  "seed": self.config.seed,
                                                  "over": [self._attack_fields(ATTACKS[name]) for name in self.config.attacks]}
        complete = all(bool(done.all()) for done in self._done.values())
        return self._row(WORST, "Worst case", fields, worst, sum(self._seconds.values()), complete)

    def _row(self, name: str, title: str, fields: dict[str, Any], outcome: Tensor, seconds: float,
             complete: bool) -> dict[str, Any]:
        images, correct = int((outcome != UNKNOWN).sum()), int((outcome == CORRECT).sum())
        low, high = wilson(correct, images)
        short, fields = fingerprint(fields)
        return {"attack": name, "title": title, "epsilon": fields["epsilon"], "images": images, "correct": correct,
                "accuracy": correct / images if images else 0.0, "low": low, "high": high, "fingerprint": short,
                "fields": fields, "duration_s": round(seconds, 3), "complete": complete}


def preprocessing_of(network: nn.Module) -> str | dict[str, list[float]]:
    """Return mean and standard deviation per channel by which a network normalises pixels in 0..1, or "none"."""
    mean, std = getattr(network, "mean", None), getattr(network, "std", None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor) or (not mean.any() and bool((std == 1).all())):
        return "none"
    # Seven digits, the precision of float32: 0.3, not 0.30000001.
    return {name: [round(value, 7) for value in numbers.tolist()] for name, numbers in (("mean", mean), ("std", std))}

"""Evaluation of one network under several attacks, with one outcome (correct or wrong) per attack and image.

The images are divided into fixed blocks, and an interrupted evaluation resumes with the next block. The random numbers of a
block depend only on the seed, the attack and the block number, so an interruption does not change any outcome.

Predictions on the unattacked images come first. An image that the network misclassifies without an attack counts as wrong
under every attack. A suite such as AutoAttack runs part by part, and each part attacks only the images on which all earlier
parts failed.
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

# The values are ordered so that the worst of several outcomes is their minimum.
UNKNOWN, WRONG, CORRECT = -1, 0, 1


@dataclass(frozen=True)
class Stage:
    """A step of an evaluation: prediction without an attack, one attack, or one part of a suite such as AutoAttack.

    Attributes:
        name: "natural" for prediction without an attack, the attack's name such as "fgsm", or "autoattack/apgd-ce" for a part of
            a suite.
        attack: declaration of the attack; None for prediction without an attack.
        suite: name of the suite to which the stage belongs; None if it belongs to none.
        before: name of the earlier stage whose correctly classified images this stage attacks; None for prediction without an
            attack, which covers every image.
        positions: int64 [n], ascending positions of the images that the stage covers, counted among the evaluated images.
    """

    name: str
    attack: Attack | None
    suite: str | None
    before: str | None
    positions: Tensor


class Evaluation:
    """An evaluation of one network under the attacks of a configuration, run one block of images at a time.

    Example:
        evaluation = Evaluation(config, network, x, y, classes=10, indices=splits.test, checkpoint=hash)
        for stage, block in evaluation.remaining():
            evaluation.run_block(stage, block, poll=poll)
        evaluation.rows()
    """

    def __init__(self, config: AttackConfig, network: nn.Module, x: Tensor | Images, y: Tensor, *, classes: int,
                 indices: Iterable[int], checkpoint: str = "", chosen: str = "best") -> None:
        """Prepare the stages of the evaluation without running any.

        Args:
            config: attacks to run, with radius, step size, block size and seed.
            network: network that maps pixels in 0..1 to logits. Any normalisation happens inside the network, with its buffers
                `mean` and `std`, which the fingerprint records.
            x: images, float32 [N, C, H, W], pixels in 0..1, on the network's device.
            y: labels, int64 [N], on the network's device.
            classes: number of classes of the dataset.
            indices: positions of the N images in the dataset. The fingerprint records a hash of them, and `outcomes` lists them.
            checkpoint: hash of the network's weights, recorded in the results.
            chosen: which checkpoint of the retraining is attacked, "best" or "last"; recorded in the results.

        Raises:
            ConfigError: the configuration names an unknown attack, or one that needs more classes than the dataset has.
        """
        self.config, self.network, self.x, self.y, self.classes = config, network, x, y, classes
        self.indices = [int(index) for index in indices]
        self.checkpoint, self.chosen, self.preprocessing = checkpoint, chosen, preprocessing_of(network)
        self.stages = self._stages()
        self._outcomes = {name: torch.full((len(y),), UNKNOWN, dtype=torch.int8) for name in self.stages}
        self._done = {name: torch.zeros(len(self._blocks(name)), dtype=torch.int8) for name in self.stages}
        self._seconds = dict.fromkeys(self.stages, 0.0)

    def remaining(self) -> list[tuple[str, int]]:
        """Return the pairs (stage name, block number) that have not run yet, in the order in which they must run."""
        return [(name, block) for name in self.stages for block, done in enumerate(self._done[name].tolist()) if not done]

    @property
    def progress(self) -> tuple[int, int]:
        """The number of finished blocks and the number of all blocks."""
        done = sum(int(flags.sum()) for flags in self._done.values())
        return done, sum(len(flags) for flags in self._done.values())

    def expected_passes(self, stage: str) -> int:
        """Return the largest number of forward passes that one block of this stage can take.

        It is the number of passes when the attack succeeds on no image, plus one pass for the prediction.
        """
        attack = self.stages[stage].attack
        return 1 if attack is None else attack.passes(self.classes).forward + 1

    def run_block(self, stage: str, block: int, poll: Callable[[], None] = lambda: None,
                  on_pass: Callable[[int], None] = lambda passes: None) -> None:
        """Run one block of images and record its outcomes. If `poll` raises, nothing is recorded and the block can run again.

        Args:
            stage, block: a pair from `remaining()`. Earlier stages must already have covered the images of the block.
            poll: function called before each forward pass; it may raise StopRequested to interrupt the block.
            on_pass: function called after each forward pass with the number of passes so far in this block.
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
        """Return one dict per result that covers at least one image: the fields of its `attack` event.

        The natural accuracy (without an attack) comes first, then the attacks, each suite before its parts. The last row is the
        worst case over all attacks, on the images that every attack covered.
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
        """Return a table of all outcomes so far as a dict of columns, with one entry per attack and image that it covered.

        The columns are "image" (the image's position in the dataset), "label", "attack" and "correct".
        """
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
        """Return everything needed to resume the evaluation. `torch.load` can read it with weights_only=True."""
        return {"setup": self._setup(), "outcomes": {name: value.clone() for name, value in self._outcomes.items()},
                "done": {name: value.clone() for name, value in self._done.items()}, "seconds": dict(self._seconds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the outcomes saved with `state_dict`.

        Raises:
            CheckpointError: the state was saved for another network, other images, attacks or settings, or another block size.
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
        """Run a stage on the images at `standing`, and return bool [len(standing)] on the CPU: True for each correct image."""
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
        """Return, for each suite such as AutoAttack, the names of its stages in the order in which they run."""
        suites: dict[str, list[str]] = {}
        for name, stage in self.stages.items():
            if stage.suite:
                suites.setdefault(stage.suite, []).append(name)
        return suites

    def _setup(self) -> str:
        """Return a hash of everything on which the outcomes depend: network, images, attacks, settings and block size."""
        fields = self._fields(None, torch.arange(len(self.y)))
        fields |= {"network": self.checkpoint, "seed": self.config.seed, "blocks": self.config.batch_size, "stages": {
            name: [self._attack_fields(stage.attack), images_hash(stage.positions)] for name, stage in self.stages.items()}}
        return fingerprint(fields)[0]

    def _attack_fields(self, attack: Attack | None) -> dict[str, Any]:
        return attack_fields(attack, epsilon=self.config.epsilon, step_size=self.config.step_size, classes=self.classes)

    def _fields(self, attack: Attack | None, positions: Tensor) -> dict[str, Any]:
        """Return the fingerprint's fields for the result of an attack (None: without an attack) on the images at `positions`."""
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
            # A part attacks only the images on which the earlier parts failed, so its result is the result of the suite so far.
            fields["after"] = list(self._suites()[stage.suite][: self._suites()[stage.suite].index(name)])
            row |= {"part_of": stage.suite, "fingerprint": fingerprint(fields)[0], "fields": fields}
        return row

    def _suite_row(self, suite: str) -> dict[str, Any]:
        parts = self._suites()[suite]
        fields = self._fields(ATTACKS[suite], self.stages[parts[0]].positions)
        return self._row(suite, ATTACKS[suite].title, fields, self._outcomes[parts[-1]],
                         sum(self._seconds[part] for part in parts), all(bool(self._done[part].all()) for part in parts))

    def _worst_row(self) -> dict[str, Any]:
        """Return the result row for the worst case over all attacks, on the images that every attack covered.

        An image counts as correct there only if it is correct under every attack.
        """
        stacked = torch.stack([self._outcomes[name] for name in self.stages])
        worst = stacked.min(0).values  # UNKNOWN is below WRONG, so an image with a missing outcome is unknown.
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
    """Return the mean and standard deviation per channel with which a network normalises pixels in 0..1.

    Return "none" if the network does not normalise them.
    """
    mean, std = getattr(network, "mean", None), getattr(network, "std", None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor) or (not mean.any() and bool((std == 1).all())):
        return "none"
    # Seven digits, the precision of float32: 0.3, not 0.30000001.
    return {name: [round(value, 7) for value in numbers.tolist()] for name, numbers in (("mean", mean), ("std", std))}

"""Attacks as the page and the command line know them: facts without torch. `methods.py` holds the code behind the names.

`ATTACKS` knows the standard names and, beyond them, PGD of any length: `ATTACKS["pgd-100"]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.registry import Registry, unknown_name

LIBRARY = "torchattacks"


@dataclass(frozen=True)
class Attack:
    """What is known about an attack without running it. All are L-infinity and untargeted unless `targets` says.

    Attributes:
        name: registry name.
        title: name in print.
        summary: one sentence.
        source: paper.
        steps: iterations (queries for a black-box attack); 0 for a suite.
        restarts: random restarts.
        targets: most likely wrong classes aimed at in turn; 0 for an untargeted attack. Fewer when there are fewer.
        random_start: whether it begins at a random point of the ball.
        uses_step_size: whether the setting `step_size` applies.
        min_classes: fewest classes its loss is defined for.
        parts: the attacks it is a cascade of.
        norm: of the ball, as torchattacks names it.
    """

    name: str
    title: str
    summary: str
    source: str
    steps: int
    restarts: int = 1
    targets: int = 0
    random_start: bool = False
    uses_step_size: bool = False
    min_classes: int = 2
    parts: tuple[Attack, ...] = ()
    norm: str = "Linf"


class AttackRegistry(Registry[Attack]):
    """A registry that also understands "pgd-n" for any n from 1 to 100,000."""

    def __getitem__(self, name: str) -> Attack:
        steps = _pgd_steps(name)
        if name not in self:
            raise ConfigError(unknown_name(self.noun, name, [*self, "pgd-N (of N steps)"]))
        return _pgd(steps) if steps and not super().__contains__(name) else super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or _pgd_steps(name) is not None


def _pgd(steps: int) -> Attack:
    """PGD of `steps` iterations from a uniformly random point of the ball, one restart."""
    return Attack(
        name=f"pgd-{steps}", title=f"PGD-{steps}",
        summary=f"{steps} signed gradient steps on the cross-entropy from a random start, projected onto the ball.",
        source="Madry et al. 2018, arXiv 1706.06083", steps=steps, random_start=True, uses_step_size=True)


def _pgd_steps(name: object) -> int | None:
    match = re.fullmatch(r"pgd-([1-9][0-9]{0,4}|100000)", name) if isinstance(name, str) else None
    return int(match[1]) if match else None


ATTACKS: AttackRegistry = AttackRegistry("attack")

ATTACKS.add("fgsm", Attack(
    name="fgsm", title="FGSM", summary="One signed gradient step of the full radius.",
    source="Goodfellow et al. 2015, arXiv 1412.6572", steps=1))
ATTACKS.add("pgd-20", _pgd(20))
ATTACKS.add("apgd-ce", Attack(
    name="apgd-ce", title="APGD-CE", summary="PGD on the cross-entropy with a step size that adapts by itself.",
    source="Croce and Hein 2020, arXiv 2003.01690", steps=100, random_start=True))
ATTACKS.add("apgd-t", Attack(
    name="apgd-t", title="APGD-T", summary="APGD on the targeted difference-of-logits-ratio loss, one target after another.",
    source="Croce and Hein 2020, arXiv 2003.01690", steps=100, targets=9, random_start=True, min_classes=4))
ATTACKS.add("fab-t", Attack(
    name="fab-t", title="FAB-T", summary="Walks along the decision boundary towards the nearest point of each target class.",
    source="Croce and Hein 2020, arXiv 1907.02044", steps=100, targets=9))
ATTACKS.add("square", Attack(
    name="square", title="Square", summary="Random search with squares; needs no gradient, at most 5,000 queries.",
    source="Andriushchenko et al. 2020, arXiv 1912.00049", steps=5000, random_start=True))
ATTACKS.add("autoattack", Attack(
    name="autoattack", title="AutoAttack",
    summary="AutoAttack standard: APGD-CE, APGD-T, FAB-T and Square; an image counts as correct only if it survives all.",
    source="Croce and Hein 2020, arXiv 2003.01690", steps=0, min_classes=4,
    parts=tuple(ATTACKS[part] for part in ("apgd-ce", "apgd-t", "fab-t", "square"))))

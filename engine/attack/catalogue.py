"""All attacks by name, in the order in which lists and tables show them. This module does not import torch.

To add an attack, declare one `Attack`, in this file or in a new file of this package, and append it to the list at the end of
this file. Write its builder in `builders.py`, or in the new file; there, import torch inside the builder function only.
Pages, tables, charts and the run log take everything else from the declaration.

`ATTACKS` also accepts the name of a PGD attack with any number of steps, for example `ATTACKS["pgd-50"]`.
"""

from __future__ import annotations

import re

from engine.attack.declaration import Attack, Passes
from engine.errors import ConfigError
from engine.registry import Registry, unknown_name

# Names of two results that belong to no single attack. NATURAL is the result on unattacked images. WORST counts an image as
# correct only if it is correct under every attack.
NATURAL = "natural"
WORST = "worst-case"

BUILDERS = "engine.attack.builders"


class AttackRegistry(Registry[Attack]):
    """A registry of attacks that also contains "pgd-N" (PGD with N steps) for every N from 1 to 100,000.

    Iterating over the registry yields only the attacks added to it by name.
    """

    def __getitem__(self, name: str) -> Attack:
        if name in self._entries:
            return self._entries[name]
        if (steps := _pgd_steps(name)) is None:
            raise ConfigError(unknown_name(self.noun, name, [*self, "pgd-N (of N steps)"]))
        return pgd(steps)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or _pgd_steps(name) is not None


def pgd(steps: int) -> Attack:
    """Declare PGD with `steps` iterations, run once from a uniformly random point of the epsilon ball."""
    return Attack(
        name=f"pgd-{steps}", title=f"PGD-{steps}",
        summary=f"{steps} signed gradient steps on the cross-entropy from a random start, projected onto the ball.",
        source="Madry et al. 2018, arXiv 1706.06083", builder=f"{BUILDERS}:pgd", steps=steps, random_start=True,
        uses_step_size=True)


def _pgd_steps(name: object) -> int | None:
    match = re.fullmatch(r"pgd-([1-9][0-9]{0,4}|100000)", name) if isinstance(name, str) else None
    return int(match[1]) if match else None


FGSM = Attack(
    name="fgsm", title="FGSM", summary="One signed gradient step of length epsilon.",
    source="Goodfellow et al. 2015, arXiv 1412.6572", builder=f"{BUILDERS}:fgsm", steps=1)

APGD_CE = Attack(
    name="apgd-ce", title="APGD-CE", summary="PGD on the cross-entropy with a step size that adapts by itself.",
    source="Croce and Hein 2020, arXiv 2003.01690", builder=f"{BUILDERS}:apgd_ce", steps=100, random_start=True,
    cost=lambda steps, targets: Passes(steps + 2, steps + 1))

APGD_T = Attack(
    name="apgd-t", title="APGD-T", summary="APGD on the targeted difference-of-logits-ratio loss, one target after another.",
    source="Croce and Hein 2020, arXiv 2003.01690", builder=f"{BUILDERS}:apgd_t", steps=100, targets=9, random_start=True,
    min_classes=4, cost=lambda steps, targets: Passes(targets * (steps + 2) + 1, targets * (steps + 1)))

FAB_T = Attack(
    name="fab-t", title="FAB-T", summary="Walks along the decision boundary towards the nearest point of each target class.",
    source="Croce and Hein 2020, arXiv 1907.02044", builder=f"{BUILDERS}:fab_t", steps=100, targets=9,
    cost=lambda steps, targets: Passes(targets * (2 * steps + 3) + 1, targets * steps))

SQUARE = Attack(
    name="square", title="Square", summary="Random search with squares; needs no gradient, at most 5,000 queries.",
    source="Andriushchenko et al. 2020, arXiv 1912.00049", builder=f"{BUILDERS}:square", steps=5000, random_start=True,
    cost=lambda steps, targets: Passes(steps + 3, 0),
    # torchattacks can also rescale the schedule of square sizes to the number of queries. That would be a different attack.
    variant={"schedule": "published, not rescaled"})

AUTOATTACK = Attack(
    name="autoattack", title="AutoAttack",
    summary="An image counts as correct only if it survives APGD-CE, APGD-T, FAB-T and Square at their published settings.",
    source="Croce and Hein 2020, arXiv 2003.01690", min_classes=4, parts=(APGD_CE, APGD_T, FAB_T, SQUARE))

ATTACKS: AttackRegistry = AttackRegistry("attack")

for _attack in (FGSM, pgd(20), pgd(100), APGD_CE, APGD_T, FAB_T, SQUARE, AUTOATTACK):
    ATTACKS.add(_attack.name, _attack)

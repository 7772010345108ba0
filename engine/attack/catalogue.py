"""All attacks, keyed by name, in the order in which lists and tables show them. This module does not import torch.

To add an attack, declare one `Attack`, in this file or in a new file of this package, and append it to the list at the end of
this file. Write the builder (the function that builds the attack) in `builders.py` or in the new file. In a new file, import
torch only inside the builder. Pages, tables, charts and the run log take everything else from the declaration.

`ATTACKS` also accepts names that end with a number of steps or the hash of a network, for example `ATTACKS["pgd-50"]`. `FAMILIES`
lists the patterns of these names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from engine.attack.declaration import L2, Attack, Passes
from engine.errors import ConfigError
from engine.registry import Registry, unknown_name

# Names of two results that belong to no single attack. NATURAL is the result on unattacked images. WORST counts an image as
# correct only if it is correct under every attack.
NATURAL = "natural"
WORST = "worst-case"

BUILDERS = "engine.attack.builders"
TORCHATTACKS = "torchattacks"


class AttackRegistry(Registry[Attack]):
    """A registry of attacks that also contains the attacks described by `FAMILIES`, for example PGD with any number of steps.

    Iteration yields only the attacks that were added to the registry.
    """

    def __getitem__(self, name: str) -> Attack:
        if name in self._entries:
            return self._entries[name]
        if (attack := _of_family(name)) is None:
            raise ConfigError(unknown_name(self.noun, name, [*self, "pgd-N (of N steps)", "pgd-margin-N"]))
        return attack

    def __contains__(self, name: object) -> bool:
        return name in self._entries or _of_family(name) is not None


def pgd(steps: int) -> Attack:
    """Declare PGD with `steps` iterations and a single run, which starts at a uniformly random point of the ball."""
    return Attack(
        name=f"pgd-{steps}", title=f"PGD-{steps}",
        summary=f"{plural(steps, 'gradient step')} on the cross-entropy from a random start, projected onto the ball.",
        source="Madry et al. 2018, arXiv 1706.06083", builder=f"{BUILDERS}:pgd", steps=steps, random_start=True,
        uses_step_size=True, library=TORCHATTACKS, own_in=(L2,))


def pgd_margin(steps: int) -> Attack:
    """Declare PGD with `steps` iterations. The loss is the largest wrong logit minus the logit of the label."""
    return Attack(
        name=f"pgd-margin-{steps}", title=f"PGD-{steps} (margin)",
        summary=f"{plural(steps, 'gradient step')} on the margin between the logit of the label and the largest other, from a "
        "random start.", source="Madry et al. 2018, arXiv 1706.06083; loss: Carlini and Wagner 2017, arXiv 1608.04644",
        builder=f"{BUILDERS}:pgd_margin", steps=steps, random_start=True, uses_step_size=True, variant={"loss": "margin"})


def plural(number: int, noun: str) -> str:
    """Return the number and the noun, in the plural if needed, for example "1 gradient step" or "20 gradient steps"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _of_family(name: object) -> Attack | None:
    """Return the attack with this name if the name matches a pattern in `FAMILIES`, such as pgd-N, otherwise None."""
    matches = ((re.fullmatch(pattern, name), declare) for pattern, declare in FAMILIES.items()) if isinstance(name, str) else ()
    return next((declare(match[1]) for match, declare in matches if match), None)


FGSM = Attack(
    name="fgsm", title="FGSM", summary="One gradient step of length epsilon: along the sign in L-infinity, along the normalised "
    "gradient in L2.", source="Goodfellow et al. 2015, arXiv 1412.6572", builder=f"{BUILDERS}:fgsm", steps=1,
    library=TORCHATTACKS, own_in=(L2,))

MI_FGSM = Attack(
    name="mi-fgsm", title="MI-FGSM",
    summary="Ten steps of a tenth of epsilon along accumulated gradients; its images transfer well.",
    source="Dong et al. 2018, arXiv 1710.06081", builder=f"{BUILDERS}:mi_fgsm", steps=10, library=TORCHATTACKS, own_in=(L2,),
    variant={"decay": "1.0"})

APGD_CE = Attack(
    name="apgd-ce", title="APGD-CE", summary="PGD on the cross-entropy with a step size that adapts by itself.",
    source="Croce and Hein 2020, arXiv 2003.01690", builder=f"{BUILDERS}:apgd", steps=100, random_start=True, by_image=True,
    variant={"loss": "ce"}, cost=lambda steps, targets: Passes(steps + 1, steps + 1))

APGD_DLR = Attack(
    name="apgd-dlr", title="APGD-DLR", summary="APGD on the difference-of-logits ratio, which does not depend on their scale.",
    source="Croce and Hein 2020, arXiv 2003.01690", builder=f"{BUILDERS}:apgd", steps=100, random_start=True, by_image=True,
    min_classes=3, variant={"loss": "dlr"}, cost=lambda steps, targets: Passes(steps + 1, steps + 1))

APGD_T = Attack(
    name="apgd-t", title="APGD-T", summary="APGD on the targeted difference-of-logits ratio, one target after another.",
    source="Croce and Hein 2020, arXiv 2003.01690", builder=f"{BUILDERS}:apgd", steps=100, targets=9, random_start=True,
    by_image=True, min_classes=4, variant={"loss": "dlr-targeted"},
    cost=lambda steps, targets: Passes(targets * (steps + 1), targets * (steps + 1)))

FAB_T = Attack(
    name="fab-t", title="FAB-T", summary="Walks along the decision boundary towards the nearest point of each target class.",
    source="Croce and Hein 2020, arXiv 1907.02044", builder=f"{BUILDERS}:fab_t", steps=100, targets=9, by_image=True,
    cost=lambda steps, targets: Passes(targets * (2 * steps + 1), targets * (2 * steps + 1)))

SQUARE = Attack(
    name="square", title="Square", summary="Random search with squares; needs no gradient, at most 5,000 queries.",
    source="Andriushchenko et al. 2020, arXiv 1912.00049", builder=f"{BUILDERS}:square", steps=5000, random_start=True,
    by_image=True, cost=lambda steps, targets: Passes(steps + 1, 0),
    # Some libraries stretch the schedule of the squares' size over the queries, which makes it another attack.
    variant={"schedule": "published, not rescaled", "corners": "every place, as in the paper"})

CARLINI_WAGNER = Attack(
    name="cw", title="C&W", summary="Searches for the nearest adversarial image: Adam on distance plus c times the margin, with "
    "a binary search over c for each image.", source="Carlini and Wagner 2017, arXiv 1608.04644",
    builder=f"{BUILDERS}:carlini_wagner", steps=200, norms=(L2,), by_image=True, nearest=True,
    variant={"search_steps": "9", "learning_rate": "0.05", "first_c": "0.01"},
    cost=lambda steps, targets: Passes(9 * steps, 9 * steps))

FMN = Attack(
    name="fmn", title="FMN", summary="Searches for the nearest adversarial image with a radius that adapts, towards the three "
    "most likely classes.", source="Pintor et al. 2021, arXiv 2102.12827", builder=f"{BUILDERS}:fmn", steps=100, targets=3,
    by_image=True, nearest=True, cost=lambda steps, targets: Passes(targets * steps, targets * steps))

AUTOATTACK = Attack(
    name="autoattack", title="AutoAttack",
    summary="The standard cascade: APGD-CE, APGD-T, FAB-T and Square at their published settings. An image counts as correct "
    "only if it survives all four.", source="Croce and Hein 2020, arXiv 2003.01690", min_classes=4,
    parts=(APGD_CE, APGD_T, FAB_T, SQUARE))


def fmn(steps: int) -> Attack:
    """Declare FMN with `steps` iterations towards each of the two most likely wrong classes. Sweeps use this attack."""
    return replace(FMN, name=f"fmn-{steps}", title=f"FMN-{steps}", steps=steps, targets=2)


def apgd_ce(steps: int) -> Attack:
    """Declare APGD-CE with `steps` iterations. AutoAttack takes 100."""
    return replace(APGD_CE, name=f"apgd-ce-{steps}", title=f"APGD-CE-{steps}", steps=steps)


def transfer(source: str, maker: str = MI_FGSM.name) -> Attack:
    """Declare a transfer attack, whose adversarial images are made on another network.

    Args:
        source: hash of the other network's weights, 12 hex characters.
        maker: name of the attack that makes the images, "mi-fgsm" or "apgd-ce".
    """
    made = {MI_FGSM.name: MI_FGSM, APGD_CE.name: APGD_CE}[maker]
    label = "" if made is MI_FGSM else f"{made.name}-"
    return replace(
        made, name=f"transfer-{label}{source}", title=f"Transfer from {source[:6]}" + (f" by {made.title}" if label else ""),
        summary=f"Images that {made.title} made on the network {source}; sees nothing of the attacked network.",
        builder="engine.attack.transfer:transfer", by_image=False, variant={**made.variant, "source": source, "maker": maker})


# {pattern of names that end with a number of steps or with the hash of a network: function that declares such an attack}
FAMILIES: dict[str, Callable[[str], Attack]] = {
    r"pgd-([1-9][0-9]{0,4}|100000)": lambda steps: pgd(int(steps)),
    r"pgd-margin-([1-9][0-9]{0,4}|100000)": lambda steps: pgd_margin(int(steps)),
    r"fmn-([1-9][0-9]{0,4})": lambda steps: fmn(int(steps)),
    r"apgd-ce-([1-9][0-9]{0,4})": lambda steps: apgd_ce(int(steps)),
    r"transfer-([0-9a-f]{12})": transfer,
    r"transfer-apgd-ce-([0-9a-f]{12})": lambda source: transfer(source, APGD_CE.name),
}

ATTACKS: AttackRegistry = AttackRegistry("attack")

for _attack in (FGSM, pgd(20), pgd(100), pgd_margin(20), MI_FGSM, APGD_CE, APGD_DLR, APGD_T, FAB_T, SQUARE, CARLINI_WAGNER, FMN,
                AUTOATTACK):
    ATTACKS.add(_attack.name, _attack)

"""The protocol of an evaluation: everything that determines the accuracies under attack, except the network.

Networks that are attacked under equal protocols share a table. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.attack.catalogue import ATTACKS, transfer
from engine.attack.declaration import LINF, Attack, AttackSettings
from engine.attack.fingerprint import attack_fields, fingerprint, images_hash
from engine.config import AttackConfig, pixels_text

MODE = "eval, float32"  # BatchNorm uses running statistics; images and weights are float32
NORM_TITLES = {LINF: "L∞", "L2": "L2"}


@dataclass(frozen=True)
class Protocol:
    """The conditions of an evaluation.

    Attributes:
        dataset: registry name.
        images: dataset indices of the attacked test images, in order.
        settings: norm, epsilon, step size, classes and seed of the attacks.
        attacks: names of the attacks, in order.
        subset: dataset indices of the images for suites (attacks made of several attacks, such as AutoAttack); equal to `images`
            unless the configuration limits them.
        block_images: images per block. It matters only for attacks that draw the random numbers of a whole block at once.
        worst_case_only: True if only the accuracy under all attacks together is measured, not the accuracy under each attack.
    """

    dataset: str
    images: Sequence[int]
    settings: AttackSettings
    attacks: Sequence[str]
    subset: Sequence[int]
    block_images: int
    worst_case_only: bool = False

    @classmethod
    def of(cls, config: AttackConfig, *, classes: int, images: Sequence[int], subset: Sequence[int],
           sources: Mapping[str, Any] | None = None) -> Protocol:
        """Return the protocol of a configuration.

        Args:
            config: the configuration.
            classes: number of classes of the dataset.
            images: dataset indices of the test images.
            subset: dataset indices of the images that suites attack.
            sources: {hash of the weights: network} for the networks on which transfer attacks make adversarial images. Each
                network adds one transfer attack after the attacks of the configuration, in the order of the hashes.
        """
        sources = sources or {}
        transfers = [transfer(source, config.transfer_attack).name for source in sorted(sources)]
        return cls(config.dataset, images, replace(settings_of(config, classes), sources=sources),
                   (*config.attacks, *transfers), subset, config.batch_size, config.worst_case_only)

    def images_of(self, attack: Attack) -> Sequence[int]:
        """Return the dataset indices of the images that an attack covers."""
        return self.subset if attack.parts else self.images

    def fields(self) -> dict[str, Any]:
        """Return the protocol as {name: plain value for JSON}. The hash of the protocol covers all these fields."""
        attacks = [self.part(ATTACKS[name]) for name in self.attacks]
        shared = {"dataset": self.dataset, "norm": self.settings.norm, "epsilon": self.settings.epsilon,
                  "images": len(self.images), "images_hash": images_hash(self.images), "seed": self.settings.seed,
                  "mode": MODE, "attacks": attacks}
        return shared | ({"worst_case_only": True} if self.worst_case_only else {})

    def part(self, attack: Attack) -> dict[str, Any]:
        """Return the conditions that determine the result of one attack, as {name: value}."""
        images = self.images_of(attack)
        block = {"block_images": self.block_images} if attack.draws_by_block else {}
        return attack_fields(attack, self.settings) | {"images": len(images), "images_hash": images_hash(images)} | block

    @property
    def hash(self) -> str:
        """The hash of the protocol, 12 hex characters. Results with equal hashes are in the same robustness table."""
        return fingerprint(self.fields())

    @property
    def title(self) -> str:
        """The protocol in one line, for example "L∞ 8/255, 10,000 images: FGSM, PGD-20, AutoAttack"."""
        return title_of(self.fields())


def settings_of(config: AttackConfig, classes: int) -> AttackSettings:
    """Return the settings with which an attack run calls every attack.

    Args:
        config: configuration of the attack run. Its norm determines which of its radii and step sizes are used.
        classes: number of classes of the dataset.
    """
    return AttackSettings(config.radius, config.step, classes, config.seed, config.norm)


def worst_case_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a protocol that determine a network's accuracy in the worst case (under all attacks).

    These are all fields except `worst_case_only` and `block_images`.
    """
    attacks = [{name: value for name, value in part.items() if name != "block_images"} for part in fields.get("attacks", ())]
    return {name: value for name, value in fields.items() if name != "worst_case_only"} | {"attacks": attacks}


def title_of(fields: Mapping[str, Any]) -> str:
    """Return the title of a protocol. `fields` are the protocol's fields in the run log."""
    names = [ATTACKS[part["attack"]].title for part in fields["attacks"] if part["attack"] in ATTACKS]
    what = f"worst case of {', '.join(names)}" if fields.get("worst_case_only") else ", ".join(names)
    return f"{ball_text(fields['norm'], fields['epsilon'])}, {fields['images']:,} images: {what or 'no attack'}"


def ball_text(norm: str, epsilon: float) -> str:
    """Return a norm and a radius as text, for example "L∞ 8/255"."""
    return f"{NORM_TITLES.get(norm, norm)} {pixels_text(epsilon) if norm == LINF else f'{epsilon:g}'}"


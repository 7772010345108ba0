"""A toy attack: FGSM by another name. Imports no torch until it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.attack.declaration import Attack, AttackSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(network: nn.Module, attack: Attack, settings: AttackSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the attack."""
    from torch import autograd
    from torch.nn import functional as F

    def attack_images(x: Tensor, y: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (gradient,) = autograd.grad(F.cross_entropy(network(x), y), x)
        return (x + settings.epsilon * gradient.sign()).clamp(0, 1)

    return attack_images


TOY = Attack(name="toy", title="Toy attack", summary="One signed gradient step of length epsilon.", source="A test",
             builder="engine.attack.toy:build", steps=1, library="")

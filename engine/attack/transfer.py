"""Transfer attacks: adversarial images made on another network (Papernot et al. 2016, arXiv 1605.07277).

The attack sees neither gradients nor logits of the attacked network. If it breaks images that white-box attacks do not break, the
white-box attacks have a problem, such as masked gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.attack.apgd import APGD
from engine.attack.ball import Ball
from engine.attack.catalogue import APGD_CE, ATTACKS
from engine.attack.declaration import Attack, AttackSettings
from engine.attack.guard import Watched, attacked, under_attack
from engine.attack.methods import run_attack
from engine.errors import ConfigError
from engine.graphs import Graphs


def transfer(network: nn.Module, attack: Attack, settings: AttackSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """Build a transfer attack. The attacked network is never evaluated. Only its `poll` is called, so that the attack can stop.

    Raises:
        ConfigError: `settings.sources` has no network with the hash that the attack names.
    """
    source = settings.sources.get(attack.variant["source"])
    if source is None:
        raise ConfigError(f"{attack.title} needs the network with the hash {attack.variant['source']}, got "
                          f"{', '.join(settings.sources) or 'no network'}; name its retraining in transfer_from.")
    maker = ATTACKS[attack.variant["maker"]]
    largest = 0

    def poll() -> None:
        if isinstance(network, Watched):
            network.poll()

    def make(x: Tensor, y: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, len(x))  # only the last batch is smaller
        if maker is APGD_CE:
            walk = APGD(Ball(settings.norm, settings.epsilon), maker.steps, "ce")
            return highest_loss(walk, source, x, y, poll, settings.graphs, largest)
        return run_attack(maker, source, x, y, settings, poll=poll, graphs=settings.graphs, batch=largest)

    return make


def highest_loss(walk: APGD, network: nn.Module, x: Tensor, y: Tensor, poll: Callable[[], None] = lambda: None,
                 graphs: Graphs | None = None, batch: int | None = None) -> Tensor:
    """Run all iterations of APGD on every image, and return the points of highest loss.

    The run continues after an image has been misclassified. Otherwise, the result would be close to the decision boundary and
    would rarely transfer to another network.

    Args:
        walk: the attack.
        network: network on which the adversarial images are made.
        x: natural images [B, C, H, W].
        y: labels, int64 [B].
        poll: function called before each forward pass; it may raise StopRequested.
        graphs, batch: recorder of the network's passes, and the number of images of every recorded pass
            (`engine.attack.guard.attacked`).
    """
    seeds = torch.randint(2**63 - 1, (len(x),)).tolist()
    state = walk.begin(x, y, torch.full_like(y, -1), seeds) | {"x": x, "y": y, "target": torch.full_like(y, -1)}
    with under_attack(network):
        watched = Watched(network, poll, logits=attacked(network, graphs=graphs, batch=batch))
        over = False
        while not over:
            point = state["point"].detach().requires_grad_()
            with torch.enable_grad():
                logits = watched(point)
                loss = walk.loss(logits, state)
                (gradient,) = torch.autograd.grad(loss.sum(), point)
            over = bool(walk.advance(state, logits.detach(), loss.detach(), gradient).all())
    return state["peak"]

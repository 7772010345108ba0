"""The attacks used inside training, and the training losses.

PGD as in adversarial training (Madry et al. 2018, arXiv 1706.06083) and TRADES (Zhang et al. 2019, arXiv 1901.08573): in
evaluation mode, so BatchNorm learns nothing from it. One step from a random start as in Fast-AT (Wong, Rice and Kolter 2020,
arXiv 2001.03994): in training mode, as published. Parameters are frozen in both: only input gradients are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.guard import attacked, under_attack
from engine.attack.pgd import pgd, project
from engine.train.precision import Precision, computed_in

Objective = Callable[[Tensor], Tensor]


def training_images(network: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, step_size: float, steps: int,
        generator: torch.Generator, start: Literal["normal", "uniform", "none"] = "normal", start_noise: float = 0.001,
        objective: Objective | None = None, precision: Precision = "float32",
        poll: Callable[[], None] = lambda: None) -> Tensor:
    """Adversarial images of a network that is being trained, by `engine.attack.pgd`.

    Args:
        network: x -> logits [B, classes]; left exactly as found.
        x: [B, C, H, W], pixels in 0..1.
        y: int64 [B] labels.
        epsilon: L-infinity radius, pixel space.
        step_size: pixel space.
        steps: each is one forward and one backward pass.
        generator: draws the start.
        start: normal: x + start_noise * N(0, 1), the published training; uniform: anywhere in the ball, as in evaluation.
        start_noise: standard deviation, pixel space.
        objective: logits -> the scalar to raise; default cross-entropy with y.
        precision: of the network's passes; the images are of the precision they come in.
        poll: called before each forward pass; may raise StopRequested.

    Returns:
        [B, C, H, W] in the ball and in 0..1, without gradient.
    """
    with under_attack(network):
        return _images(computed_in(precision, attacked(network)), x, objective or (lambda logits: F.cross_entropy(logits, y)),
                       generator, poll, epsilon=epsilon, step_size=step_size, steps=steps, start=start, start_noise=start_noise)


def fast_images(network: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, step_size: float, generator: torch.Generator,
                precision: Precision = "float32", poll: Callable[[], None] = lambda: None) -> Tensor:
    """The images Fast-AT trains on: one step that raises cross-entropy, from a uniform start in the ball (one pass).

    The network is attacked in the mode it is in. In training mode, as published, BatchNorm normalises with the statistics of
    the start images and takes them into its running ones. The start is clipped to 0..1 and so is the result.

    Args and returns as `training_images`; step_size: pixel space, 1.25 epsilon as published.
    """
    with _frozen(network):
        return _images(computed_in(precision, network), x, lambda logits: F.cross_entropy(logits, y), generator, poll,
                       epsilon=epsilon, step_size=step_size, steps=1, start="uniform")


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradients of parameters inside; modes stay."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _images(logits_of: Callable[[Tensor], Tensor], x: Tensor, objective: Objective, generator: torch.Generator,
            poll: Callable[[], None], *, epsilon: float, step_size: float, steps: int,
            start: Literal["normal", "uniform", "none"] = "normal", start_noise: float = 0.001) -> Tensor:
    """`training_images` of a function that is ready to be attacked."""
    x = x.detach()
    begin = x
    if start == "normal":
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
        begin = x + start_noise * noise
    elif start == "uniform":
        noise = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
        begin = project(x + epsilon * (2 * noise - 1), x, epsilon)

    def gradient(images: Tensor) -> Tensor:
        poll()
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(objective(logits_of(images)), images)[0]

    return pgd(gradient, x, begin, epsilon=epsilon, step_size=step_size, steps=steps, clip=True)


def divergence(logits: Tensor, logits_adv: Tensor) -> Tensor:
    """KL(p(x) || p(x_adv)), averaged over the batch: the second term of TRADES. Shapes [B, classes], result scalar."""
    return F.kl_div(F.log_softmax(logits_adv, 1), F.log_softmax(logits, 1), reduction="batchmean", log_target=True)


def trades_images(network: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, precision: Precision = "float32",
                  poll: Callable[[], None] = lambda: None, **attack: object) -> Tensor:
    """The images TRADES trains on: PGD that raises `divergence` from the clean prediction (steps + 1 passes).

    Args and returns as `training_images`; `attack` holds its keyword arguments but `objective`.
    """
    poll()
    with under_attack(network):
        logits_of = computed_in(precision, attacked(network))
        with torch.no_grad():
            clean = logits_of(x)
        return _images(logits_of, x, lambda logits: divergence(clean, logits), generator, poll, **attack)  # type: ignore[arg-type]


def trades_loss(logits: Tensor, logits_adv: Tensor, y: Tensor, beta: float) -> Tensor:
    """CE(x, y) + beta KL(p(x) || p(x_adv)). Logits [B, classes] of clean and adversarial images, labels [B]."""
    return F.cross_entropy(logits, y) + beta * divergence(logits, logits_adv)

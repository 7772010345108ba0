"""Training losses, and attacks that create training images.

PGD creates the images of adversarial training (Madry et al. 2018, arXiv 1706.06083) and of TRADES (Zhang et al. 2019, arXiv
1901.08573). It runs the network in evaluation mode, so that BatchNorm's running statistics do not change. The single step of
Fast-AT (Wong, Rice and Kolter 2020, arXiv 2001.03994) runs the network in training mode, as published. Both attacks compute only
input gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.guard import attacked, under_attack
from engine.attack.pgd import pgd, project
from engine.graphs import Graphs
from engine.space.part import Part, whole
from engine.train.precision import Precision, under_autocast

Objective = Callable[[Tensor], Tensor]


def directly(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return function(*inputs)."""
    return function(*inputs)


def training_images(network: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, step_size: float, steps: int,
        generator: torch.Generator, start: Literal["normal", "uniform", "none"] = "normal", start_noise: float = 0.001,
        objective: Objective | None = None, precision: Precision = "float32",
        poll: Callable[[], None] = lambda: None, part: Part | None = None, graphs: Graphs | None = None) -> Tensor:
    """Return adversarial images for a training step, created by PGD.

    Args:
        network: function from x to logits [B, classes]. Its parameters, modes and buffers are left unchanged.
        x: [B, C, H, W], pixels in 0..1.
        y: int64 [B] labels.
        epsilon: L-infinity radius of the ball around x, in pixel space.
        step_size: length of a step, in pixel space.
        steps: number of PGD steps. Each takes one forward and one backward pass.
        generator: source of the random numbers for the start.
        start: "normal" for x + start_noise * N(0, 1), as published for training; "uniform" for a uniform point in the ball, as in
            evaluation; "none" for x itself.
        start_noise: standard deviation of the normal start, in pixel space.
        objective: function from logits to the scalar that PGD maximises; None for cross-entropy with y.
        precision: precision of the network's passes. The images keep the dtype of x.
        poll: function called before each forward pass. It may raise StopRequested.
        part: the part of a batch that x is, for the random numbers of the start; None if x is a whole batch.
        graphs: recorder of the network's passes; None to run them eagerly.

    Returns:
        [B, C, H, W], inside the ball and in 0..1, detached.
    """
    with under_attack(network):
        logits_of = _logits_of(network, precision, graphs)
        gradient = partial(_input_gradient, logits_of, objective or (lambda logits: F.cross_entropy(logits, y)))
        return _images(gradient, x, generator, poll, part, epsilon=epsilon, step_size=step_size, steps=steps, start=start,
                       start_noise=start_noise)


def fast_images(network: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, step_size: float, generator: torch.Generator,
                precision: Precision = "float32", poll: Callable[[], None] = lambda: None, part: Part | None = None,
                run: Callable[..., tuple[Tensor, ...]] = directly) -> Tensor:
    """Return the training images of Fast-AT, made from a uniform start by one gradient step that raises the cross-entropy.

    The attack takes one forward pass in the network's current mode. In training mode, as in the published code, this
    pass updates BatchNorm's running statistics. The start and the result are clipped to 0..1.

    Args:
        network, x, y, epsilon, generator, precision, poll, part: see `training_images`.
        step_size: length of the step, in pixel space; published: 1.25 epsilon.
        run: called with a function from tensors to detached tensors and its arguments; returns the function's result, for example
            computed by a recording (`engine.train.passes`).

    Returns:
        [B, C, H, W], inside the ball and in 0..1, detached.
    """
    # With BatchNorm over all parts, the loss of the whole batch has gradients on the images of every part, so that shares count.
    share = 1.0 if part is None else part.share
    logits_of = under_autocast(precision, network)

    def gradient(images: Tensor, labels: Tensor) -> tuple[Tensor]:
        return (_input_gradient(logits_of, lambda logits: share * F.cross_entropy(logits, labels), images),)

    with _frozen(network):
        return _images(lambda images: run(gradient, images, y)[0], x, generator, poll, part, epsilon=epsilon, step_size=step_size,
                       steps=1, start="uniform")


def _logits_of(network: nn.Module, precision: Precision, graphs: Graphs | None) -> Callable[[Tensor], Tensor]:
    """Return the function from images to logits that an attack on a network in training differentiates.

    Training changes the parameters in place, and a recorded pass reads them anew each time. So the recording includes what
    `attacked` computes from them, such as the kernels into which BatchNorm is folded. Hand-made networks are recorded as well.
    """
    def current() -> Callable[[Tensor], Tensor]:
        return under_autocast(precision, attacked(network, compiled=precision == "float32"))

    if graphs is None or not graphs.record:
        return current()
    return graphs.differentiable((id(network), precision), lambda x: current()(x))


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Turn off the gradients of the network's parameters inside the `with` block, without changing the network's mode."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _input_gradient(logits_of: Callable[[Tensor], Tensor], objective: Objective, images: Tensor) -> Tensor:
    """Return the gradient [B, C, H, W] of the objective of the logits with respect to the images."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(objective(logits_of(images)), images)[0]


def _images(gradient_at: Callable[[Tensor], Tensor], x: Tensor, generator: torch.Generator, poll: Callable[[], None],
            part: Part | None, *, epsilon: float, step_size: float, steps: int,
            start: Literal["normal", "uniform", "none"] = "normal", start_noise: float = 0.001) -> Tensor:
    """Return PGD's adversarial images.

    Args:
        gradient_at: function from images to the gradient of what PGD maximises. It makes one forward pass.
        x, generator, poll, part, epsilon, step_size, steps, start, start_noise: see `training_images`.
    """
    x = x.detach()
    begin, part = x, part or whole(len(x))
    if start != "none":
        numbers = torch.randn if start == "normal" else torch.rand
        draw = partial(numbers, generator=generator, device=generator.device, dtype=x.dtype)
        noise = part.draw(draw, x.shape[1:]).to(x.device)
    if start == "normal":
        begin = x + start_noise * noise
    elif start == "uniform":
        begin = project(x + epsilon * (2 * noise - 1), x, epsilon)

    def gradient(images: Tensor) -> Tensor:
        poll()
        return gradient_at(images)

    return pgd(gradient, x, begin, epsilon=epsilon, step_size=step_size, steps=steps, clip=True)


def divergence(logits: Tensor, logits_adv: Tensor) -> Tensor:
    """Return KL(p(x) || p(x_adv)), the second term of the TRADES loss, as the mean over the batch.

    Args:
        logits: [B, classes], of the clean images x.
        logits_adv: [B, classes], of the adversarial images x_adv.
    """
    return F.kl_div(F.log_softmax(logits_adv, 1), F.log_softmax(logits, 1), reduction="batchmean", log_target=True)


def trades_images(network: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, precision: Precision = "float32",
                  poll: Callable[[], None] = lambda: None, part: Part | None = None, graphs: Graphs | None = None,
                  **attack: object) -> Tensor:
    """Return the training images of TRADES, made by PGD.

    PGD maximises KL(p(x) || p(x_adv)), the divergence between the predictions on x and on the adversarial image. This takes
    `steps` + 1 forward passes.

    Args:
        network, x, generator, precision, poll, part, graphs: see `training_images`.
        y: labels, which this attack does not use.
        attack: the arguments epsilon, step_size, steps, start and start_noise of `training_images`.

    Returns:
        [B, C, H, W], inside the ball and in 0..1, detached.
    """
    poll()
    with under_attack(network):
        logits_of = _logits_of(network, precision, graphs)
        with torch.no_grad():
            clean = logits_of(x)
        gradient = partial(_input_gradient, logits_of, lambda logits: divergence(clean, logits))
        return _images(gradient, x, generator, poll, part, **attack)  # type: ignore[arg-type]


def trades_loss(logits: Tensor, logits_adv: Tensor, y: Tensor, beta: float) -> Tensor:
    """Return the TRADES loss CE(x, y) + beta KL(p(x) || p(x_adv)).

    Args:
        logits: [B, classes], of the clean images x.
        logits_adv: [B, classes], of the adversarial images x_adv.
        y: int64 [B] labels.
        beta: weight of the divergence.
    """
    return F.cross_entropy(logits, y) + beta * divergence(logits, logits_adv)

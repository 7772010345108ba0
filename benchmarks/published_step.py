"""The baseline of the benchmarks: one ARNAS search step that is as expensive as in the released code.

* There is one module per edge and primitive, in the layout [B, C, H, W].
* Attacks back-propagate into all weights and alphas.
* The unrolled step copies the model.
* The training gradient is computed twice, once for each of the two objectives, although it is the same for both.

Differs: `deepcopy` copies the model. The released code builds a new network and loads the weights, which takes as long.

Source: Ou, Feng and Sun, CVPR 2024, arXiv 2405.05502. Written independently, with no code copied.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.search.methods.arnas.config import ArnasConfig
from tests.reference_supernet import ReferenceSupernet

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PublishedReport:
    """The results of one search step.

    Attributes:
        x_adv: adversarial images of the weights batch.
        xs_adv: adversarial images of the alphas batch.
        gradients: [2, k], the architecture gradients u1 and u2 of the two objectives, including the implicit terms and lambda.
        gamma: MGDA's weight of the natural gradient.
    """

    x_adv: Tensor
    xs_adv: Tensor
    gradients: Tensor
    gamma: Tensor


class PublishedStep:
    """The search of the released code. Each step updates the weights and alphas of the supernet.

    Args:
        model: the supernet, in training mode.
        config: settings of the search.
    """

    def __init__(self, model: ReferenceSupernet, config: ArnasConfig) -> None:
        self.model, self.config = model, config
        self.optimizer = torch.optim.SGD(model.weight_parameters().values(), lr=config.weights_learning_rate,
                                         momentum=config.momentum, weight_decay=config.weight_decay)
        self.alpha_optimizer = torch.optim.Adam(model.alphas.values(), lr=config.alpha_learning_rate, betas=(0.5, 0.999),
                                                weight_decay=config.alpha_weight_decay)

    def step(self, train_batch: Batch, alpha_batch: Batch, *, learning_rate: float,
             noise: tuple[Tensor, Tensor]) -> PublishedReport:
        """Take one search step.

        Args:
            train_batch: weights batch (x [B, C, H, W], y [B]).
            alpha_batch: alphas batch (x [B, C, H, W], y [B]).
            learning_rate: learning rate of the weights.
            noise: random starts of the attacks on the two batches.
        """
        (x, y), (xs, ys) = train_batch, alpha_batch
        self.optimizer.param_groups[0]["lr"] = learning_rate
        x_adv, xs_adv = self._attack(x, y, noise[0]), self._attack(xs, ys, noise[1])
        natural = self._unrolled_gradient((x_adv, y), (xs, ys), 1.0, learning_rate)
        adversarial = self._unrolled_gradient((x_adv, y), (xs_adv, ys), self.config.adversarial_lambda, learning_rate)
        gap = adversarial - natural
        gamma = (torch.dot(gap, adversarial) / torch.dot(gap, gap)).clamp(0, 1)
        self._set_alpha_gradient(gamma * natural + (1 - gamma) * adversarial)
        self.alpha_optimizer.step()
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x_adv), y).backward()
        nn.utils.clip_grad_norm_(self.model.weight_parameters().values(), self.config.gradient_clip)
        self.optimizer.step()
        return PublishedReport(x_adv, xs_adv, torch.stack([natural, adversarial]), gamma)

    def _attack(self, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """Return images attacked by PGD. As in the released code, each PGD step back-propagates into all parameters."""
        epsilon = self.config.epsilon
        x_adv = x + noise.clamp(-epsilon, epsilon)
        for _ in range(self.config.attack_steps):
            x_adv = x_adv.detach().requires_grad_()
            F.cross_entropy(self.model(x_adv), y).backward()
            moved = x_adv.detach() + self.config.step_size * x_adv.grad.sign()
            x_adv = x + (moved - x).clamp(-epsilon, epsilon)
        return x_adv.detach()

    def _unrolled_gradient(self, train_batch: Batch, batch: Batch, coefficient: float, learning_rate: float) -> Tensor:
        """Return the gradient of coefficient * CE(batch), computed with the weights w'(alpha), with respect to the alphas.

        The weights w'(alpha) result from one more SGD step on `train_batch`. They depend on the alphas. This dependence adds an
        implicit term to the gradient, which is computed by finite differences (DARTS, section 2.3).
        """
        unrolled = self._unrolled_model(train_batch, learning_rate)
        loss = coefficient * F.cross_entropy(unrolled(batch[0]), batch[1])
        loss.backward()
        explicit = _flat(alpha.grad for alpha in unrolled.alphas.values())
        vector = [p.grad for p in unrolled.weight_parameters().values()]
        return explicit - learning_rate * self._hessian_vector_product(vector, train_batch)

    def _unrolled_model(self, train_batch: Batch, learning_rate: float) -> ReferenceSupernet:
        """Return a copy of the model after one more SGD step on `train_batch`, the adversarial weights batch."""
        names, weights = zip(*self.model.weight_parameters().items(), strict=True)
        loss = F.cross_entropy(self.model(train_batch[0]), train_batch[1])
        gradients = torch.autograd.grad(loss, weights)
        self.model.zero_grad()  # otherwise the copy would contain the attacks' gradients
        unrolled = copy.deepcopy(self.model)
        targets = unrolled.weight_parameters()
        with torch.no_grad():
            for name, weight, gradient in zip(names, weights, gradients, strict=True):
                velocity = self.optimizer.state[weight].get("momentum_buffer") if weight in self.optimizer.state else None
                change = gradient + self.config.weight_decay * weight
                if velocity is not None:
                    change = change + self.config.momentum * velocity
                targets[name].copy_(weight - learning_rate * change)
        return unrolled

    def _hessian_vector_product(self, vector: list[Tensor], train_batch: Batch) -> Tensor:
        """Return (grad_alpha L(w + R v) - grad_alpha L(w - R v)) / 2R, where v is `vector` and L the loss on `train_batch`.

        R is r / |v|, with r from the setting `finite_difference`. The weights w are changed temporarily.
        """
        radius = self.config.finite_difference / _flat(vector).norm()
        weights = list(self.model.weight_parameters().values())
        gradients = []
        for change in (radius, -2 * radius):
            with torch.no_grad():
                for weight, direction in zip(weights, vector, strict=True):
                    weight.add_(change * direction)
            loss = F.cross_entropy(self.model(train_batch[0]), train_batch[1])
            gradients.append(_flat(torch.autograd.grad(loss, list(self.model.alphas.values()))))
        with torch.no_grad():
            for weight, direction in zip(weights, vector, strict=True):
                weight.add_(radius * direction)
        return (gradients[0] - gradients[1]) / (2 * radius)

    def _set_alpha_gradient(self, gradient: Tensor) -> None:
        alphas = list(self.model.alphas.values())
        for alpha, part in zip(alphas, gradient.split([alpha.numel() for alpha in alphas]), strict=True):
            alpha.grad = part.view_as(alpha).clone()


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])

"""FMN on models whose nearest adversarial image is known, and the state that it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.ball import Ball
from engine.attack.declaration import L2, LINF
from engine.attack.minimum import FMN, logit_difference
from tests.engine.attack.nearest import nearest

NORMS = pytest.mark.parametrize("norm", [LINF, L2])


def linear(classes: int, scale: float = 1.0) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model, images in the middle of 0..1 near its boundaries, and their predictions."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    model.requires_grad_(False)[1].weight.mul_(scale)
    x = 0.4 + 0.2 * torch.rand(20, 1, 4, 4)
    model[1].bias.copy_(-model[1].weight @ torch.full((16,), 0.5))  # the boundaries meet in the middle
    return model, x, model(x).argmax(1)


def exact(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """The distance to the nearest boundary, min over classes of |difference of logits| / dual norm of the weights."""
    weight, logits = model[1].weight.double(), model.double()(x.double())
    model.float()
    own = torch.arange(len(y))
    normal = weight[y][:, None] - weight[None]
    dual = normal.abs().sum(2) if norm == LINF else normal.norm(dim=2)
    far = (logits[own, y][:, None] - logits) / dual
    far[own, y] = torch.inf
    return far.amin(1)


@NORMS
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_two_linear_classes_give_the_margin_over_the_dual_norm(norm: str, scale: float) -> None:
    """The distance is |margin| / ||w||_2 in L2 and |margin| / ||w||_1 in L-infinity, within 1 % and never below."""
    model, x, y = linear(2, scale)
    ours, truth = nearest(FMN(Ball(norm, 0.1), 200), model, x, y)[0], exact(model, x, y, norm)
    assert bool((ours <= 1.01 * truth + 1e-5).all()) and bool((ours >= truth - 1e-6).all())


@NORMS
def test_five_linear_classes_give_the_nearest_of_four_boundaries(norm: str) -> None:
    """Over untargeted and targeted walks the smallest distance is that to the nearest boundary within 1 %."""
    model, x, y = linear(5)
    walk, truth = FMN(Ball(norm, 0.1), 200), exact(model, x, y, norm)
    ours = nearest(walk, model, x, y)[0]
    for target in range(5):
        other = y != target
        ours[other] = torch.minimum(ours[other], nearest(walk, model, x[other], y[other], target)[0])
    assert bool((ours <= 1.01 * truth + 1e-5).all()) and bool((ours >= truth - 1e-6).all())


@NORMS
def test_where_0_to_1_binds_the_remaining_pixels_do_the_work(norm: str) -> None:
    """A pixel on the wall that would have to go through it stays; in L2 the distance is |margin| / ||w of the other pixels||."""
    weight, x, y = torch.tensor([3.0, 1.0, 2.0, 0.5]), torch.tensor([[0.0, 0.5, 0.5, 0.5]]).view(1, 1, 2, 2), torch.tensor([0])

    def model(images: Tensor) -> Tensor:
        height = (images - x).flatten(1) @ weight + 0.3
        return torch.stack([height, -height], 1)

    truth = 0.3 / (weight[1:].sum() if norm == LINF else weight[1:].norm())
    assert nearest(FMN(Ball(norm, 0.1), 200), model, x, y)[0].item() == pytest.approx(truth.item(), rel=0.01)


@NORMS
def test_an_image_that_is_misclassified_already_has_distance_0(norm: str) -> None:
    """The first evaluation is at the image itself."""
    model, x, y = linear(5)
    wrong = (y + 1) % 5
    distance, x_adv = nearest(FMN(Ball(norm, 0.1), 5), model, x, wrong)
    assert torch.equal(distance, torch.zeros(20)) and torch.equal(x_adv, x)


@NORMS
def test_each_image_walks_by_itself(norm: str) -> None:
    """Images whose walks began at different times come out as those that began together."""
    model, x, y = linear(5)
    walk = FMN(Ball(norm, 0.1), 12)
    targets = torch.full_like(y, -1)
    together = walk.begin(x, y, targets, range(20)) | {"x": x, "y": y, "target": targets}
    early = {name: value[:10].clone() for name, value in together.items()}
    late = {name: value[10:].clone() for name, value in together.items()}
    for _ in range(12):
        over = _advance(walk, together, model)
    for _ in range(5):
        _advance(walk, early, model)
    mixed = {name: torch.cat([early[name], late[name]]) for name in early}
    for _ in range(7):
        ended = _advance(walk, mixed, model)
    assert bool(over.all()) and bool(ended[:10].all()) and not bool(ended[10:].any())
    torch.testing.assert_close(mixed["point"][:10], together["point"][:10])


def _advance(walk: FMN, state: dict[str, Tensor], model: nn.Module) -> Tensor:
    point = state["point"].detach().requires_grad_()
    logits = model(point)
    loss = walk.loss(logits, state)
    return walk.advance(state, logits.detach(), loss.detach(), torch.autograd.grad(loss.sum(), point)[0])


def test_the_logit_difference_is_negative_exactly_at_success() -> None:
    """Untargeted: any other class wins. Targeted: the target wins. Adding a constant to all logits changes nothing."""
    logits, y = torch.randn(500, 4), torch.randint(4, (500,))
    target = torch.randint(4, (500,))
    assert torch.equal(logit_difference(logits, y, torch.full_like(y, -1)) < 0, logits.argmax(1) != y)
    assert torch.equal(logit_difference(logits, y, target) < 0, logits.argmax(1) == target)
    shifted = logit_difference(logits - 100, y, target)
    torch.testing.assert_close(shifted, logit_difference(logits, y, target), atol=1e-4, rtol=0)


@NORMS
def test_a_constant_network_has_no_adversarial_image(norm: str) -> None:
    """A point with gradient 0 stays at its image, and nothing becomes NaN."""
    x, y = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)

    def model(images: Tensor) -> Tensor:
        return F.one_hot(y, 3) + 0 * images.flatten(1).sum(1, keepdim=True)

    distance, x_adv = nearest(FMN(Ball(norm, 0.1), 20), model, x, y)
    assert bool(distance.isinf().all()) and torch.equal(x_adv, x)

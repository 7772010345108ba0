"""The planted-example test: a copy of the network in which every image certainly has an adversarial example.

The idea is from Zimmermann, Brendel, Tramer and Carlini 2022, arXiv 2206.13991. The inputs of the network's last linear layer
are called features. The copy has another linear function of the features in place of this layer: the read-out. The read-out gives
the image its true label, and one point of the ball a wrong class. This point is the planted adversarial example. An attack that
misses many planted examples is too weak for the network.

Differs: the paper fits the read-out of an image as a logistic regression. Here it is a random direction in feature space with a
threshold. The planted example is the point of the ball with the largest value along the direction, found by gradient ascent and
random search. The threshold is between this value and the values at points that are easy to reach: random points of the ball and
the end of a single gradient step. An attack with a single step therefore fails. On some images, a single step almost reaches the
planted example. The end of this step is then ignored, and an attack with a single step may succeed.
Differs: the paper attacks one network per image. Here, all images share one network and are attacked in one batch. The network
applies the read-out of the nearest natural image.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi

import torch
from torch import Tensor, nn

from engine.attack.badge import Verdict
from engine.attack.ball import Ball, distance, lengths
from engine.attack.declaration import LINF, Attack, AttackSettings
from engine.attack.guard import attacked, predictions
from engine.attack.inspection import Inspection
from engine.attack.methods import run_attack
from engine.data.splits import stable_seed

IMAGES = 32  # one missed example of 32 is within 95 %, two are not
FEWEST = 8  # with fewer images a share of 95 % says nothing
PASSED, WARNING = 0.95, 0.8  # smallest share of the planted examples that must be found
BETWEEN = 0.5  # place of the threshold between the best inner point (0) and the planted point (1)
STEPS, QUERIES = 40, 100  # of the gradient ascent and of the random search that plant a point
INNER_POINTS = 16  # random points of the ball per image
ONE_STEP_IS_BEST = 0.02  # a step that misses less than this share of the way reaches the planted point, and is no inner point
BACKGROUND = -3.0  # logit of all classes but the label and the planted one


class PlantedNetwork(nn.Module):
    """A copy of a network whose last layer is replaced by one linear function (a read-out) per image.

    The read-out sets the logits of two classes: the label, and the wrong class that is predicted at the planted adversarial
    example. At each natural image, the logit of the label is 1 above the logit of the wrong class. The softmax is therefore
    not saturated, even if the original network's logits are large.

    Attributes:
        network: copy of the original network. Its last layer maps features to one value per image.
        head: the last layer of the copy.
    """

    def __init__(self, network: nn.Module, head: str, x: Tensor, y: Tensor, *, classes: int, norm: str,
                 directions: Tensor) -> None:
        """Copy a network and replace the last layer by read-outs along the given directions.

        Args:
            network, head: the network to copy, and the name of its last layer, an `nn.Linear` with F inputs.
            x, y: natural images [K, C, H, W] and their labels, int64 [K]. The distance between any two images must be larger than
                twice the radius of the ball.
            classes: number of classes, at least 2.
            norm: norm of the ball.
            directions: [K, F], one direction in feature space per image.
        """
        super().__init__()
        self.network = copy.deepcopy(network)
        self.head: nn.Linear = self.network.get_submodule(head)  # type: ignore[assignment]
        self.head.weight = nn.Parameter(directions.clone(), requires_grad=False)
        self.head.bias = nn.Parameter(directions.new_zeros(len(x)), requires_grad=False)
        self.head.out_features = len(x)
        self.x, self.y, self.planted = x, y, (y + 1) % classes
        self.classes, self.power = classes, float("inf") if norm == LINF else 2.0

    def place(self, value: Tensor, threshold: Tensor) -> None:
        """Set the threshold of each of the K read-outs, which are the outputs of the network's last layer.

        A read-out belongs to one natural image and to one direction in feature space. At a point whose features have the
        component v along the direction, the read-out becomes (threshold - v) / (threshold - value).

        Args:
            value: component of each natural image along its direction, [K]. The read-out is 1 there.
            threshold: components at which the read-out becomes 0, [K], larger than `value`.
        """
        scale = 1 / (threshold - value)
        self.head.weight.mul_(-scale[:, None])
        self.head.bias.copy_(threshold * scale)

    def owners(self, x: Tensor) -> Tensor:
        """Return the index of the nearest natural image for each image of x, int64 [n]."""
        return torch.cdist(x.detach().flatten(1), self.x.flatten(1), p=self.power).argmin(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of images x [n, C, H, W]. Each image of x must be near one of the natural images."""
        return self._logits(self.network(x), x)

    def frozen(self, compiled: bool = True) -> Callable[[Tensor], Tensor]:
        """Return a faster function for attacks, with the same results as `forward` up to rounding.

        Args:
            compiled: False if the function must respect autocast. Compiled kernels compute in float32.
        """
        values = attacked(self.network, compiled)
        return lambda x: self._logits(values(x), x)

    def _logits(self, values: Tensor, x: Tensor) -> Tensor:
        owner = self.owners(x)
        half = values.gather(1, owner[:, None]) / 2
        logits = torch.full((len(x), self.classes), BACKGROUND, device=x.device)
        return logits.scatter(1, self.y[owner, None], half).scatter(1, self.planted[owner, None], -half)


@dataclass(frozen=True)
class Planting:
    """A copy of a network, changed so that it misclassifies one known point near each image (a planted adversarial example).

    Attributes:
        network: the changed copy.
        x, y: images [K, C, H, W] and labels, int64 [K]. The network classifies all images correctly.
        examples: one planted example in the ball around each image, [K, C, H, W]. The network misclassifies all of them.
    """

    network: PlantedNetwork
    x: Tensor
    y: Tensor
    examples: Tensor


def planted(it: Inspection) -> tuple[Verdict, str]:
    """Plant adversarial examples in a copy of the network. Count the examples that the protocol's attacks with gradients find.

    Returns:
        verdict: "passed", "warning", "failed" or "skipped".
        sentence: explanation of the verdict, with the count.
    """
    head = last_layer(it.network, it.x[:1])
    if head is None:
        return "skipped", "The logits are not the output of a linear layer, so no read-out can replace it."
    planting = plant(it.network, head, it.x, it.y, it.settings, poll=it.poll)
    count = len(planting.x)
    if count < FEWEST:
        return "skipped", f"Examples can be planted at {count} images, and the test needs at least {FEWEST}."
    hits = count - len(missed(planting, it.white_box, it.settings, poll=it.poll))
    verdict: Verdict = "passed" if hits >= PASSED * count else "warning" if hits >= WARNING * count else "failed"
    titles = ", ".join(dict.fromkeys(attack.title for attack in it.white_box))
    return verdict, f"{titles} find {hits} of {count} planted adversarial examples."


def last_layer(network: nn.Module, x: Tensor) -> str | None:
    """Return the name of the linear layer whose output is the output of the network, or None if there is no such layer.

    `x` are images for a forward pass.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: outputs.update({name: output})

    hooks = [module.register_forward_hook(record(name)) for name, module in network.named_modules()
             if name and isinstance(module, nn.Linear)]
    try:
        with torch.no_grad():
            logits = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return next((name for name, output in outputs.items() if output is logits), None)


def plant(network: nn.Module, head: str, x: Tensor, y: Tensor, settings: AttackSettings, *,
          poll: Callable[[], None] = lambda: None) -> Planting:
    """Return a copy of the network with planted examples. Call this inside `under_attack`.

    Images at which no example can be planted are left out. These are images within two radii of an earlier image, and images
    for which the search finds no suitable point in the ball.

    Args:
        network: the network to copy.
        head: name of the last layer, from `last_layer`.
        x, y: images [n, C, H, W] and labels, int64 [n].
        settings: norm, radius, number of classes and seed.
        poll: function called before each forward pass.
    """
    ball = Ball(settings.norm, settings.epsilon)
    generator = torch.Generator().manual_seed(stable_seed(settings.seed, "planted"))
    apart = _apart(x, ball)[:IMAGES]
    x, y = x[apart], y[apart]
    features: int = network.get_submodule(head).in_features  # type: ignore[assignment]
    directions = torch.randn(len(x), features, generator=generator).to(x.device)
    built = {"classes": settings.classes, "norm": settings.norm}
    along = PlantedNetwork(network, head, x, y, directions=directions, **built)  # type: ignore[arg-type]
    ascent = Ascent(along, ball, x, poll, generator)
    natural, inner = ascent.values(x), ascent.inner()
    examples, best = ascent.best()
    step = ascent.one_step()
    reach = best - natural
    inner = torch.where((best - step) < ONE_STEP_IS_BEST * reach, inner, torch.maximum(inner, step))
    threshold = inner + BETWEEN * (best - inner)
    # Below this a margin of 1 over the reach would be rounding.
    possible = reach > 1e-4 * natural.abs().clamp(min=1e-30)
    x, y, examples = x[possible], y[possible], examples[possible]
    result = PlantedNetwork(network, head, x, y, directions=directions[possible], **built)  # type: ignore[arg-type]
    if len(x):
        result.place(natural[possible], threshold[possible])
    return _certain(Planting(result, x, y, examples))


def missed(planting: Planting, attacks: list[Attack], settings: AttackSettings, *,
           poll: Callable[[], None] = lambda: None) -> list[int]:
    """Return the indices of the images in `planting` that withstand every attack.

    Each attack runs only on the images that have withstood all earlier attacks.
    """
    ball = Ball(settings.norm, settings.epsilon)
    standing = torch.arange(len(planting.x), device=planting.x.device)
    for attack in attacks:
        if not len(standing):
            break
        x, y = planting.x[standing], planting.y[standing]
        x_adv = run_attack(attack, planting.network, x, y, settings, poll=poll)
        fell = (predictions(planting.network, x_adv) != y) & ball.contains(x_adv, x)
        standing = standing[~fell]
    return standing.tolist()


class Ascent:
    """The search for points with large values in the balls around all images.

    There is one direction in feature space per image. The value of a point is the component of its features along the direction.
    """

    def __init__(self, network: PlantedNetwork, ball: Ball, x: Tensor, poll: Callable[[], None],
                 generator: torch.Generator) -> None:
        """Prepare the search around images x [K, C, H, W].

        Args:
            network: network with one direction in feature space per image.
            ball: ball to search around each image.
            x: the images.
            poll: function called before each forward pass. It may raise to abandon the search.
            generator: source of all random numbers, on the CPU.
        """
        self.network, self.ball, self.x, self.poll, self.generator = network, ball, x, poll, generator
        self.differentiated = attacked(network.network)

    def values(self, x: Tensor) -> Tensor:
        """Return the values [K] of points x [K, C, H, W].

        Point k belongs to image k. Its value is the component of its features along the direction of image k in feature space.
        """
        self.poll()
        with torch.no_grad():
            return self.differentiated(x).diagonal()

    def inner(self) -> Tensor:
        """Return the largest value of each image's inner points, [K].

        The inner points are the image and some random points of its ball. The value of a point is the component of its features
        along the image's direction in feature space.
        """
        values = [self.values(self.x)]
        for _ in range(INNER_POINTS):
            share = torch.rand(len(self.x), 1, 1, 1, generator=self.generator).to(self.x.device)
            values.append(self.values(self.ball.project(self.x + share * self._surface(), self.x)))
        return torch.stack(values).amax(0)

    def one_step(self) -> Tensor:
        """Take one gradient step of length epsilon from each of the K images, and return the values [K] at the end points."""
        _, direction = self._value_and_direction(self.x)
        return self.values(self.ball.project(self.x + self.ball.epsilon * direction, self.x))

    def best(self) -> tuple[Tensor, Tensor]:
        """Search the ball around each image for the point with the largest value, from three starts.

        Returns:
            The best point for each image, [K, C, H, W].
            The value of each of these points, [K].
        """
        point, value = self._climb(self.x)
        for start in (self.ball.project(self.x + self._surface(), self.x), self._search()):
            other, height = self._climb(start)
            better = height > value
            point, value = torch.where(better[:, None, None, None], other, point), torch.maximum(height, value)
        return point, value

    def _climb(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Take gradient steps from the points `start` [K, C, H, W]. The length of the steps falls to 0 along half a cosine.

        Returns:
            points: for each image the point with the largest value, [K, C, H, W].
            values: values of these points, [K].
        """
        point, best, value = start, start, torch.full((len(start),), -torch.inf, device=start.device)
        for step in range(STEPS):
            height, direction = self._value_and_direction(point)
            best = torch.where((height > value)[:, None, None, None], point, best)
            value = torch.maximum(height, value)
            length = self.ball.epsilon * (1 + cos(pi * step / STEPS)) / 4
            point = self.ball.project(point + length * direction, self.x)
        return best, value

    def _search(self) -> Tensor:
        """Search the ball around each natural image at random, and return the best point for each image.

        At the best point, the features have the largest component along the image's direction. Each query changes one square
        window, as in the attack Square.
        """
        best = self.ball.project(self.x + self._surface(), self.x)
        value = self.values(best)
        for query in range(QUERIES):
            candidate = self.ball.project(best + self._window(1 - query / QUERIES), self.x)
            height = self.values(candidate)
            best = torch.where((height > value)[:, None, None, None], candidate, best)
            value = torch.maximum(height, value)
        return best

    def _window(self, share: float) -> Tensor:
        """Return a random change of each image, [K, C, H, W]. The changes are zero outside one random square window.

        The window is at the same place in all images. In a square image, it covers the fraction `share` / 2. Inside the window,
        the changes are twice the changes that `_surface` draws.
        """
        height, width = self.x.shape[-2:]
        side = max(1, round((share / 2) ** 0.5 * min(height, width)))
        top, left = (int(torch.randint(size - side + 1, (), generator=self.generator)) for size in (height, width))
        change = torch.zeros_like(self.x)
        # Twice the radius, so that in L-infinity every pixel of the window reaches the surface.
        change[..., top:top + side, left:left + side] = 2 * self._surface()[..., top:top + side, left:left + side]
        return change

    def _surface(self) -> Tensor:
        """Return random changes of length epsilon, one per image, [K, C, H, W]. In L-infinity, every pixel changes by epsilon."""
        noise = torch.randn(self.x.shape, generator=self.generator).to(self.x.device)
        return self.ball.epsilon * (noise.sign() if self.ball.norm == LINF else noise / lengths(noise, self.ball.norm))

    def _value_and_direction(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values at points [K, C, H, W] and the directions in which the values rise fastest.

        The value of point k is the component of its features along the direction of image k in feature space.

        Returns:
            values: [K].
            directions: [K, C, H, W]. Each direction has length 1 in the norm of the ball.
        """
        self.poll()
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            values = self.differentiated(point).diagonal()
            (gradient,) = torch.autograd.grad(values.sum(), point)
        if self.ball.norm == LINF:
            return values.detach(), gradient.sign()
        return values.detach(), gradient / lengths(gradient, self.ball.norm).clamp(min=1e-30)


def _apart(x: Tensor, ball: Ball) -> list[int]:
    """Return the indices of some of the images x [n, C, H, W], chosen so that they are more than two radii of the ball apart.

    The images are visited in order. An image is left out if it is too close to an image that was chosen before.
    """
    chosen: list[int] = []
    for number in range(len(x)):
        if all(float(distance(x[number:number + 1], x[other:other + 1], ball.norm)) > 2 * ball.epsilon + 1e-5
               for other in chosen):
            chosen.append(number)
    return chosen


def _certain(planting: Planting) -> Planting:
    """Return a copy of a `Planting` without the images on which its network is wrong because of rounding.

    The network must classify each natural image correctly and misclassify each planted adversarial example.
    """
    if not len(planting.x):
        return planting
    network, x, y = planting.network, planting.x, planting.y
    certain = (predictions(network, x) == y) & (predictions(network, planting.examples) != y)
    return replace(planting, x=x[certain], y=y[certain], examples=planting.examples[certain])

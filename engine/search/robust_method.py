"""Base classes for bilevel methods: one for several weighed objectives, and one that also trains on adversarial images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from engine.search.bilevel import InnerAttack
from engine.search.bilevel_method import BilevelMethod
from engine.search.config import RobustBilevelConfig, WeighedBilevelConfig
from engine.search.registries import OBJECTIVES, WEIGHTINGS, Objective
from engine.search.weighting import gramian_of, normalised

WeighedConfig = TypeVar("WeighedConfig", bound=WeighedBilevelConfig)
RobustConfig = TypeVar("RobustConfig", bound=RobustBilevelConfig)


class WeighedBilevelMethod(BilevelMethod[WeighedConfig]):
    """A bilevel method that supports the weightings and the added objectives of `WeighedBilevelConfig`."""

    def added_objectives(self) -> tuple[Objective, ...]:
        """Return the objectives that the configuration adds, with their coefficients."""
        return tuple(OBJECTIVES[name].times(self.config.coefficient(name)) for name in self.config.added_objectives)

    def inner_attack(self) -> InnerAttack:
        """Return the settings of the attack on the batches of a search step.

        The default is the attack of the objective one_step: a single step with the radius `one_step_epsilon`.
        """
        epsilon = self.config.one_step_epsilon
        return InnerAttack(epsilon, self.config.one_step_length * epsilon, 1, True)

    def one_step_attack(self) -> InnerAttack:
        epsilon = self.config.one_step_epsilon
        return replace(self.inner_attack(), epsilon=epsilon, step_size=self.config.one_step_length * epsilon, steps=1)

    def weigh(self, gradients: Tensor, losses: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        gramian = normalised(gramian_of(gradients), losses, self.config.gradient_normalisation)
        solve = WEIGHTINGS[self.config.weighting].function
        return gramian, solve(gramian, names, self.config.fixed_natural_weight)


class RobustBilevelMethod(WeighedBilevelMethod[RobustConfig]):
    """A bilevel method that trains its weights on adversarial images made by PGD.

    `RobustBilevelConfig` declares its settings.
    """

    trains_on_adversarial = True

    def inner_attack(self) -> InnerAttack:
        config = self.config
        return InnerAttack(config.epsilon, config.step_size, config.attack_steps, config.clip_images, config.attack_precision)

"""The settings that add objectives to those of a method. Imports no torch."""

from __future__ import annotations

from pydantic import model_validator

from engine.config import setting
from engine.data import DATASETS, Dataset
from engine.search.methods.curvature_config import CurvatureConfig
from engine.search.methods.out_of_distribution_config import OutOfDistributionConfig
from engine.search.registries import OBJECTIVES, AddedObjective

ADDED = (
    "Differs when given: objectives beside the method's own, weighed together with them; empty for none. out_of_distribution: KL "
    "divergence of the prediction on images of the second dataset from the uniform distribution, in nats (E2RNAS of 2021). "
    "one_step: cross-entropy of images attacked in one step, in nats. parameter_share, mac_share: parameters or MACs of the "
    "modules, expected under softmax(alpha), as a share of the largest architecture's.")
TURNED_AROUND = "MGDA turns scaling around: a smaller one makes this direction stronger, unless gradients are normalised."


class AddedObjectivesConfig(OutOfDistributionConfig, CurvatureConfig):
    """A search whose upper level may have objectives beside the method's own; all of them are weighed together.

    NAME_factor is the setting of an objective's coefficient.
    """

    added_objectives: tuple[AddedObjective, ...] = setting(
        (), f"{ADDED} curvature: of the loss around the natural images, with batch statistics (AdvRush).", group="Deviations")
    out_of_distribution_factor: float = setting(
        1.0, "Coefficient of the added objective out_of_distribution (E2RNAS of 2021: 10 divided by the number of classes). "
        f"{TURNED_AROUND}", group="Added objectives", gt=0, le=1e6)
    one_step_factor: float = setting(1.0, f"Coefficient of the added objective one_step. {TURNED_AROUND}",
                                     group="Added objectives", gt=0, le=1e6)
    one_step_radius: float = setting(
        1.0, "Of the added objective one_step: L-infinity radius of its attack, in units of epsilon of the attack inside the "
        "search; of a search without one, of the dataset's usual epsilon.", group="Added objectives", unit="epsilon", gt=0, le=10)
    one_step_length: float = setting(
        1.25, "Of the added objective one_step: length of its one step, in units of its radius, from a random point of the ball, "
        "with the gradient taken there (Wong, Rice and Kolter 2020: 1.25).", group="Added objectives", gt=0, le=2)
    parameter_share_factor: float = setting(1.0, f"Coefficient of the added objective parameter_share. {TURNED_AROUND}",
                                            group="Added objectives", gt=0, le=1e6)
    mac_share_factor: float = setting(1.0, f"Coefficient of the added objective mac_share. {TURNED_AROUND}",
                                      group="Added objectives", gt=0, le=1e6)

    @property
    def out_of_distribution(self) -> Dataset | None:
        """See `SearchConfig.out_of_distribution`."""
        return super().out_of_distribution if "out_of_distribution" in self.added_objectives else None

    @property
    def one_step_epsilon(self) -> float:
        """Radius of the attack of the objective one_step, pixel space."""
        return self.one_step_radius * float(getattr(self, "epsilon", DATASETS[self.dataset].epsilon))

    def coefficient(self, name: str) -> float:
        """Of an added objective."""
        return float(getattr(self, f"{name}_factor"))

    @model_validator(mode="after")
    def _each_objective_once(self) -> AddedObjectivesConfig:
        if len(set(self.added_objectives)) < len(self.added_objectives):
            raise ValueError(f"added_objectives must name each objective only once, got {', '.join(self.added_objectives)}; "
                             "leave out what is there twice")
        return self

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = super().deviations()
        for name in self.added_objectives:
            images = f" on {self.out_of_distribution.title}" if "out_of_distribution" in OBJECTIVES[name].reads else ""
            factor = "" if self.coefficient(name) == 1 else f" times {self.coefficient(name):g}"
            names.append(f"plus {OBJECTIVES[name].title}{images}{factor}")
        return names

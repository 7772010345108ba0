"""Settings of PC-DARTS (Xu et al., ICLR 2020, arXiv 1907.05737). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from engine.config import normalisation, setting
from engine.errors import ConfigError
from engine.search.config import NaturalBilevelConfig
from engine.search.methods.registry import METHODS, Method


class PcDartsConfig(NaturalBilevelConfig):
    """Settings of PC-DARTS, which minimises L_natural(w) over alpha and beta in first order.

    The defaults come from the published search on CIFAR-10.
    """

    batch_size: int = setting(256, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", silent=True,
                              source="PC-DARTS code", ge=2, le=8192)
    warmup_epochs: int = setting(15, "Epochs at the start that train only the weights, not alphas and betas.", unit="epochs",
                                  group="Schedule", source="PC-DARTS code", ge=0, deviation="warm-up of {value} epochs")
    channels: int = setting(16, "Channels C of the first cells of the supernet; a multiple of 2 K.", group="Supernet",
                            silent=True, source="PC-DARTS code", ge=2, le=512)
    partial: int = setting(
        4, "K: the operations of an edge act on 1/K of the channels, and the other channels bypass them. With 1, they act on all "
        "channels.", group="Supernet", source="PC-DARTS code", ge=1, le=64, deviation="K = {value}")
    weights_learning_rate: float = setting(0.1, "Learning rate of SGD on the weights in the first epoch.", group="Weights",
                                           source="PC-DARTS code", gt=0, le=10)
    weights_learning_rate_min: float = setting(
        0.0, "Learning rate at the end of the cosine schedule: zero in the paper, 0.001 in the released code.", group="Weights",
        source="PC-DARTS", ge=0, le=10)
    alpha_learning_rate: float = setting(6e-4, "Learning rate of Adam on alphas and betas.", group="Architecture",
                                         source="PC-DARTS code", gt=0, le=10)
    alpha_weight_decay: float = setting(1e-3, "Weight decay of Adam on alphas and betas.", group="Architecture",
                                        source="PC-DARTS code", ge=0, le=1)
    unrolled: bool = setting(
        False, "Differs when on: selects the order of the architecture gradient. Off: first order; on: second order, through one "
        "unrolled weight step.", group="Deviations", source="PC-DARTS code")
    edge_weights: bool = setting(
        True, "Differs when off: weights the edges into a node by softmax(beta), which stabilises the search with partial "
        "channels. Off: edges are added without weights.", group="Deviations", source="PC-DARTS code")
    normalise: bool = normalisation(True, "PC-DARTS code")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"epochs": 10, "warmup_epochs": 3},
        "quick": {"channels": 8, "layers": 5, "epochs": 16, "warmup_epochs": 5, "batch_size": 40, "alpha_learning_rate": 0.05,
                  "threads": 2},
        # One step of warm-up and one after it.
        "smoke": {"channels": 8, "layers": 4, "epochs": 2, "warmup_epochs": 1, "steps_per_epoch": 1, "batch_size": 8,
                  "images": 64},
    }

    @model_validator(mode="after")
    def _channels_can_be_shared_out(self) -> PcDartsConfig:
        unit = 2 * self.partial
        if self.channels % unit:
            raise ConfigError(problems={"channels":
                f"channels must be a multiple of {unit} (operations act on 1/{self.partial} of them, which a reduction splits "
                f"into two halves), got {self.channels}; use {-(-self.channels // unit) * unit} or change partial."})
        return self

    @model_validator(mode="after")
    def _alphas_move_in_an_epoch(self) -> PcDartsConfig:
        if self.warmup_epochs > self.epochs - 1:
            raise ConfigError(problems={"warmup_epochs":
                f"warmup_epochs must be at most {self.epochs - 1}, so that at least one of the {self.epochs} epochs trains "
                f"alphas, got {self.warmup_epochs}; lower it or search for more epochs."})
        return self

    def supernet_settings(self) -> dict[str, Any]:
        """Return the inherited keyword arguments for the supernet, plus `partial` and `edge_weights`."""
        return super().supernet_settings() | {"partial": self.partial, "edge_weights": self.edge_weights}

    def deviations(self) -> list[str]:
        """Return the deviations from the published method, as phrases for the run name.

        The inherited deviations come first, then "no edge weights" if the edge weights are off.
        """
        return super().deviations() + ([] if self.edge_weights else ["no edge weights"])


METHODS.add("pcdarts", Method(
    name="pcdarts",
    title="PC-DARTS",
    summary="First-order DARTS whose operations act on a quarter of the channels, with a weight for every edge. The first epochs "
            "train only the weights. The search uses no attack.",
    source="Xu et al.: PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search, ICLR 2020, "
           "arXiv 1907.05737",
    year=2020,
    config=PcDartsConfig,
    implementation="engine.search.methods.pcdarts.method:PcDarts",
))

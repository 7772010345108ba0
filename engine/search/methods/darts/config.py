"""Settings of DARTS (Liu, Simonyan and Yang, ICLR 2019, arXiv 1806.09055). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from engine.config import normalisation, setting
from engine.search.config import NaturalBilevelConfig
from engine.search.methods.registry import METHODS, Method


class DartsConfig(NaturalBilevelConfig):
    """Settings of DARTS, which minimises L_natural(w') over alpha, with naturally trained weights.

    The defaults come from the paper's search on CIFAR-10. Where the released code differs from the paper, the default follows the
    code. For example, the learning rate of the weights ends at 0.001 instead of zero.
    """

    batch_size: int = setting(64, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", silent=True,
                              source="DARTS, section A.1", ge=2, le=8192)
    channels: int = setting(16, "Channels C of the first cells of the supernet; even.", step=2, group="Supernet", silent=True,
                            source="DARTS, section A.1", ge=2, le=512)
    unrolled: bool = setting(
        True, "Order of the architecture gradient. On: second order, through one unrolled weight step; off: first order, which "
        "is faster. Both are published; the run's name marks first order.", group="Architecture", silent=True,
        source="DARTS, section 2.3")
    normalise: bool = normalisation(True, "DARTS code")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"epochs": 10},
        "quick": {"channels": 8, "layers": 5, "epochs": 16, "batch_size": 40, "alpha_learning_rate": 0.05, "threads": 2},
        "smoke": {"channels": 4, "layers": 4, "epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "images": 64},
    }


METHODS.add("darts", Method(
    name="darts",
    title="DARTS",
    summary="Minimises the natural validation loss through one step of naturally trained weights, in first or second order. The "
            "search uses no attack. The robust methods build on it.",
    source="Liu, Simonyan, Yang: DARTS: Differentiable Architecture Search, ICLR 2019, arXiv 1806.09055",
    year=2019,
    config=DartsConfig,
    implementation="engine.search.methods.darts.method:Darts",
))

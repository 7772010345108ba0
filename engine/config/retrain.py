"""Settings of a retraining."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, model_validator

from engine.architecture.genotype import DERIVED
from engine.architecture.network import FORMS, OFFERED, named_network, network_name
from engine.architecture.placement import RULES, PlacementName, width_ratio_text
from engine.architecture.transplant import read_grafts
from engine.config.fields import (
    PLACEMENT_TITLES,
    THIRDS,
    Pixels,
    in_sentence,
    normalisation,
    setting,
)
from engine.config.run import RunConfig
from engine.errors import ConfigError, shortened


def milestone_epochs(text: str, epochs: int) -> list[int]:
    """The epochs, counted from 0, from which on the rate of `step` is a tenth of what it was.

    Args:
        text: with commas, each a share of all epochs below 1 ("99/200", "0.5"; rounded down) or a whole number of epochs that
            pass before the drop ("30").
        epochs: of the whole training.

    Raises:
        ConfigError: something else, not ascending, or a drop that would never come.
    """
    advice = 'give shares of the epochs like "1/3, 2/3" or whole numbers of epochs like "30, 60"'
    parts = [part.strip() for part in text.split(",")]
    values = [Fraction(part) for part in parts if re.fullmatch(r"\d{1,5}(\.\d{1,6}|/0*[1-9]\d{0,4})?", part)]
    if len(values) < len(parts) or any(value <= 0 or value > 1 and value.denominator != 1 for value in values):
        raise ConfigError(problems={"milestones": (
            f"milestones must be shares below 1 or whole numbers above 0, with commas, got {shortened(text)}; "
            f"{advice}.")})
    # The first epoch has the full rate, however short the training.
    found = [int(value) if value >= 1 else max(1, int(value * epochs)) for value in values]
    if sorted(found) != found:
        raise ConfigError(problems={"milestones": (
            f"milestones must ascend, got {shortened(text)}; {advice}.")})
    if values[-1] >= epochs:
        raise ConfigError(problems={"milestones": (
            f"milestones must lie within the {epochs} epochs, got {shortened(text)}; {advice}.")})
    return found


AS_FOUND = "as searched or published (from the parent search; for a given genotype, as published with it)"


def _width_ratio_or_none(text: str) -> str:
    return width_ratio_text(text) if text.strip() else ""


class RetrainConfig(RunConfig):
    """Training of a derived network from scratch (ARNAS, released training code), or of a hand-made one to compare it with."""

    network: Annotated[str, AfterValidator(network_name)] = setting(
        DERIVED, f"{DERIVED}: built from a genotype. Or a network to compare with, by name: {FORMS}, for example {OFFERED[-1]}. "
        "Such a network has its own size (channels and layers have no effect), no auxiliary head and no drop path.",
        group="Network")
    genotype: str | None = setting(
        None, "A catalogue name or a genotype as JSON.", empty="the result of the parent search", group="Network")
    placement: Literal["", PlacementName] = setting(
        "", f"Differs when given: which cells stand before the first reduction, before the second and behind it. "
        f"{THIRDS}.", empty=AS_FOUND, group="Network",
        titles=PLACEMENT_TITLES)
    width_ratio: Annotated[str, AfterValidator(_width_ratio_or_none)] = setting(
        "", "Differs when given: widths of the cells before the first reduction, before the second and behind it, in units of "
        "channels, like 1:2:4; 1:1:1 for equal widths.", empty=AS_FOUND, group="Network")
    transplant: str = setting(
        "", "Differs when given: cells put in the place of others before training. accurate:robust has the accurate cell also "
        "where the robust one stood, ADVRUSH.normal:robust takes it from the catalogue; several with commas, so that "
        "accurate:robust, robust:accurate changes places.", empty="none", group="Network")
    channels: int = setting(64, "Channels C of the first cells.", group="Network", source="ARNAS code", ge=2, le=1024)
    layers: int = setting(20, "Cells of the network.", group="Network", source="ARNAS code", ge=3, le=128)
    match: Literal["none", "params", "macs"] = setting(
        "none", "params or macs: chooses the channels so that the network has the parameters or MACs of match_to within 5 %, "
        "counted without auxiliary head; what channels says does not count then. none: channels as they are.", group="Network")
    match_to: str = setting(
        "", f"The network to match: GENOTYPE@CHANNELSxLAYERS like ARNAS@64x20, a hand-made one like {OFFERED[0]}, or the id of a "
        "retraining or attack.", empty="none", group="Network")
    auxiliary_weight: float = setting(0.4, "Weight of the auxiliary head's loss; 0 for no auxiliary head.",
                                      group="Network", source="ARNAS code", ge=0, le=10)
    auxiliary_input: Literal["clean", "adversarial"] = setting(
        "clean", "Differs when adversarial: the auxiliary loss is that of the adversarial images. clean, as published: of an "
        "earlier pass of the clean batch, which also feeds BatchNorm's running statistics.",
        group="Network", source="ARNAS code")
    drop_path: float = setting(0.0, "Probability of dropping a path in the last epoch (grows linearly).",
                               group="Network", source="ARNAS code", ge=0, lt=1)
    training: Literal["pgd_at", "natural", "trades", "fast_at"] = setting(
        "pgd_at", "Differs unless pgd_at: cross-entropy on the adversarial image (Madry et al. 2018). natural: on the clean "
        "image; trades: natural cross-entropy plus beta times KL to the adversarial prediction (Zhang et al. 2019); fast_at: "
        "as pgd_at with one step from anywhere in the ball, in training mode (Wong, Rice and Kolter 2020).",
        group="Training", source="ARNAS code")
    trades_beta: float = setting(6.0, "beta of TRADES.", group="Training", source="TRADES, section 5", ge=0, le=1000,
                                 deviation="beta {value}")
    epochs: int = setting(200, "Passes over the weights and alphas splits together.", group="Training",
                          source="ARNAS code", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step.", group="Training", source="ARNAS code", ge=2, le=8192)
    steps_per_epoch: int | None = setting(None, "Stop each epoch after this many steps.", empty="a full pass",
                                          group="Training", ge=1)
    learning_rate: float = setting(0.1, "Learning rate of SGD.", group="Training", source="ARNAS code", gt=0, le=10)
    schedule: Literal["step", "cosine", "cyclic"] = setting(
        "step", "step: times 0.1 at each of the milestones; cosine: to zero; cyclic: by the step, from zero up to the learning "
        "rate at half of the training and back to zero (Fast-AT, released code).", group="Training", source="ARNAS code")
    milestones: str = setting(
        "99/200, 149/200", "Where the schedule step drops the rate, with commas: shares of the epochs (published: after 99 and "
        "149 of 200; Tiny-ImageNet 1/3 and 2/3 of 90) or whole numbers of epochs like 30, 60.", group="Training",
        source="ARNAS code")
    warmup_epochs: int = setting(0, "The learning rate first grows by equal steps over so many epochs; 0 for none. cosine then "
                                 "covers the epochs behind it.", group="Training", unit="epochs", ge=0, le=1000)
    momentum: float = setting(0.9, "Momentum of SGD.", group="Training", source="ARNAS code", ge=0, lt=1)
    weight_decay: float = setting(1e-4, "Weight decay of SGD.", group="Training", source="ARNAS code", ge=0, le=1)
    gradient_clip: float = setting(5.0, "Largest norm of the gradient.", group="Training", source="ARNAS code", gt=0)
    average_decay: float = setting(
        0.0, "Differs above 0: an exponential moving average of the weights with this decay is what is measured, chosen and "
        "attacked. BatchNorm's statistics are averaged alike. 0 for none.", group="Training", ge=0, lt=1)
    precision: Literal["float32", "bf16"] = setting(
        "float32", "Differs unless float32. bf16: convolutions and matrix products of training and of its attack round their "
        "factors to 7 bits (autocast); meant for GPUs. Weights, BatchNorm's statistics and every measurement stay float32.",
        group="Training")
    channels_last: bool = setting(
        False, "Maps lie in memory with their channels last, which GPUs with tensor cores compute faster, above all in bf16. The "
        "same network up to rounding. A derived network on a CPU chooses by itself, and maps of at most 8x8 pixels stay as they "
        "are.", group="Training")
    epsilon: Pixels = setting(8 / 255, "L-infinity radius of the attack in training.", group="Attack in training",
                              source="ARNAS code", deviation="retrained at epsilon {value}")
    step_size: Pixels = setting(0.01, "Step of PGD.", group="Attack in training", source="ARNAS code",
                                deviation="retraining step {value}")
    attack_steps: int = setting(7, "Steps of PGD.", group="Attack in training", source="ARNAS code", ge=1, le=1000,
                                deviation="{value} steps in retraining")
    start_noise: float = setting(0.001, "Standard deviation of the normal noise PGD starts from.",
                                 group="Attack in training", source="ARNAS code", ge=0, le=1,
                                 deviation="start noise {value} in retraining")
    fast_step: float = setting(1.25, "Fast-AT: length of its one step, in units of epsilon.", group="Fast-AT",
                               source="Fast-AT, released code", unit="epsilon", gt=0, le=2, deviation="Fast-AT step {value}")
    probe_every: int | None = setting(
        None, "Fast-AT: every so many steps, attack the batch by PGD as well, to notice catastrophic "
        "overfitting.", empty="the first batch of each epoch", group="Fast-AT", unit="steps", ge=1)
    probe_steps: int = setting(8, "Fast-AT: steps of that PGD, each of epsilon/4.", group="Fast-AT",
                               source="Fast-AT, released code", ge=1, le=1000)
    probe_drop: float = setting(
        0.2, "Fast-AT: alert when accuracy under PGD falls by more than this below its highest, while accuracy under FGSM "
        "stays at least at that height.", group="Fast-AT", source="Fast-AT, released code", gt=0, lt=1)
    selection_steps: int = setting(20, "Steps of PGD (step epsilon/4) that ranks checkpoints on the select split.",
                                   group="Selection", ge=1, le=1000)
    selection_every: int = setting(1, "Measure on the select split every so many epochs (and after the last).",
                                   group="Selection", unit="epochs", ge=1)
    crop_padding: int = setting(4, "Random crop after padding by this many pixels; 0 for none.", group="Augmentation",
                                source="ARNAS code", unit="pixels", ge=0, le=64)
    flip: bool = setting(True, "Random horizontal flip.", group="Augmentation", source="ARNAS code")
    cutout: int = setting(16, "Side of the square that is blanked; 0 for none.", group="Augmentation",
                          source="ARNAS code", unit="pixels", ge=0, le=64)
    normalise: bool = normalisation(False, "ARNAS code")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"channels": 36, "layers": 14, "epochs": 60, "batch_size": 128},
        # Measured on the select split: 0.97 to 0.99 natural accuracy. Crops cost the 8x8 digits more than they give in so
        # few epochs.
        "quick": {"channels": 8, "layers": 5, "epochs": 14, "batch_size": 64, "auxiliary_weight": 0.0,
                  "schedule": "cosine", "selection_every": 2, "crop_padding": 0, "threads": 1},
        "smoke": {"channels": 4, "layers": 4, "epochs": 1, "steps_per_epoch": 2, "batch_size": 32, "images": 64,
                  "auxiliary_weight": 0.0, "attack_steps": 2, "selection_steps": 2},
    }

    @model_validator(mode="after")
    def _network_is_buildable(self) -> RetrainConfig:
        if self.network != DERIVED:
            without = {name: getattr(self, name) for name in OF_DERIVED if getattr(self, name) != OF_DERIVED[name]}
            if without:
                raise ConfigError(problems={next(iter(without)):
                    f"{', '.join(without)} must be left out of {named_network(self.network).title}, which "
                    f"has no cells, got {', '.join(map(str, without.values()))}; leave out what belongs to derived "
                    f"networks, or take network {DERIVED}."})
        read_grafts(self.transplant)
        if (self.match == "none") != (not self.match_to):
            raise ConfigError(problems={"match":
                f"match and match_to must be given together, got match {self.match!r} and match_to "
                f"{self.match_to!r}; give both or neither."})
        return self

    @model_validator(mode="after")
    def _schedule_fits_the_epochs(self) -> RetrainConfig:
        if self.schedule == "step":
            milestone_epochs(self.milestones, self.epochs)
        if self.warmup_epochs and self.schedule == "cyclic":
            raise ConfigError(problems={"warmup_epochs":
                f"warmup_epochs must be 0 with the cyclic schedule, which begins at zero by itself, got "
                f"{self.warmup_epochs}; take 0 or another schedule."})
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(problems={"warmup_epochs":
                f"warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs}; take fewer."})
        return self

    def inert(self) -> set[str]:
        """Return the settings of trainings and attacks that this training does not use."""
        used = {"pgd_at": {"epsilon", "step_size", "attack_steps", "start_noise"}, "natural": set(),
                "trades": {"epsilon", "step_size", "attack_steps", "start_noise", "trades_beta"},
                "fast_at": {"epsilon", "fast_step"}}[self.training]
        return {"epsilon", "step_size", "attack_steps", "start_noise", "trades_beta", "fast_step"} - used

    @property
    def names_its_network(self) -> bool:
        """True if the settings say what is trained, so that the run needs no parent search."""
        return self.network != DERIVED or bool(self.genotype)

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = [str(graft) for graft in read_grafts(self.transplant)]
        names += [f"retrained with {in_sentence(RULES[self.placement].title)}"] if self.placement else []
        names += [f"retrained at widths {self.width_ratio}"] if self.width_ratio else []
        names += {"pgd_at": [], "natural": ["natural training"], "trades": ["TRADES"], "fast_at": ["Fast-AT"]}[self.training]
        if self.auxiliary_weight and self.auxiliary_input == "adversarial":
            names.append("auxiliary loss on adversarial images")
        names += ["images normalised"] if self.normalise else []
        names += [f"EMA {self.average_decay:g}"] if self.average_decay else []
        return names + (["bf16"] if self.precision == "bf16" else [])


# What a network without cells and auxiliary head must leave as it is, and at what.
OF_DERIVED: Mapping[str, Any] = {"genotype": None, "transplant": "", "placement": "", "width_ratio": "", "match": "none",
                                 "auxiliary_weight": 0.0, "drop_path": 0.0}


def network_values(network: object) -> dict[str, Any]:
    """The values that a hand-made network asks for, laid over those of the preset: it has no auxiliary head and no paths.

    network: what RetrainConfig.network is to be, before anything of it is checked.
    """
    return {} if str(network).strip().lower() == DERIVED else {"auxiliary_weight": 0.0, "drop_path": 0.0}

"""Settings of a retraining, which trains a network from scratch."""

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
from engine.config.early_stop import stop_minutes, stop_without_gain
from engine.config.fields import PLACEMENT_TITLES, THIRDS, Pixels, normalisation, setting
from engine.config.run import RunConfig
from engine.errors import ConfigError, in_sentence, shortened


def milestone_epochs(text: str, epochs: int) -> list[int]:
    """Return the milestones of the learning rate schedule `step`, which divides the rate by 10 at each milestone.

    A milestone is the number of an epoch, counted from 0. The rate drops at the start of the epoch.

    Args:
        text: milestones separated by commas. A whole number such as "30" is an epoch. A number below 1, such as "99/200" or
            "0.5", is a fraction of `epochs`. It is rounded down to an epoch, but to no less than 1.
        epochs: number of epochs of the training.

    Raises:
        ConfigError: the text has another form, the milestones do not ascend, or a drop would come after the last epoch.
    """
    advice = 'give shares of the epochs like "1/3, 2/3" or whole numbers of epochs like "30, 60"'
    parts = [part.strip() for part in text.split(",")]
    values = [Fraction(part) for part in parts if re.fullmatch(r"\d{1,5}(\.\d{1,6}|/0*[1-9]\d{0,4})?", part)]
    if len(values) < len(parts) or any(value <= 0 or value > 1 and value.denominator != 1 for value in values):
        raise ConfigError(problems={"milestones": (
            f"milestones must be shares below 1 or whole numbers above 0, separated by commas, got {shortened(text)}; "
            f"{advice}.")})
    # The first epoch has the full rate even in a very short training.
    drops = [int(value) if value >= 1 else max(1, int(value * epochs)) for value in values]
    if sorted(drops) != drops:
        raise ConfigError(problems={"milestones": (
            f"milestones must ascend, got {shortened(text)}; {advice}.")})
    if values[-1] >= epochs:
        raise ConfigError(problems={"milestones": (
            f"milestones must be within the {epochs} epochs, got {shortened(text)}; {advice}.")})
    return drops


AS_FOUND = "as searched or published (from the parent search, or for a given genotype as published with it)"


def _width_ratio_or_none(text: str) -> str:
    return width_ratio_text(text) if text.strip() else ""


class RetrainConfig(RunConfig):
    """Settings of a run that trains a network from scratch. The network is derived from a genotype or is a hand-made baseline.

    Most defaults come from the released training code of ARNAS.
    """

    network: Annotated[str, AfterValidator(network_name)] = setting(
        DERIVED, f"The network to train. {DERIVED}: built from a genotype; or a baseline by name: {FORMS}, for example "
        f"{OFFERED[-1]}. The name of a baseline gives its size (channels and layers have no effect). It has no auxiliary head "
        "and no drop path.",
        group="Network", silent=True)
    genotype: str | None = setting(
        None, "The architecture to train: a catalogue name or a genotype as JSON.", empty="the result of the parent search",
        group="Network", silent=True)
    placement: Literal["", PlacementName] = setting(
        "", "Differs when given: sets the cell kinds before the first reduction, between the two and after the second. "
        f"{THIRDS}.",
        empty=AS_FOUND, group="Network", titles=PLACEMENT_TITLES)
    width_ratio: Annotated[str, AfterValidator(_width_ratio_or_none)] = setting(
        "", "Differs when given: widths of the cells before the first reduction, between the two and after the second, in "
        "units of channels, like 1:2:4. Use 1:1:1 for equal widths.", empty=AS_FOUND, group="Network")
    transplant: str = setting(
        "", "Differs when given: replaces cells before training. accurate:robust replaces the robust cell by a copy of the "
        "accurate one; ADVRUSH.normal:robust takes the new cell from a genotype of the catalogue. Separate several by commas: "
        "accurate:robust, robust:accurate swaps two cells.", empty="none", group="Network")
    channels: int = setting(64, "Channels C of the first cells.", group="Network", silent=True, source="ARNAS code",
                            ge=2, le=1024)
    layers: int = setting(20, "Number of cells.", group="Network", silent=True, source="ARNAS code", ge=3, le=128)
    match: Literal["none", "params", "macs"] = setting(
        "none", "Matches the size of another network. params, macs: overrides channels, or the base channels of a baseline, so "
        "that parameters or MACs are within 5 % of those of match_to, counted without auxiliary heads; none: keeps them.",
        group="Network", silent=True)
    match_to: str = setting(
        "", f"The network to match: GENOTYPE@CHANNELSxLAYERS like ARNAS@64x20, a hand-made one like {OFFERED[0]}, or the id of a "
        "retraining or attack.", empty="none", group="Network", silent=True)
    auxiliary_weight: float = setting(0.4, "Weight of the auxiliary head's loss; 0 for no auxiliary head.",
                                      group="Network", source="ARNAS code", ge=0, le=10)
    auxiliary_input: Literal["clean", "adversarial"] = setting(
        "clean", "Differs when adversarial: selects the images of the auxiliary loss. clean, as published: natural images, in an "
        "extra forward pass that also updates BatchNorm's running statistics; adversarial: adversarial images.",
        group="Network", source="ARNAS code")
    drop_path: float = setting(0.0, "Drop-path probability in the last epoch; grows linearly from 0.",
                               group="Network", source="ARNAS code", ge=0, lt=1)
    training: Literal["pgd_at", "natural", "trades", "fast_at"] = setting(
        "pgd_at", "Differs unless pgd_at: selects the training loss. pgd_at: cross-entropy of the adversarial image (Madry et "
        "al. 2018); natural: cross-entropy of the natural image; trades: natural cross-entropy plus beta times KL to the "
        "adversarial prediction (Zhang et al. 2019); fast_at: like pgd_at, but with a single attack step from a random point of "
        "the ball, in training mode (Wong, Rice and Kolter 2020).", group="Training", source="ARNAS code")
    trades_beta: float = setting(6.0, "beta, the weight of the KL term of TRADES.", group="Training",
                                 source="TRADES, section 5", ge=0, le=1000, deviation="beta {value}")
    epochs: int = setting(200, "Passes over the weights and alphas splits together.", group="Training", silent=True,
                          source="ARNAS code", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step.", group="Training", silent=True, source="ARNAS code", ge=2, le=8192)
    steps_per_epoch: int | None = setting(None, "Number of steps per epoch.", empty="a full pass",
                                          group="Training", silent=True, ge=1)
    learning_rate: float = setting(0.1, "Learning rate of SGD.", group="Training", source="ARNAS code", gt=0, le=10)
    schedule: Literal["step", "cosine", "cyclic"] = setting(
        "step", "Schedule of the learning rate. step: divided by 10 at each milestone; cosine: falls to zero; cyclic: changes in "
        "every step, rises from zero in the first half of the training and falls back to zero in the second (Fast-AT, released "
        "code).", group="Training", source="ARNAS code")
    milestones: str = setting(
        "99/200, 149/200", "Epochs at which the schedule step divides the learning rate by 10, separated by commas: shares of "
        "all epochs (published: after 99 and 149 of 200; Tiny-ImageNet 1/3 and 2/3 of 90) or whole numbers of epochs like 30, "
        "60.", group="Training", source="ARNAS code")
    warmup_epochs: int = setting(0, "Epochs in which the learning rate first rises by equal steps; 0 for none. A cosine schedule "
                                 "covers the epochs after them.", group="Training", unit="epochs", ge=0, le=1000)
    momentum: float = setting(0.9, "Momentum of SGD.", group="Training", source="ARNAS code", ge=0, lt=1)
    weight_decay: float = setting(1e-4, "Weight decay of SGD.", group="Training", source="ARNAS code", ge=0, le=1)
    gradient_clip: float = setting(5.0, "Largest norm of the gradient.", group="Training", source="ARNAS code", gt=0)
    average_decay: float = setting(
        0.0, "Differs above 0: decay of an exponential moving average of weights and BatchNorm statistics. The averaged network "
        "is the one measured, selected and attacked. 0 for none.", group="Training", ge=0, lt=1)
    precision: Literal["float32", "bf16"] = setting(
        "float32", "Differs unless float32: arithmetic of convolutions and matrix products in training and its attack. bf16: "
        "rounds their factors to 7 bits (autocast), for GPUs; float32: full precision. Weights, BatchNorm statistics and all "
        "measurements stay in float32.", group="Training")
    channels_last: bool = setting(
        False, "Stores maps with channels last in memory, which is faster on GPUs with tensor cores, above all in bf16. The "
        "network is the same up to rounding. No effect on maps of at most 8x8 pixels, nor on a derived network on a CPU, which "
        "chooses by itself.", group="Training", silent=True)
    epsilon: Pixels = setting(
        8 / 255, "L-infinity radius of the attack in training and in the selection of the checkpoint, pixel space. 0 only with "
        "natural training: the checkpoint is then selected by natural accuracy.", group="Attack in training", source="ARNAS code",
        deviation="retrained at epsilon {value}")
    step_size: Pixels = setting(0.01, "Step size of PGD in training, pixel space.", group="Attack in training",
                                source="ARNAS code", deviation="retraining step {value}")
    attack_steps: int = setting(7, "Number of PGD steps in training.", group="Attack in training", source="ARNAS code", ge=1,
                                le=1000, deviation="{value} steps in retraining")
    start_noise: float = setting(0.001, "Standard deviation of the normal noise that PGD starts from.",
                                 group="Attack in training", source="ARNAS code", ge=0, le=1,
                                 deviation="start noise {value} in retraining")
    fast_step: float = setting(1.25, "Fast-AT: length of the attack step, in units of epsilon.", group="Fast-AT",
                               source="Fast-AT, released code", unit="epsilon", gt=0, le=2, deviation="Fast-AT step {value}")
    probe_every: int | None = setting(
        None, "Fast-AT: number of steps between probes, which attack the batch by PGD to detect catastrophic overfitting.",
        empty="the first batch of each epoch", group="Fast-AT", silent=True, unit="steps", ge=1)
    probe_steps: int = setting(8, "Fast-AT: PGD steps of a probe, each of size epsilon/4.", group="Fast-AT", silent=True,
                               source="Fast-AT, released code", ge=1, le=1000)
    probe_drop: float = setting(
        0.2, "Fast-AT: alerts when accuracy under PGD falls by more than this below its highest value, while accuracy under FGSM "
        "is still at least that value.", group="Fast-AT", silent=True, source="Fast-AT, released code", gt=0, lt=1)
    selection_steps: int = setting(20, "Steps of the PGD (step size epsilon/4) that ranks checkpoints on the select split.",
                                   group="Selection", silent=True, ge=1, le=1000)
    selection_every: int = setting(1, "Number of epochs between measurements on the select split; the last epoch is always "
                                   "measured.", group="Selection", silent=True, unit="epochs", ge=1)
    crop_padding: int = setting(4, "Padding before a random crop; 0 for no crop.", group="Augmentation",
                                source="ARNAS code", unit="pixels", ge=0, le=64)
    flip: bool = setting(True, "Random horizontal flip.", group="Augmentation", source="ARNAS code")
    cutout: int = setting(16, "Side length of a random square that is blanked; 0 for none.", group="Augmentation",
                          source="ARNAS code", unit="pixels", ge=0, le=64)
    normalise: bool = normalisation(False, "ARNAS code")
    processes: int = setting(
        1, "Processes of one machine that share each batch. On GPUs, each has a GPU of its own, all of one model; on a CPU, they "
        "share the threads. The mathematics is that of one process; results are equal up to rounding.", group="Run", silent=True,
        ge=1, le=64)
    batch_norm: Literal["synchronised", "per_process"] = setting(
        "synchronised", "Differs when per_process, with several processes: selects the statistics that normalise a batch. "
        "synchronised: those of the whole batch, as with one process; per_process: each process uses those of its part, which "
        "saves many small messages, and the running statistics are the means over the processes.", group="Run", silent=True)
    stop_minutes: float | None = stop_minutes("The network is then measured on the select split once more.")
    stop_without_gain: int | None = stop_without_gain()

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"channels": 36, "layers": 14, "epochs": 60, "batch_size": 128},
        # Measured on the select split: 0.97 to 0.99 natural accuracy. In so few epochs, crops of the 8x8 digits lower it.
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
                    f"{', '.join(without)} must be left out for {named_network(self.network).title}, which has no cells, got "
                    f"{', '.join(map(str, without.values()))}; leave out the settings of derived networks, or use network "
                    f"{DERIVED}."})
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
                f"warmup_epochs must be 0 with the cyclic schedule, which begins at zero, got {self.warmup_epochs}; use 0 or "
                "another schedule."})
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(problems={"warmup_epochs":
                f"warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs}; use fewer."})
        return self

    @model_validator(mode="after")
    def _attack_in_training_has_a_radius(self) -> RetrainConfig:
        if not self.epsilon and self.training != "natural":
            raise ConfigError(problems={"epsilon":
                f"epsilon must be above 0 with the training {self.training}, got 0; give a radius such as 8/255, or set training "
                "to natural."})
        return self

    @model_validator(mode="after")
    def _processes_can_share_a_batch(self) -> RetrainConfig:
        if self.processes == 1:
            return self
        if self.batch_size % self.processes or self.batch_size < 2 * self.processes:
            raise ConfigError(problems={"batch_size":
                f"batch_size must be a multiple of the {self.processes} processes and at least twice as large, got "
                f"{self.batch_size}; use {self.processes * max(2, round(self.batch_size / self.processes))} or fewer processes."})
        if self.threads is not None and self.threads % self.processes:
            raise ConfigError(problems={"threads":
                f"threads must be a multiple of the {self.processes} processes, which share them, got {self.threads}; use "
                f"{self.processes * max(1, round(self.threads / self.processes))} or leave threads empty."})
        if self.device.startswith("cuda:"):
            raise ConfigError(problems={"device":
                f"device must be auto, cuda or cpu with {self.processes} processes, which use several GPUs, got {self.device}; "
                "use cuda."})
        return self

    def inert(self) -> set[str]:
        """Return the names of those settings that have no effect on training because of others.

        The kind of `training` decides which settings of the attack it uses. In natural training it does not use `epsilon`, which
        then affects only the selection of the checkpoint. With one process, `batch_norm` has no effect.
        """
        used = {"pgd_at": {"epsilon", "step_size", "attack_steps", "start_noise"}, "natural": set(),
                "trades": {"epsilon", "step_size", "attack_steps", "start_noise", "trades_beta"},
                "fast_at": {"epsilon", "fast_step"}}[self.training]
        unused = {"epsilon", "step_size", "attack_steps", "start_noise", "trades_beta", "fast_step"} - used
        return unused | ({"batch_norm"} if self.processes == 1 else set())

    @property
    def names_its_network(self) -> bool:
        """True if the settings name the network or the genotype to train. Otherwise, the run trains the result of a search."""
        return self.network != DERIVED or bool(self.genotype)

    def deviations(self) -> list[str]:
        """Return phrases for the name of the run, one for each deviation from the published network and training."""
        names = [str(graft) for graft in read_grafts(self.transplant)]
        names += [f"retrained with {in_sentence(RULES[self.placement].title)}"] if self.placement else []
        names += [f"retrained at widths {self.width_ratio}"] if self.width_ratio else []
        names += {"pgd_at": [], "natural": ["natural training"], "trades": ["TRADES"], "fast_at": ["Fast-AT"]}[self.training]
        if self.auxiliary_weight and self.auxiliary_input == "adversarial":
            names.append("auxiliary loss on adversarial images")
        names += ["retrained on normalised images"] if self.normalise else []
        names += [f"BatchNorm of {self.processes} processes"] if self.processes > 1 and self.batch_norm == "per_process" else []
        names += [f"EMA {self.average_decay:g}"] if self.average_decay else []
        return names + (["bf16"] if self.precision == "bf16" else [])


# Settings that only networks derived from a genotype use, with the values that they must have for a hand-made network.
OF_DERIVED: Mapping[str, Any] = {"genotype": None, "transplant": "", "placement": "", "width_ratio": "",
                                 "auxiliary_weight": 0.0, "drop_path": 0.0}


def network_values(network: object) -> dict[str, Any]:
    """Return {name of the setting: value} for the settings that a hand-made network requires.

    A hand-made network has no auxiliary head and no drop path, so these are turned off even if the preset turns them on. The
    result is empty for a network derived from a genotype.

    Args:
        network: value of the setting `network`, not validated yet.
    """
    return {} if str(network).strip().lower() == DERIVED else {"auxiliary_weight": 0.0, "drop_path": 0.0}

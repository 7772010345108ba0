"""Settings of the three run kinds as pydantic classes: defaults, bounds, help and source in one place.

Forms, command-line flags and `run.json` are all derived from these classes. A default is the published setting wherever a
field names its source; what a dataset or a preset changes is laid over it by `build`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from engine.attack import ATTACKS
from engine.data import DATASETS, Dataset
from engine.data.splits import split_sizes
from engine.errors import ConfigError
from engine.placement import (
    RULES,
    SMALLEST_AUXILIARY_IMAGE,
    PlacementName,
    width_ratio_text,
)
from engine.registry import Registry, unknown_name
from engine.residual import DERIVED, OFFERED, RESNETS, WIDE, hand_made, network_name
from engine.run.folder import KINDS
from engine.search.registries import OBJECTIVES, WEIGHTINGS  # noqa: F401  (forms and pages read them here)
from engine.train.schedule import milestone_epochs
from engine.transplant import read_grafts

# Of searches, where it is not the default of every method.
BEFORE_THEY_WERE_SETTINGS = {"cutout": 0, "normalise": False}
PRESETS = {
    "quick": "A demonstration on two CPU cores in minutes; not a result for a paper.",
    "scout": "Hours on one GPU: a look before the real run.",
    "paper": "The published settings.",
    "smoke": "Sixty-four images and two steps: for the project's own tests.",
}


def parse_pixels(value: Any) -> Any:
    """Reads "8/255" as a float; anything else is left to pydantic. Values are in pixel space, 0..1."""
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            return value
    return value


def pixels_text(value: float) -> str:
    """The way back from `parse_pixels`: "8/255" for a whole number of grey levels, else the number to six digits."""
    levels = round(value * 255)
    return f"{levels}/255" if 0 < levels < 255 and abs(levels - value * 255) < 1e-6 else f"{value:.6g}"


Pixels = Annotated[float, BeforeValidator(parse_pixels), Field(ge=0, le=1)]


def is_pixels(info: FieldInfo) -> bool:
    """Whether a field is a value in pixel space (0..1) that may be written "8/255"."""
    return any(isinstance(part, BeforeValidator) for part in info.metadata)


def setting(default: Any, text: str, *, group: str, source: str = "", unit: str = "", titles: Mapping[str, str] | None = None,
            **bounds: Any) -> Any:
    """A field with everything that a form, a flag and the documentation show.

    Args:
        default: the published value where there is one.
        text: what the setting means, one or two plain sentences. One that can leave the published mathematics begins
            with "Differs" and when it does.
        group: heading under which forms put it.
        source: paper or code the default comes from.
        unit: unit of the value where the type cannot say.
        titles: what a form calls each choice, where its name is for files.
        bounds: ge, gt, le, lt, multiple_of for pydantic.
    """
    extra: dict[str, Any] = {"group": group, "source": source, "unit": unit} | ({"titles": dict(titles)} if titles else {})
    return Field(default, description=text, json_schema_extra=extra, **bounds)


WidthRatio = Annotated[str, AfterValidator(width_ratio_text)]
PLACEMENT_TITLES = {name: rule.title for name, rule in RULES.items()}
_THIRDS = "; ".join(f"{name}: {', '.join(' and '.join(kinds) for kinds in rule.thirds)}" for name, rule in RULES.items())


def placement_setting(default: PlacementName, source: str, note: str = "", group: str = "Supernet") -> Any:
    """The setting `placement` of a method that is published with the rule `default`. note: a further sentence of the help."""
    return setting(
        default, f"Differs unless {default}: which kinds of cells there are, and which of them stand before the first reduction, "
        f"before the second and behind it. {_THIRDS}.{' ' + note if note else ''}", group=group, source=source,
        titles=PLACEMENT_TITLES)


def width_ratio_setting(default: str, source: str, note: str = "", group: str = "Supernet") -> Any:
    """The setting `width_ratio` of a method that is published with `default`. note: as `placement_setting`."""
    return setting(
        default, f"Differs unless {default}: widths of the cells before the first reduction, before the second and behind it, in "
        f"units of channels. Three whole numbers from 1 to 16, the first of them 1; 1:1:1 for equal widths."
        f"{' ' + note if note else ''}", group=group, source=source)


def normalisation(default: bool, source: str) -> Any:
    """The setting `normalise` of a class whose published code normalises images (True) or leaves them in 0..1."""
    return setting(
        default, f"Differs when {'off' if default else 'on'}: the network subtracts from each image channel its mean and divides "
        "by its standard deviation (published numbers on CIFAR-10, CIFAR-100 and SVHN, elsewhere those of the training images). "
        "Attacks stay in pixels; a square that is cut out is blanked with the mean.", group="Deviations", source=source)


class RunConfig(BaseModel):
    """What all kinds share. Frozen: what is logged is what ran."""

    # JSON has no infinity, so no setting may have it.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Values laid over the defaults by preset name. `paper` is empty by definition. In `quick`, a search takes two threads, one
    # for each of two passes side by side; retraining and attack take one, since on such small tensors a second thread costs
    # more than it computes.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}

    dataset: str = setting("digits", "Which images.", group="Data")
    images: int | None = setting(
        None, "Use only this many images of each split (stratified); empty for all.", group="Data", ge=8
    )
    seed: int = setting(2, "Seed of every random choice of the run.", group="Run", source="ARNAS code, search", ge=0,
                        le=2**31 - 1)
    device: str = setting(
        "auto", "auto, cpu, cuda or cuda:N. auto takes the first free GPU, else the CPU.", group="Run",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )
    threads: int | None = setting(
        None, "CPU threads; empty: all cores when the run is alone at its first start, else one. Kept for its life.",
        group="Run", ge=1, le=256,
    )

    @model_validator(mode="after")
    def _dataset_is_known(self) -> RunConfig:
        DATASETS[self.dataset]
        return self

    def datasets(self) -> tuple[Dataset, ...]:
        """Everything that the run reads images of, its own dataset first."""
        return (DATASETS[self.dataset],)

    def deviations(self) -> list[str]:
        """What this configuration changes of the published mathematics, as it appears behind the run's name."""
        return []


class SearchConfig(RunConfig):
    """What every search method shares; a method's own class adds to it."""

    # Whether the method searches on a supernet, by architecture weights. One that does not trains networks of their own, its
    # candidates, and measures each on the alphas split: those images are then not augmented.
    on_supernet: ClassVar[bool] = True

    epochs: int = setting(50, "Passes over the weights split.", group="Schedule", source="ARNAS code", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step, drawn from each of the weights and alphas splits.",
                              group="Schedule", source="ARNAS code", ge=2, le=8192)
    steps_per_epoch: int | None = setting(None, "Stop each epoch after this many steps; empty for a full pass.",
                                          group="Schedule", ge=1)
    channels: int = setting(24, "Channels C of the first cells of the supernet; even.", group="Supernet",
                            source="ARNAS code", ge=2, le=512)
    layers: int = setting(8, "Cells of the supernet.", group="Supernet", source="ARNAS code", ge=4, le=64)
    placement: PlacementName = placement_setting("normal", "DARTS code")
    width_ratio: WidthRatio = width_ratio_setting("1:2:4", "DARTS code")
    weights_learning_rate: float = setting(0.025, "Learning rate of SGD on the weights at the first epoch.",
                                           group="Weights", source="ARNAS code", gt=0, le=10)
    weights_learning_rate_min: float = setting(0.001, "Its value at the end of the cosine schedule.", group="Weights",
                                               source="ARNAS code", ge=0, le=10)
    momentum: float = setting(0.9, "Momentum of SGD.", group="Weights", source="ARNAS code", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "Weight decay of SGD.", group="Weights", source="ARNAS code", ge=0, le=1)
    gradient_clip: float = setting(5.0, "Largest norm of the weight gradient.", group="Weights", source="ARNAS code", gt=0)
    crop_padding: int = setting(4, "Random crop after padding by this many pixels; 0 for none.", group="Augmentation",
                                source="ARNAS code", unit="pixels", ge=0, le=64)
    flip: bool = setting(True, "Random horizontal flip.", group="Augmentation", source="ARNAS code")
    cutout: int = setting(0, "Side of the square that is blanked; 0 for none.", group="Augmentation", source="ARNAS code",
                          unit="pixels", ge=0, le=64)
    normalise: bool = normalisation(False, "ARNAS code")

    @property
    def out_of_distribution(self) -> Dataset | None:
        """The dataset of which a batch of images comes with every step, beside the batches of the search's own; None for none.

        `OutOfDistributionConfig` has the setting that names it.
        """
        return None

    def datasets(self) -> tuple[Dataset, ...]:
        """See `RunConfig.datasets`."""
        return (*super().datasets(), *([self.out_of_distribution] if self.out_of_distribution else []))

    def supernet_settings(self) -> dict[str, Any]:
        """Arguments of `engine.space.supernet.Supernet` beside the cell kinds, the primitives and the sizes."""
        return {}

    @classmethod
    def weighs(cls, values: Mapping[str, Any]) -> bool:
        """Whether a search weighs several objectives, at least in one of its stages.

        Args:
            values: of its settings, perhaps by an older version.
        """
        return not cls.model_fields.keys().isdisjoint(("weighting", "solver"))

    def training_epoch(self, epoch: int) -> tuple[int, int]:
        """(which epoch of the training of one network it is, from 0; epochs of that training) of an epoch of the search.

        They decide the learning rate, and the first decides all random numbers: networks trained one after the other meet the
        same images in the same order. In a pair of equal numbers the training is over.
        """
        return epoch, self.epochs

    @model_validator(mode="after")
    def _channels_are_even(self) -> SearchConfig:
        if self.channels % 2:
            raise ValueError(f"channels must be even (a reduction splits them in two halves), got {self.channels}; "
                             f"take {self.channels + 1}")
        return self

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        fields, names = type(self).model_fields, super().deviations()
        if self.placement != fields["placement"].default:
            names.append(in_sentence(RULES[self.placement].title))
        if self.width_ratio != fields["width_ratio"].default:
            names.append(f"widths {self.width_ratio}")
        if self.normalise != fields["normalise"].default:
            names.append("images normalised" if self.normalise else "images not normalised")
        return names


def in_sentence(title: str) -> str:
    """A title as it stands inside a sentence: "robust cells first"."""
    return title[:1].lower() + title[1:]


def _width_ratio_or_none(text: str) -> str:
    return width_ratio_text(text) if text.strip() else ""


class RetrainConfig(RunConfig):
    """Training of a derived network from scratch (ARNAS, released training code), or of a hand-made one to compare it with."""

    network: Annotated[str, AfterValidator(network_name)] = setting(
        DERIVED, f"{DERIVED}: from a genotype. Or a hand-made one to compare with: {', '.join(RESNETS)} or {WIDE}N-K (N layers, "
        f"widened K times) like {WIDE}28-10. Its size is its own: channels and layers do not count, and it has neither auxiliary "
        "head nor drop path.", group="Network")
    genotype: str | None = setting(
        None, "A catalogue name or a genotype as JSON; empty for what the parent search found.", group="Network")
    placement: Literal["", PlacementName] = setting(
        "", f"Differs when given: which cells stand before the first reduction, before the second and behind it; empty for as "
        f"searched or published (the parent search's; of a given genotype, the published one). {_THIRDS}.", group="Network",
        titles=PLACEMENT_TITLES)
    width_ratio: Annotated[str, AfterValidator(_width_ratio_or_none)] = setting(
        "", "Differs when given: widths of the cells before the first reduction, before the second and behind it, in units of "
        "channels, like 1:2:4; 1:1:1 for equal widths; empty for as searched or published (the parent search's; of a given "
        "genotype, the published one).", group="Network")
    transplant: str = setting(
        "", "Differs when given: cells put in the place of others before training. accurate:robust has the accurate cell also "
        "where the robust one stood, ADVRUSH.normal:robust takes it from the catalogue; several with commas, so that "
        "accurate:robust, robust:accurate changes places; empty for none.", group="Network")
    channels: int = setting(64, "Channels C of the first cells.", group="Network", source="ARNAS code", ge=2, le=1024)
    layers: int = setting(20, "Cells of the network.", group="Network", source="ARNAS code", ge=3, le=128)
    match: Literal["none", "params", "macs"] = setting(
        "none", "params or macs: chooses the channels so that the network has the parameters or MACs of match_to within 5 %, "
        "counted without auxiliary head; what channels says does not count then. none: channels as they are.", group="Network")
    match_to: str = setting(
        "", f"The network to match: GENOTYPE@CHANNELSxLAYERS like ARNAS@64x20, a hand-made one like {OFFERED[0]}, or the id of a "
        "retraining or attack; empty for none.", group="Network")
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
    trades_beta: float = setting(6.0, "beta of TRADES.", group="Training", source="TRADES, section 5", ge=0, le=1000)
    epochs: int = setting(200, "Passes over the weights and alphas splits together.", group="Training",
                          source="ARNAS code", ge=1, le=10_000)
    batch_size: int = setting(32, "Images per step.", group="Training", source="ARNAS code", ge=2, le=8192)
    steps_per_epoch: int | None = setting(None, "Stop each epoch after this many steps; empty for a full pass.",
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
    epsilon: Pixels = setting(8 / 255, "L-infinity radius of the attack in training.", group="Attack in training",
                              source="ARNAS code")
    step_size: Pixels = setting(0.01, "Step of PGD.", group="Attack in training", source="ARNAS code")
    attack_steps: int = setting(7, "Steps of PGD.", group="Attack in training", source="ARNAS code", ge=1, le=1000)
    start_noise: float = setting(0.001, "Standard deviation of the normal noise PGD starts from.",
                                 group="Attack in training", source="ARNAS code", ge=0, le=1)
    fast_step: float = setting(1.25, "Fast-AT: length of its one step, in units of epsilon.", group="Fast-AT",
                               source="Fast-AT, released code", unit="epsilon", gt=0, le=2)
    probe_every: int | None = setting(
        None, "Fast-AT: every so many steps, attack the batch by PGD as well, to notice catastrophic overfitting; empty for the "
        "first batch of each epoch.", group="Fast-AT", unit="steps", ge=1)
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
                raise ValueError(f"{', '.join(without)} must be left out of the hand-made {hand_made(self.network).title}, which "
                                 f"has no cells, got {', '.join(map(str, without.values()))}; leave out what belongs to derived "
                                 f"networks, or take network {DERIVED}")
        read_grafts(self.transplant)
        if (self.match == "none") != (not self.match_to):
            raise ValueError(f"match and match_to must be given together, got match {self.match!r} and match_to "
                             f"{self.match_to!r}; give both or neither")
        side = min(DATASETS[self.dataset].image_shape[1:])
        if self.auxiliary_weight and side < SMALLEST_AUXILIARY_IMAGE:
            raise ValueError(f"auxiliary_weight must be 0 for images smaller than {SMALLEST_AUXILIARY_IMAGE} pixels (the "
                             f"auxiliary head needs 5x5 maps after the second reduction), got {self.auxiliary_weight} for "
                             f"{side} pixels")
        return self

    @model_validator(mode="after")
    def _schedule_fits_the_epochs(self) -> RetrainConfig:
        if self.schedule == "step":
            milestone_epochs(self.milestones, self.epochs)
        if self.warmup_epochs and self.schedule == "cyclic":
            raise ValueError(f"warmup_epochs must be 0 with the cyclic schedule, which begins at zero by itself, got "
                             f"{self.warmup_epochs}; take 0 or another schedule")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs}; take fewer")
        return self

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        names = [str(graft) for graft in read_grafts(self.transplant)]
        names += [f"retrained with {in_sentence(RULES[self.placement].title)}"] if self.placement else []
        names += [f"retrained at widths {self.width_ratio}"] if self.width_ratio else []
        names += {"pgd_at": [], "natural": ["natural training"], "trades": ["TRADES"], "fast_at": ["Fast-AT"]}[self.training]
        names += ["auxiliary loss on adversarial images"] if self.auxiliary_input == "adversarial" else []
        names += ["images normalised"] if self.normalise else []
        names += [f"EMA {self.average_decay:g}"] if self.average_decay else []
        return names + (["bf16"] if self.precision == "bf16" else [])


# What a network without cells and auxiliary head must leave as it is, and at what.
OF_DERIVED: Mapping[str, Any] = {"genotype": None, "transplant": "", "placement": "", "width_ratio": "", "match": "none",
                                 "auxiliary_weight": 0.0, "drop_path": 0.0}


class AttackConfig(RunConfig):
    """Evaluation of a retrained network on the test split."""

    checkpoint: Literal["best", "last"] = setting(
        "best", "Differs when last: attacks the network as it was after the last epoch. best: after the epoch that withstood PGD "
        "best on the select split (published: the highest clean accuracy on the test set).", group="Attacks")
    attacks: tuple[str, ...] = setting(("fgsm", "pgd-20", "autoattack"), "Which attacks, in this order.", group="Attacks",
                                       source="ARNAS code")
    epsilon: Pixels = setting(8 / 255, "L-infinity radius, pixel space.", group="Attacks", source="ARNAS code")
    step_size: Pixels = setting(2 / 255, "Step of PGD.", group="Attacks", source="ARNAS code")
    autoattack_images: int | None = setting(
        None, "AutoAttack on this many images of the test split (fixed, stratified); empty for all.", group="Attacks", ge=10)
    batch_size: int = setting(100, "Images per block; an interrupted attack resumes at a block.", group="Run", ge=1, le=8192)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "scout": {"autoattack_images": 1000},
        "quick": {"autoattack_images": 64, "batch_size": 64, "threads": 1},
        "smoke": {"attacks": ("fgsm", "pgd-20"), "images": 64, "batch_size": 32},
    }

    @model_validator(mode="after")
    def _attacks_are_known(self) -> AttackConfig:
        classes = DATASETS[self.dataset].classes
        if not self.attacks or len(set(self.attacks)) < len(self.attacks):
            raise ValueError(f"attacks must name at least one attack and each only once, got {list(self.attacks)}")
        for attack in (ATTACKS[name] for name in self.attacks):
            if classes < attack.min_classes:
                raise ValueError(f"{attack.title} needs a dataset of at least {attack.min_classes} classes, got {classes}")
        return self

    def deviations(self) -> list[str]:
        """See `RunConfig.deviations`."""
        return ["last checkpoint"] if self.checkpoint == "last" else []


@dataclass(frozen=True)
class Method:
    """A search method as the page and the command line know it, without its mathematics.

    Attributes:
        name: registry name, for example "arnas".
        title: name in print, for example "ARNAS".
        summary: one or two sentences: what it optimises and how.
        source: paper, venue, arXiv number.
        config: its configuration class.
        implementation: "module:class" that is imported only when a search runs.
        published: whether a paper fixes its settings; else the preset `paper` holds our defaults.
    """

    name: str
    title: str
    summary: str
    source: str
    config: type[SearchConfig]
    implementation: str
    published: bool = True


METHODS: Registry[Method] = Registry("method")


def config_class(kind: str, method: str | None = None) -> type[RunConfig]:
    """The configuration class of a run kind (and, for searches, of a method).

    Raises:
        ConfigError: unknown kind or method.
    """
    if kind == "search":
        return METHODS[method or ""].config
    if kind not in KINDS:
        raise ConfigError(unknown_name("run kind", kind, KINDS))
    return RetrainConfig if kind == "retrain" else AttackConfig


def preset_values(kind: str, method: str | None, dataset: str, preset: str) -> dict[str, Any]:
    """The values of a preset: published defaults, then the dataset's own, then the preset's.

    Raises:
        ConfigError: unknown kind, method, dataset or preset.
    """
    cls = config_class(kind, method)
    facts = DATASETS[dataset]
    if preset not in cls.presets:
        raise ConfigError(unknown_name("preset", preset, cls.presets))
    values = {name: info.default for name, info in cls.model_fields.items()}
    values |= _of_dataset(cls, facts)
    values |= cls.presets[preset]
    if preset == "quick":
        values |= {name: value for name, value in facts.quick.items() if name in cls.model_fields}
    # A preset's number of images is meant for large test splits: a smaller one is attacked as a whole.
    if (values.get("autoattack_images") or 0) > split_sizes(facts)["test"]:
        values["autoattack_images"] = None
    return values


def _of_dataset(cls: type[RunConfig], facts: Dataset) -> dict[str, Any]:
    """The values that a dataset asks for, of the fields that the class has."""
    asked = {"dataset": facts.name, "epsilon": facts.epsilon, "step_size": facts.step_size, **facts.defaults}
    if facts.step_size is None:
        del asked["step_size"]
    if "cutout" in cls.model_fields and not cls.model_fields["cutout"].default:
        asked.pop("cutout", None)  # a dataset says how large the square is, a method whether there is one
    if issubclass(cls, RetrainConfig):
        asked |= facts.retraining
    return {name: value for name, value in asked.items() if name in cls.model_fields}


def network_values(network: object) -> dict[str, Any]:
    """The values that a hand-made network asks for, laid over those of the preset: it has no auxiliary head and no paths.

    network: what RetrainConfig.network is to be, before anything of it is checked.
    """
    return {} if str(network).strip().lower() == DERIVED else {"auxiliary_weight": 0.0, "drop_path": 0.0}


def build(kind: str, method: str | None = None, dataset: str = "digits", preset: str = "quick",
          changes: Mapping[str, Any] | None = None) -> RunConfig:
    """A complete, validated configuration.

    Args:
        kind: "search", "retrain" or "attack".
        method: search method; ignored by the other kinds.
        dataset: registry name.
        preset: one of `PRESETS`.
        changes: the user's own values, laid over the preset's.

    Raises:
        ConfigError: an unknown name or field, or a value out of its bounds, as one sentence per problem.
    """
    changes = dict(changes or {})
    values = preset_values(kind, method, dataset, preset) | network_values(changes.get("network", DERIVED)) | changes
    return validate(config_class(kind, method), values)


def validate(cls: type[RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """`cls(**values)` with pydantic's report turned into our sentences.

    Raises:
        ConfigError: as `build`.
    """
    try:
        return cls(**values)
    except ValidationError as report:
        raise ConfigError(" ".join(_sentence(cls, problem) for problem in report.errors())) from None


def recorded(cls: type[RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """The configuration that a run's record holds: a setting younger than the run has the value that it ran with.

    Raises:
        ConfigError: as `build`.
    """
    return validate(cls, (BEFORE_THEY_WERE_SETTINGS if issubclass(cls, SearchConfig) else {}) | dict(values))


def _sentence(cls: type[RunConfig], problem: Mapping[str, Any]) -> str:
    field = str(problem["loc"][0]) if problem["loc"] else ""
    got = problem.get("input")
    if problem["type"] == "extra_forbidden":
        return unknown_name("setting", field, cls.model_fields)
    if problem["type"] == "value_error":  # our own sentence, raised in a validator
        return f"{problem['ctx']['error']}."
    if cls.model_fields[field].annotation is float and field in ("epsilon", "step_size") and _is_number(got) and got > 1:
        return f"{field} must be in 0..1 (pixel space), got {got}; did you mean {got:g}/255?"
    expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    if problem["type"] == "string_pattern_mismatch":  # the help names the choices, the pattern is for machines
        expected = str(cls.model_fields[field].description).split(".")[0]
    return f"{field} must be {expected}, got {got!r}; give such a value."


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Difference:
    """One setting whose value is not the published one."""

    field: str
    value: Any
    paper: Any


def published_values(cls: type[RunConfig], dataset: str) -> dict[str, Any]:
    """The published value of every setting of a class, its default where none is published. On a dataset of the papers these are
    the settings for that dataset; on another, those for CIFAR-10."""
    facts = DATASETS[dataset]
    defaults = {name: info.default for name, info in cls.model_fields.items()}
    return defaults | _of_dataset(cls, facts if facts.published else DATASETS["cifar10"])


def differences_from_paper(config: RunConfig) -> list[Difference]:
    """Every setting of `config` that differs from the `published_values` of its class, in the order of the class."""
    reference = published_values(type(config), config.dataset)
    ignored = {"seed", "device", "threads", "genotype", "network"}
    if getattr(config, "network", DERIVED) != DERIVED:
        ignored |= {"channels", "layers"}  # they do not count
    return [Difference(name, value, reference[name]) for name, value in config.model_dump().items()
            if name not in ignored and value != reference[name]]


from engine.search import methods  # noqa: E402, F401  (methods register themselves)

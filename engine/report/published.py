"""Accuracies that papers and leaderboards claim. They never share a table with our measurements.

The networks are in blocks, one per source. Networks of different blocks must not be ranked together, because they were measured
in different ways. ARNAS and DSARA are missing because no public page gives their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CIFAR10, CIFAR100 = "cifar10", "cifar100"
ROBUST_RESIDUAL = "zhichao-lu/robust-residual-network, README (Huang et al. 2023), mean of 3 seeds"
WSR_NAS = "zhicheng2T0/Wsr-NAS, results table (Cheng et al. 2023)"
ROBUSTBENCH = "RobustBench/robustbench, README at commit 78fcc9e"


@dataclass(frozen=True)
class Claim:
    """One published network. It belongs to a `Block` of networks that share a source and a protocol.

    Attributes:
        method: name of the network or method in the source.
        accuracies: accuracy in per cent for each column of the block's table; None where the source gives none.
        parameters: number of parameters in millions; None if the source does not give it.
        training: description of the training; "" if all networks of the block were trained in the same way.
        extra_data: kind of additional training images that are not from the dataset, for example "synthetic extra images"; "" for
            none.
        recreated: True if the authors of the source measured a network of other authors.
    """

    method: str
    accuracies: tuple[float | None, ...]
    parameters: float | None = None
    training: str = ""
    extra_data: str = ""
    recreated: bool = False


@dataclass(frozen=True)
class Block:
    """Published networks that share a source and a protocol.

    Attributes:
        title: title of the block.
        dataset: registry name of the dataset.
        protocol: description of how the networks were measured.
        source: publication or page with the numbers.
        columns: titles of the accuracies.
        claims: the networks, in the order of the source.
        note: a sentence on how to read the block; "" for none.
        digits: smallest number of decimals in the source.
    """

    title: str
    dataset: str
    protocol: str
    source: str
    columns: tuple[str, ...]
    claims: tuple[Claim, ...]
    note: str = ""
    digits: int = 2


def blocks_of(dataset: str) -> list[Block]:
    """Return the published results on a dataset. The networks of a `Block` share a source and a protocol."""
    return [block for block in BLOCKS if block.dataset == dataset]


# Method, millions of parameters, then CIFAR-10 and CIFAR-100: natural, PGD-20, CW-40, AutoAttack.
_RESIDUAL: tuple[tuple[str, float, tuple[float, ...], tuple[float, ...]], ...] = (
    ("WRN-28-10", 36.5, (84.62, 55.90, 53.15, 51.66), (56.30, 29.91, 26.22, 25.26)),
    ("RobNet-large-v2", 33.3, (84.57, 52.79, 48.94, 47.48), (55.27, 29.23, 24.63, 23.69)),
    ("AdvRush", 32.6, (84.95, 56.99, 53.27, 52.90), (56.40, 30.40, 26.16, 25.27)),
    ("RACL", 32.5, (83.91, 55.98, 53.22, 51.37), (56.09, 30.38, 26.65, 25.65)),
    ("RobustResNet-A1", 19.2, (85.46, 58.47, 55.72, 54.42), (59.34, 32.70, 27.76, 26.75)),
    ("WRN-34-12", 66.5, (84.93, 56.01, 53.53, 51.97), (56.08, 29.87, 26.51, 25.47)),
    ("WRN-34-R", 68.1, (85.80, 57.35, 54.77, 53.23), (58.78, 31.17, 27.33, 26.31)),
    ("RobustResNet-A2", 39.0, (85.80, 59.72, 56.74, 55.49), (59.38, 33.00, 28.71, 27.68)),
    ("WRN-46-14", 128, (85.22, 56.37, 54.19, 52.63), (56.78, 30.03, 27.27, 26.28)),
    ("RobustResNet-A3", 75.9, (86.79, 60.10, 57.29, 55.84), (60.16, 33.59, 29.58, 28.48)),
    ("WRN-70-16", 267, (85.51, 56.78, 54.52, 52.80), (56.93, 29.76, 27.20, 26.12)),
    ("RobustResNet-A4", 147, (87.10, 60.26, 57.90, 56.29), (61.66, 34.25, 30.04, 29.00)),
)

# Method, training, millions of parameters, then natural, mean robust, epsilon 0.03, 0.1, 0.17, 0.25 and FGSM, re-created or not.
_WSR: tuple[tuple[str, str, float, tuple[float | None, ...], bool], ...] = (
    ("WRN-34-10", "standard", 46.2, (95.01, None, 0, None, None, None, 0), False),
    ("ResNet-50", "multi-adv", 23.5, (80.2, 14.8, 37.0, 12.5, 6.3, 3.5, None), True),
    ("ResNet-18", "PGD-7", 11.2, (78.4, None, 45.6, None, None, None, 49.8), False),
    ("ResNet-50", "PGD-7", 23.5, (79.2, None, 45.8, None, None, None, 53.6), False),
    ("WRN-34-10", "TRADES-1", 46.2, (88.6, 20.8, 46.1, 18.1, 11.2, 7.9, None), True),
    ("AmoebaNet", "PGD-7", 3.2, (83.4, None, 39.5, None, None, None, 56.4), False),
    ("PVLL", "PGD-7", 3.5, (81.3, 18.6, 47.4, 15.7, 7.3, 3.8, None), True),
    ("NASNet", "TRADES-1", 3.3, (91.8, 17.4, 49.1, 15.5, 4.4, 0.5, None), True),
    ("DARTS", "TRADES-1", 3.2, (91.5, 14.4, 46.9, 9.3, 1.23, 0.1, None), True),
    ("RobNet-S", "PGD-7", 4.4, (78.1, None, 48.3, None, None, None, 53.9), False),
    ("RobNet-M", "PGD-7", 5.7, (78.3, None, 49.1, None, None, None, 54.6), False),
    ("RobNet-L", "PGD-7", 6.9, (78.6, 13.8, 49.4, 3.1, 1.8, 0.7, 55.0), False),
    ("RACL", "PGD-7", 3.6, (80.7, 23.4, 47.9, 22.4, 14.0, 9.4, 57.7), True),
    ("AdvRush", "PGD-7", 4.2, (82.0, 21.7, 48.7, 22.3, 10.8, 4.9, None), True),
    ("RobNet-S", "TRADES-1", 4.4, (90.5, 15.8, 46.9, 11.6, 4.11, 1.27, None), False),
    ("RACL", "TRADES-1", 3.6, (91.0, 15.4, 46.9, 11.6, 2.8, 0.3, None), True),
    ("AdvRush", "TRADES-1", 4.2, (91.6, 15.8, 48.2, 11.8, 3.1, 0.3, None), True),
    ("E2RNAS", "TRADES-1", 4.0, (90.1, 18.0, 40.5, 14.5, 10.2, 6.9, None), True),
    ("NAS-OOD", "TRADES-1", 4.4, (91.2, 21.3, 50.3, 20.6, 10.5, 3.8, None), True),
    ("WsrNet-Naive-1", "TRADES-1", 4.4, (89.6, 21.7, 45.8, 19.1, 13.3, 8.6, None), False),
    ("WsrNet-Naive-3", "TRADES-1", 4.5, (89.6, 22.1, 45.9, 20.3, 13.3, 8.7, None), False),
    ("WsrNet-Naive-6", "TRADES-1", 4.4, (91.2, 22.9, 46.3, 20.1, 15.6, 9.41, None), False),
    ("WsrNet-Basic", "PGD-7", 4.5, (80.8, 24.8, 48.9, 22.3, 15.7, 12.4, 62.2), False),
    ("WsrNet-Robust", "PGD-7", 4.5, (78.3, 27.9, 48.4, 27.2, 20.3, 15.5, 67.2), False),
    ("WsrNet-Plus", "PGD-7", 4.7, (80.7, 25.7, 48.9, 23.1, 17.0, 13.7, None), False),
    ("WsrNet-Basic", "TRADES-1", 4.5, (90.4, 22.4, 45.9, 20.0, 14.1, 9.4, None), False),
    ("WsrNet-Plus", "TRADES-1", 4.7, (91.3, 24.2, 47.5, 22.1, 16.0, 11.3, None), False),
)

# Entry of RobustBench, architecture, natural and AutoAttack accuracy.
_ROBUSTBENCH10: tuple[tuple[str, str, float, float], ...] = (
    ("Peng2023Robust", "RaWideResNet-70-16", 93.27, 71.07),
    ("Gowal2020Uncovering_28_10_extra", "WRN-28-10", 89.48, 62.76),
    ("Huang2021Exploring_ema", "WRN-34-R", 91.23, 62.54),
    ("Huang2021Exploring", "WRN-34-R", 90.56, 61.56),
    ("Wu2020Adversarial_extra", "WRN-28-10", 88.25, 60.04),
    ("Carmon2019Unlabeled", "WRN-28-10", 89.69, 59.53),
    ("Addepalli2022Efficient_WRN_34_10", "WRN-34-10", 88.71, 57.81),
    ("Wu2020Adversarial", "WRN-34-10", 85.36, 56.17),
    ("Sehwag2021Proxy_R18", "ResNet-18", 84.59, 55.54),
    ("Rice2020Overfitting", "WRN-34-20", 85.34, 53.42),
    ("Zhang2019Theoretically", "WRN-34-10", 84.92, 53.08),
    ("Addepalli2022Efficient_RN18", "ResNet-18", 85.71, 52.48),
    ("Addepalli2021Towards_RN18", "ResNet-18", 80.24, 51.06),
    ("Engstrom2019Robustness", "ResNet-50", 87.03, 49.25),
    ("Andriushchenko2020Understanding", "PreActResNet-18", 79.84, 43.93),
    ("Wong2020Fast", "PreActResNet-18", 83.34, 43.21),
)
_ROBUSTBENCH100: tuple[tuple[str, str, float, float], ...] = (
    ("Wang2023Better_WRN-70-16", "WRN-70-16", 75.22, 42.66),
    ("Wang2023Better_WRN-28-10", "WRN-28-10", 72.58, 38.77),
    ("Gowal2020Uncovering", "WRN-70-16", 60.86, 30.03),
    ("Wu2020Adversarial", "WRN-34-10", 60.38, 28.86),
    ("Addepalli2022Efficient_RN18", "ResNet-18", 65.45, 27.67),
    ("Rice2020Overfitting", "PreActResNet-18", 53.83, 18.95),
)
# Further training images, per the field `additional_data` and the footnotes of the entries' files in the same repository.
_REAL, _SYNTHETIC = "extra images", "synthetic extra images"
_EXTRA = dict.fromkeys(("Gowal2020Uncovering_28_10_extra", "Huang2021Exploring_ema", "Huang2021Exploring",
                        "Wu2020Adversarial_extra", "Carmon2019Unlabeled"), _REAL) | dict.fromkeys(
    ("Peng2023Robust", "Sehwag2021Proxy_R18", "Wang2023Better_WRN-70-16", "Wang2023Better_WRN-28-10"), _SYNTHETIC)


def _leaderboard(rows: Sequence[tuple[str, str, float, float]]) -> tuple[Claim, ...]:
    return tuple(Claim(f"{name} ({architecture})", (natural, robust), extra_data=_EXTRA.get(name, ""))
                 for name, architecture, natural, robust in rows)


_TRADES = "L∞ 8/255, TRADES training, 10,000 test images"
_FOUR = ("Natural", "PGD-20", "CW-40", "AutoAttack")
_TWO = ("Natural", "AutoAttack")
BLOCKS: tuple[Block, ...] = (
    Block("Large networks of equal training", CIFAR10, _TRADES, ROBUST_RESIDUAL, _FOUR,
          tuple(Claim(name, ten, size) for name, size, ten, _ in _RESIDUAL),
          "AdvRush and RACL are widened to match. A text copy of the paper prints 58.74 instead of 58.47 for RobustResNet-A1 "
          "under PGD-20."),
    Block("Large networks of equal training", CIFAR100, _TRADES, ROBUST_RESIDUAL, _FOUR,
          tuple(Claim(name, hundred, size) for name, size, _, hundred in _RESIDUAL),
          "AdvRush and RACL are widened to match."),
    Block("Searched networks", CIFAR10, "L∞ at the radii in the headers; 0.03 is close to 8/255", WSR_NAS,
          ("Natural", "Mean robust", "ε 0.03", "ε 0.1", "ε 0.17", "ε 0.25", "FGSM"),
          tuple(Claim(name, values, size, training, recreated=again) for name, training, size, values, again in _WSR),
          "Read by eye from an image. Rows trained with TRADES-1 have natural accuracies above 88 %: their training is weakly "
          "robust.", digits=1),
    Block("AdvRush", CIFAR10, "L∞ 8/255 assumed; the abstract names attacks only", "Mok et al. 2021, arXiv 2108.01289, abstract",
          ("FGSM", "AutoAttack"),
          (Claim("AdvRush", (55.91, None), training="standard"), Claim("AdvRush", (None, 50.04), training="PGD-7"))),
    Block("RobNet", CIFAR10, "PGD-20, adversarial training of the repository", "gmh14/RobNets, README (Guo et al. 2020)",
          ("Natural", "PGD-20"), (Claim("RobNet_large_v1", (83.5, 52.1)),), "The source gives both figures as approximate.",
          digits=1),
    Block("RobustBench", CIFAR10, "L∞ 8/255, AutoAttack, 10,000 test images", ROBUSTBENCH, _TWO, _leaderboard(_ROBUSTBENCH10),
          "No cell-based searched network is in RobustBench."),
    Block("RobustBench", CIFAR100, "L∞ 8/255, AutoAttack, 10,000 test images", ROBUSTBENCH, _TWO, _leaderboard(_ROBUSTBENCH100),
          "No cell-based searched network is in RobustBench."),
)

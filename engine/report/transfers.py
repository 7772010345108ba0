"""Transfer maps: the accuracy of each network on adversarial images that were made on each other network.

A transfer map gathers the results of all attack runs that were made under the same conditions, that is on the same images, within
the same ball and with the same attack. These runs may have different protocols, because the sources of the images are part of a
protocol. This module does not import torch.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from engine.attack.fingerprint import fingerprint
from engine.log.runlog import RunLog
from engine.report.robustness import Measurement, RobustnessTable, labelled, newest_rows

# Fields of a transfer result that differ between the pairs of one map, or that no other attack has.
OF_PAIR = ("attack", "source", "maker", "block_images")


@dataclass(frozen=True)
class TransferNetwork:
    """A network of a transfer map.

    Attributes:
        network: hash of the network's weights.
        label: label of the network, different for all networks of the map.
        parent: id of the retraining that trained the network; "" if unknown.
    """

    network: str
    label: str
    parent: str


@dataclass(frozen=True)
class TransferCell:
    """The accuracy of a network on images that were made on another network, or on the network itself.

    Attributes:
        run: id of the attack run.
        attack: name of the attack, for example "transfer-43ad7c22049a", or "mi-fgsm" on the diagonal.
        result: the accuracy with its interval and fingerprint.
    """

    run: str
    attack: str
    result: Measurement


@dataclass(frozen=True)
class TransferMap:
    """All results of transfer attacks that share their conditions.

    Attributes:
        id: short hash of the conditions.
        conditions: dataset, name of the attack that makes the images, and fields that all results share, such as norm, epsilon
            and images.
        networks: networks that are the source or the target of a result.
        cells: {(hash of the source, hash of the target): newest complete result}. Where source and target are the same network,
            it is the result of the same attack with the gradients of the attacked network (a white-box attack).
    """

    id: str
    conditions: Mapping[str, Any]
    networks: tuple[TransferNetwork, ...]
    cells: Mapping[tuple[str, str], TransferCell]

    @property
    def attack(self) -> str:
        """The name of the attack that makes the images."""
        return str(self.conditions["attack"])

    @property
    def missing(self) -> int:
        """The number of pairs of a source and a target without a result."""
        return len(self.networks) ** 2 - len(self.cells)

    def fits(self, table: RobustnessTable) -> bool:
        """Return True if the results were measured on the same images and for the same norm and radius as a robustness table."""
        shared = [name for name in ("dataset", "norm", "epsilon", "images_hash", "seed") if name in self.conditions]
        return all(self.conditions[name] == table.fields.get(name) for name in shared)


def transfer_maps(log: RunLog) -> list[TransferMap]:
    """Return one transfer map for each combination of attack and conditions. The map with the most results comes first."""
    cells: dict[str, dict[tuple[str, str], TransferCell]] = defaultdict(dict)
    conditions: dict[str, dict[str, Any]] = {}
    for row in _measured(log).itertuples():  # newest run first
        fields = json.loads(row.fields)
        shared = {"dataset": row.dataset, "attack": fields.get("maker", row.attack),
                  **{name: value for name, value in fields.items() if name not in OF_PAIR}}
        conditions[key := fingerprint(shared)] = shared
        result = Measurement(row.accuracy, row.low, row.high, int(row.correct), int(row.images), row.fingerprint)
        cells[key].setdefault((fields.get("source", row.network), row.network),
                              TransferCell(row.run, row.attack, result))
    maps = [_map(log, key, conditions[key], of_map) for key, of_map in cells.items()
            if any(source != target for source, target in of_map)]
    return sorted(maps, key=lambda one: -len(one.cells))


def _measured(log: RunLog) -> pd.DataFrame:
    """Return the complete results of whole attacks with the dataset and the network of each, newest run first."""
    attacks = log.attacks()
    whole = attacks[attacks["complete"] & (attacks["part_of"] == "") & attacks["fields"].str.contains('"images_hash"', na=False)]
    return whole.merge(log.evaluations()[["run", "dataset", "network"]], on="run", how="inner", sort=False)


def _map(log: RunLog, key: str, conditions: Mapping[str, Any], cells: Mapping[tuple[str, str], TransferCell]) -> TransferMap:
    """Return the transfer map with the id `key`. The other arguments become the attributes `conditions` and `cells` of the map.

    A network without any transfer result is left out of `cells`, together with its white-box result.
    """
    taking_part = dict.fromkeys(network for pair in cells if pair[0] != pair[1] for network in pair)
    kept = {pair: cell for pair, cell in cells.items() if pair[0] in taking_part}
    return TransferMap(key, conditions, tuple(_networks(log, taking_part, kept)), kept)


def _networks(log: RunLog, hashes: Iterable[str], cells: Mapping[tuple[str, str], TransferCell]) -> list[TransferNetwork]:
    """Return the networks with these hashes, sorted by their labels. All labels are different."""
    known = newest_rows(log)
    rows = labelled([known[one] for one in hashes if one in known])
    networks = [TransferNetwork(row.network, row.label, row.parent) for row in rows]
    networks += [_never_attacked(log, one, known, cells) for one in hashes if one not in known]
    return sorted(networks, key=lambda one: one.label)


def _never_attacked(log: RunLog, network: str, known: Iterable[str],
                    cells: Mapping[tuple[str, str], TransferCell]) -> TransferNetwork:
    """Return a network that was used only as a source of images, so that no attack run has a row for it.

    The retraining that trained the network is looked up in the settings of an attack run that used the network as a source. The
    settings list the retrainings of all sources, but not the hashes of their networks. If there are several sources, the
    retraining therefore stays unknown, and the label consists of the hash only.
    """
    run = next(cell.run for (source, _), cell in cells.items() if source == network)
    sources = log.run(run)["config"].get("transfer_from", [])
    if len(sources) > 1:
        return TransferNetwork(network, f"Network {network[:6]}", "")
    title = log.runs().set_index("id")["title"].get(sources[0], "Network") if sources else "Network"
    return TransferNetwork(network, f"{title} · {network[:6]}", sources[0] if sources else "")

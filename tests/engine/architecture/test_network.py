"""A new kind of named network needs one class and an entry in `NAMED_KINDS`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import pytest
from torch import nn

from engine.architecture import network as networks
from engine.architecture.cost import Cost, linear_cost
from engine.architecture.named import NamedNetwork
from engine.architecture.network import is_named, named_network, network_from_dict, network_name, resized
from engine.errors import ConfigError
from engine.exchange.source import find
from engine.run.event_kinds import NetworkBuilt


@dataclass(frozen=True)
class Linear(NamedNetwork):
    """Logistic regression."""

    OFFERED: ClassVar[tuple[str, ...]] = ("linear",)
    FORMS: ClassVar[str] = "linear"
    name = title = "linear"
    source = "a test"
    description = "One linear layer."

    @classmethod
    def recognises(cls, text: str) -> bool:
        return text.strip().lower() == "linear"

    @classmethod
    def from_name(cls, text: str, classes: int, image_shape: Sequence[int]) -> Self | None:
        channels, height, width = image_shape
        return cls(classes, (channels, height, width)) if cls.recognises(text) else None

    def cost(self, *, auxiliary: bool = False) -> Cost:
        channels, height, width = self.image_shape
        return linear_cost(channels * height * width, self.classes)

    def build(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        channels, height, width = self.image_shape
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, self.classes))


@pytest.fixture(autouse=True)
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "NAMED_KINDS", (*networks.NAMED_KINDS, Linear))


def test_it_is_found_by_name_next_to_the_others() -> None:
    assert is_named("linear") and network_name(" Linear ") == "linear"
    assert named_network("linear", 5, (1, 8, 8)) == Linear(5, (1, 8, 8))
    assert network_name("resnet-18") == "resnet-18" and not is_named("ARNAS")
    with pytest.raises(ConfigError, match="network must be derived"):
        network_name("linear-2")


def test_its_file_describes_it() -> None:
    built = resized(Linear(5, (1, 8, 8)), 10, (3, 32, 32))
    assert network_from_dict(json.loads(json.dumps(built.to_dict()))) == built


def test_its_event_carries_name_and_size() -> None:
    event = NetworkBuilt.of(Linear(5, (1, 8, 8)))
    assert (event.hand_made, event.parameters, event.macs) == ("linear", 64 * 5 + 5, 64 * 5)
    assert event.genotype is event.channels is event.layers is None


def test_it_is_exported_for_the_chosen_images(tmp_path: Path) -> None:
    source = find("linear", tmp_path, classes=7, image_shape=(1, 4, 4))
    assert source.network == Linear(7, (1, 4, 4)) and source.retrained is None
    with pytest.raises(ConfigError, match="channels of the network linear is its own"):
        find("linear", tmp_path, channels=8)

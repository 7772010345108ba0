"""The moving average of weights and BatchNorm statistics against its definition."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor

from engine.train.average import Average
from tests.engine.train.small_network import SmallNetwork, stripes


def walk(network: SmallNetwork, average: Average, steps: int) -> list[dict[str, Tensor]]:
    """Return the network's states, initially and after each of n random changes; update the average after each change."""
    x = stripes(8)[0].to(network.classifier.weight.dtype)
    states = [copy.deepcopy(network.state_dict())]
    for _ in range(steps):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        network(x)  # in training mode: BatchNorm's statistics move
        average.update(network)
        states.append(copy.deepcopy(network.state_dict()))
    return states


@pytest.mark.parametrize("decay", [0.05, 0.3, 0.9])
def test_the_average_is_the_weighted_sum_of_all_networks_so_far(decay: float) -> None:
    network = SmallNetwork().double()
    average = Average(network, decay)
    states = walk(network, average, 30)
    shares = [1.0]
    for n in range(30):
        kept = min(decay, (1 + n) / (10 + n))
        shares = [share * kept for share in shares] + [1 - kept]
    assert sum(shares) == pytest.approx(1)
    for name, value in average.network.state_dict().items():
        if value.is_floating_point():
            expected = sum(share * state[name] for share, state in zip(shares, states, strict=True))
            assert torch.allclose(value, expected, atol=1e-12), name
        else:
            assert torch.equal(value, states[-1][name]), name


def test_the_averaged_mean_of_the_first_layer_is_that_of_the_averaged_weights() -> None:
    """A convolution is linear in its weights, so averaging statistics with the weights is exact for the mean. Copies of the
    trained network's own statistics would be far from it."""
    network = SmallNetwork().double()
    network.stem[1].momentum = 1.0  # the running mean is that of the latest batch
    average = Average(network, 0.9)
    x = stripes(8)[0].double()
    network(x)
    average.network.load_state_dict(network.state_dict())
    walk(network, average, 20)
    mean = average.network.stem[0](x).mean((0, 2, 3))
    assert torch.allclose(average.network.stem[1].running_mean, mean, atol=1e-12)
    assert (network.stem[1].running_mean - mean).abs().max() > 0.01


def test_a_network_that_rests_is_its_own_average() -> None:
    network = SmallNetwork()
    average = Average(network, 0.9)
    for _ in range(5):
        average.update(network)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in average.network.state_dict().items())


def test_the_average_touches_neither_the_network_nor_the_random_state() -> None:
    network = SmallNetwork()
    random_state, before = torch.get_rng_state(), copy.deepcopy(network.state_dict())
    average = Average(network, 0.9)
    average.update(network)
    assert torch.equal(torch.get_rng_state(), random_state) and network.training and not average.network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters()) and not any(p.requires_grad for p in average.network.parameters())


def test_saved_and_loaded_it_goes_on_bit_for_bit() -> None:
    network, buffer = SmallNetwork(), io.BytesIO()
    average = Average(network, 0.9)
    walk(network, average, 3)
    torch.save(average.state_dict(), buffer)
    buffer.seek(0)
    other = Average(SmallNetwork(), 0.9)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for one in (average, other):
        one.update(network)
    assert average.updates == other.updates == 4
    assert all(torch.equal(value, other.network.state_dict()[name]) for name, value in average.network.state_dict().items())

"""The inference latency of a network: measured after a warm-up with one thread, without a trace in the network or the run."""

from __future__ import annotations

import time

import torch
from torch import nn

from engine.architecture.catalogue import CATALOG
from engine.architecture.network import DerivedNetwork
from engine.run.latency import BATCHES, FEWEST, WARM_UP, latencies, processor


class Busy(nn.Module):
    """A network whose passes compute for a fixed time, the first ones longer, and wait as long. It records what a pass finds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.seconds, self.passes, self.found = seconds, 0, set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        self.found.add((self.training, torch.get_num_threads(), x.requires_grad, x.shape[0]))
        busy = self.seconds * len(x) + 0.05 * (self.passes <= WARM_UP)
        until = time.thread_time() + busy
        while time.thread_time() < until:
            pass
        time.sleep(self.seconds)  # like a pass that waits for a core
        return self.norm(x).sum()


def test_the_median_leaves_the_warm_up_out_and_a_batch_that_takes_too_long_is_left_out() -> None:
    network, threads, state = Busy(0.02).train(), torch.get_num_threads(), torch.get_rng_state()
    (one,) = latencies(network, (1, 2, 2), "cpu")
    assert one.batch == 1 and 0.02 <= one.low_s <= one.median_s <= one.high_s < 0.03 and one.repeats >= FEWEST
    assert network.found == {(False, 1, False, 1)}
    assert one.device == "cpu" and one.threads == 1 and one.hardware == processor() != ""
    assert network.training and network.norm.training and torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state) and network.norm.num_batches_tracked == 0


def test_a_derived_network_is_measured_for_every_batch_size_within_a_second() -> None:
    network = DerivedNetwork(CATALOG["ARNAS"].genotype, channels=4, layers=3, classes=10, image_shape=(1, 8, 8)).build()
    network(torch.rand(2, 1, 8, 8))  # the first pass of the process loads libraries
    start = time.thread_time()
    found = latencies(network, (1, 8, 8), "cpu")
    assert time.thread_time() - start < 1.0
    assert [one.batch for one in found] == list(BATCHES)  # its pass over 64 images takes 5 ms on a quiet machine
    assert found[0].median_s < found[1].median_s < 64 * found[0].median_s

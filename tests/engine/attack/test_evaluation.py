"""Evaluation: outcomes, cascades, interruption anywhere, and what a resumed evaluation must share."""

from __future__ import annotations

import io
import json

import pytest
import torch
from torch import Tensor, nn

from engine.architecture.catalogue import CATALOG
from engine.architecture.hand_made import residual_shape
from engine.attack.evaluation import Evaluation, preprocessing_of
from engine.attack.statistics import wilson
from engine.config import AttackConfig
from engine.errors import CheckpointError, StopRequested
from engine.space.network import Network
from engine.space.residual import ResidualNetwork

N = 40


class Gauge(nn.Module):
    """Logits from the mean grey level's distance to class centres: robust in the middle of a class, not near its edge.

    Images with a white corner pixel are always misclassified."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.linspace(0.1, 0.8, 5))

    def forward(self, x: Tensor) -> Tensor:
        logits = -60 * (x.mean((1, 2, 3))[:, None] - self.centres).square()
        return torch.where((x[:, 0, 0, 0] > 0.95)[:, None], logits.roll(1, 1), logits)


@pytest.fixture
def network() -> Gauge:
    return Gauge()


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    y = torch.arange(N) % 5
    level = torch.linspace(0.1, 0.8, 5)[y] + torch.linspace(-0.08, 0.08, N)
    x = level[:, None, None, None].expand(N, 1, 4, 4).clone()
    x[::10, 0, 0, 0] = 1.0  # four that are wrong from the start
    return x, y


def config(**changes) -> AttackConfig:
    return AttackConfig(**({"attacks": ("fgsm", "pgd-3", "apgd-ce"), "epsilon": 0.05, "step_size": 0.02, "batch_size": 16}
                           | changes))


def evaluation(network: nn.Module, images: tuple[Tensor, Tensor], checkpoint: str = "abc", **changes) -> Evaluation:
    return Evaluation(config(**changes), network, *images, classes=5, indices=range(100, 100 + N), checkpoint=checkpoint)


def run(it: Evaluation, steps: int | None = None) -> Evaluation:
    while not it.over and steps != 0:
        it.step()
        steps = None if steps is None else steps - 1
    return it


def results(it: Evaluation) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "duration_s"} for row in it.rows()]


def test_rows_count_wrong_images_under_every_attack(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    rows = {row["attack"]: row for row in run(evaluation(network, images)).rows()}
    assert list(rows) == ["natural", "fgsm", "pgd-3", "apgd-ce", "worst-case"]
    assert rows["natural"]["correct"] == N - 4 and rows["natural"]["epsilon"] == 0
    # A uniform shift by epsilon loses every image within epsilon of the edge of its class.
    assert 0 < rows["apgd-ce"]["correct"] <= rows["fgsm"]["correct"] < N - 4
    assert rows["worst-case"]["correct"] <= min(row["correct"] for row in rows.values())
    for row in rows.values():
        assert row["images"] == N and row["complete"] and row["accuracy"] == row["correct"] / N
        assert (row["low"], row["high"]) == wilson(row["correct"], N)
        json.dumps(row)


def test_outcomes_say_how_each_image_ended(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    """An image is correct exactly if its prediction is its label; distances are at most epsilon; margins have that sign."""
    it = run(evaluation(network, images))
    for name, outcomes in it.outcomes.items():
        rows = outcomes.columns
        assert torch.equal(rows["correct"] == 1, rows["prediction"] == images[1]), name
        assert (rows["linf"] <= 0.05 + 1e-6).all() and (rows["l2"] <= 4 * 0.05 + 1e-5).all()
        assert torch.equal(rows["margin"] > 0, rows["correct"] == 1), name
    attacked = it.outcomes["natural"].correct == 1
    assert torch.equal(it.outcomes["pgd-3"].columns["iterations"] == 3, attacked)


def test_kept_images_reproduce_the_recorded_predictions(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    it = run(evaluation(network, images))
    assert len(it.sample) == N
    for name, x_adv in it.adversarial.items():
        with torch.no_grad():
            probabilities, columns = network(x_adv).softmax(1), it.outcomes[name].columns
            assert torch.equal(probabilities.argmax(1), columns["prediction"].long()), name
            torch.testing.assert_close(columns["confidence"], probabilities.amax(1), msg=name)
        assert (x_adv - images[0]).abs().max() <= 0.05 + 1e-6


def test_outcomes_are_per_attack_and_image(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    it = run(evaluation(network, images))
    columns = it.outcome_columns()
    assert {len(column) for column in columns.values()} == {4 * N}
    assert columns["image"][:N] == list(range(100, 100 + N)) and columns["label"][:N] == images[1].tolist()
    wrong = {image for image, attack, correct in zip(columns["image"], columns["attack"], columns["correct"], strict=True)
             if attack == "natural" and not correct}
    assert wrong == {100, 110, 120, 130}
    assert not any(correct for image, correct in zip(columns["image"], columns["correct"], strict=True) if image in wrong)


def resumed(network: nn.Module, images: tuple[Tensor, Tensor], state: dict, **changes) -> Evaluation:
    """Return an evaluation that continues from a state that was written to disk and read again."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    it = evaluation(network, images, **changes)
    it.load_state_dict(torch.load(buffer, weights_only=True))
    return it


@pytest.mark.parametrize("done", range(0, 12))
def test_an_interrupted_evaluation_ends_as_an_uninterrupted_one(network: Gauge, images: tuple[Tensor, Tensor],
                                                                 done: int) -> None:
    whole = run(evaluation(network, images))
    partly = run(evaluation(network, images), done)
    again = resumed(network, images, partly.state_dict())
    assert again.progress == partly.progress and again.stage == partly.stage
    run(again)
    assert results(again) == results(whole) and again.outcome_columns() == whole.outcome_columns()
    assert all(torch.equal(again.adversarial[name], whole.adversarial[name]) for name in whole.stages)


def test_a_checkpoint_without_confidences_continues(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    """The confidences that an older version did not record stay unknown; everything else is as if uninterrupted."""
    whole = run(evaluation(network, images))
    state = run(evaluation(network, images), 2).state_dict()
    for outcomes in state["outcomes"].values():
        del outcomes["confidence"]
    again = run(resumed(network, images, state))
    assert results(again) == results(whole)
    confidence = again.outcomes["natural"].columns["confidence"]
    assert confidence[:32].isnan().all() and not confidence[32:].isnan().any()


@pytest.mark.parametrize("asked", [1, 3, 40, 90])
def test_a_stop_at_any_pass_changes_nothing(network: Gauge, images: tuple[Tensor, Tensor], asked: int) -> None:
    whole, it = run(evaluation(network, images)), evaluation(network, images)
    polled = 0

    def poll() -> None:
        nonlocal polled
        polled += 1
        if polled == asked:
            raise StopRequested

    with pytest.raises(StopRequested):
        while not it.over:
            it.step(poll=poll)
    again = resumed(network, images, it.state_dict())
    for one in (it, again):
        assert results(run(one)) == results(whole) and one.outcome_columns() == whole.outcome_columns()


@pytest.mark.parametrize("changes", [{"epsilon": 0.06}, {"attacks": ("fgsm",)}, {"batch_size": 20}, {"seed": 3},
                                     {"checkpoint": "other"}, {"norm": "L2"}])
def test_an_evaluation_of_something_else_is_not_resumed(network: Gauge, images: tuple[Tensor, Tensor], changes: dict) -> None:
    state = evaluation(network, images).state_dict()
    with pytest.raises(CheckpointError, match="start a new attack run"):
        evaluation(network, images, **changes).load_state_dict(state)


def test_a_suite_is_a_cascade_on_a_fixed_subset(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    it = evaluation(network, images, attacks=("autoattack",), autoattack_images=10)
    assert list(it.stages) == ["natural", "autoattack/apgd-ce", "autoattack/apgd-t", "autoattack/fab-t",
                                            "autoattack/square"]
    while it.stage in ("natural", "autoattack/apgd-ce", "autoattack/apgd-t"):
        it.step()
    rows = {(row["attack"], row.get("part_of")): row for row in it.rows()}
    assert list(rows) == [("natural", None), ("apgd-ce", "autoattack"), ("apgd-t", "autoattack")]
    assert rows["apgd-ce", "autoattack"]["images"] == 10
    # The second part attacks only what the first left.
    left = it.outcomes["autoattack/apgd-ce"].correct == 1
    assert torch.equal(it.outcomes["autoattack/apgd-t"].columns["iterations"] > 0, left) and 0 < int(left.sum()) < 10
    assert rows["apgd-t", "autoattack"]["correct"] <= rows["apgd-ce", "autoattack"]["correct"]
    assert rows["apgd-t", "autoattack"]["fields"]["after"] == ["autoattack/apgd-ce"]


def test_the_worst_case_alone_is_one_cascade_without_columns(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    """The cascade over all attacks finds the worst case that the attacks find one by one, and attacks no fallen image again."""
    separate = {row["attack"]: row for row in run(evaluation(network, images, attacks=("fgsm", "pgd-3"))).rows()}
    it = run(evaluation(network, images, attacks=("fgsm", "pgd-3"), worst_case_only=True))
    rows = {(row["attack"], row.get("part_of")): row for row in it.rows()}
    assert list(rows) == [("natural", None), ("fgsm", "worst-case"), ("pgd-3", "worst-case"), ("worst-case", None)]
    assert rows["worst-case", None]["correct"] <= separate["fgsm"]["correct"]
    assert rows["worst-case", None]["correct"] == rows["pgd-3", "worst-case"]["correct"]
    fallen = it.outcomes["worst-case/fgsm"].correct == 0
    assert torch.equal(it.adversarial["worst-case/pgd-3"][fallen], it.adversarial["worst-case/fgsm"][fallen])
    assert fallen.any() and not it.outcomes["worst-case/pgd-3"].columns["iterations"][fallen].any()


def test_autoattack_ends_in_one_row_before_its_parts(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    # With every image at the edge of its class the first part leaves nothing for the slow ones.
    it = run(evaluation(network, images, attacks=("autoattack",), autoattack_images=10, epsilon=0.2))
    rows = {row["attack"]: row for row in it.rows()}
    assert list(rows) == ["natural", "autoattack", "apgd-ce", "apgd-t", "fab-t", "square", "worst-case"]
    assert rows["autoattack"]["complete"] and rows["autoattack"]["images"] == 10 and rows["autoattack"]["correct"] == 0
    assert rows["autoattack"]["fields"]["parts"][3]["steps"] == 5000
    assert rows["worst-case"]["images"] == 10


def test_like_is_ranked_with_like(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    def prints(**changes) -> dict[str, str]:
        return {row["attack"]: row["fingerprint"] for row in run(evaluation(network, images, **changes)).rows()}

    plain = prints()
    assert plain == prints(checkpoint="another network")
    assert plain["natural"] == prints(seed=3)["natural"] and plain["pgd-3"] != prints(seed=3)["pgd-3"]
    assert plain["fgsm"] == prints(seed=3)["fgsm"], "FGSM draws no random numbers"
    assert plain["fgsm"] != prints(epsilon=0.06)["fgsm"]
    assert len(set(plain.values())) == len(plain)


def test_the_network_is_as_found(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    network.train()
    random_state = torch.get_rng_state()
    run(evaluation(network, images))
    assert network.training and network.centres.requires_grad and network.centres.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)


def normalised(mean: float, std: float) -> Gauge:
    network = Gauge()
    network.register_buffer("mean", torch.tensor([mean]))
    network.register_buffer("std", torch.tensor([std]))
    return network


def test_the_normalisation_belongs_to_the_network(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    one, other = evaluation(network, images), evaluation(normalised(0.4914, 0.247), images)
    assert one.protocol.hash == other.protocol.hash and not torch.equal(one.network.centres, torch.zeros(5))
    assert preprocessing_of(one.network) != preprocessing_of(other.network)


def test_the_normalisation_is_recorded_as_numbers() -> None:
    assert preprocessing_of(normalised(0.49139968, 0.24703233)) == {"mean": [0.4913997], "std": [0.2470323]}
    assert preprocessing_of(normalised(0.0, 1.0)) == preprocessing_of(Gauge()) == "none"


@pytest.mark.parametrize("name", ["ARNAS", "wide-resnet-10-1"])
def test_the_normalisation_of_our_networks_is_recorded(name: str) -> None:
    sizes = {"classes": 5, "image_shape": (1, 8, 8), "mean": (0.3,), "std": (0.25,)}
    network = (Network(CATALOG[name].genotype, channels=4, layers=3, **sizes) if name == "ARNAS"
               else ResidualNetwork(residual_shape(name), **sizes))
    assert preprocessing_of(network) == {"mean": [0.3], "std": [0.25]}


def test_autoattack_covers_the_same_images_whatever_the_seed(network: Gauge, images: tuple[Tensor, Tensor]) -> None:
    covered = [evaluation(network, images, attacks=("autoattack",), autoattack_images=10, **seeds).stages["autoattack/apgd-ce"]
               for seeds in ({"seed": 3}, {"seed": 4}, {"split_seed": 5})]
    first, second, other = (stage.positions.tolist() for stage in covered)
    assert first == second != other

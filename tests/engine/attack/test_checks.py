"""The reliability checks: each of several unreliable networks raises exactly its own check, and a sound network none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.attack.badge import ESSENTIAL, Finding, badge
from engine.attack.catalogue import SQUARE
from engine.attack.checks import CHECKS, inspect
from engine.attack.evaluation import Evaluation
from engine.attack.guard import under_attack
from engine.attack.inspection import Check, Inspection
from engine.attack.outcomes import CORRECT, WRONG, Outcomes
from engine.attack.statistics import wilson
from engine.config import AttackConfig
from engine.errors import StopRequested
from tests.engine.attack import suspicious_networks as suspicious

STRONG = ("fgsm", "pgd-20", "apgd-ce")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return suspicious.trained()


def evaluated(network: nn.Module, **changes) -> Evaluation:
    x, y = suspicious.digits("test")
    settings = {"attacks": STRONG, "epsilon": 0.1, "step_size": 0.025} | changes
    evaluation = Evaluation(AttackConfig(**settings), network, x[:128], y[:128], classes=10, indices=range(128))
    while not evaluation.over:
        evaluation.step()
    return evaluation


def inspection(evaluation: Evaluation, **changes) -> Inspection:
    return replace(Inspection(evaluation, evaluation.adversarial), **changes)


@pytest.fixture(scope="module")
def sound(network: nn.Module) -> Evaluation:
    return evaluated(network)


def findings(evaluation: Evaluation) -> dict[str, Finding]:
    made: list[Finding] = []
    for check in CHECKS.values():
        made.append(inspect(check, inspection(evaluation), made))
    return {finding.check_name: finding for finding in made}


def measured(name: str, it: Inspection) -> tuple[str, str]:
    with under_attack(it.network):
        return CHECKS[name].measure(it)


def test_a_sound_network_raises_no_check(sound: Evaluation) -> None:
    """Every check passes, except the one that needs an attack without gradients."""
    made = findings(sound)
    assert list(made) == list(CHECKS)
    others = {name: finding.finding for name, finding in made.items() if finding.finding != "passed"}
    assert others == {"black-box": "skipped"}, made
    assert badge(made.values()).colour == "green"
    assert all(re.fullmatch(r"[^.].*\.", finding.measured) and not finding.advice for finding in made.values())


@pytest.mark.parametrize(("modification", "check"), [
    (suspicious.Scaled, "logit-scale"), (suspicious.Randomised, "repeated-passes"),
    (suspicious.Probabilities, "not-probabilities"), (suspicious.InTrainingMode, "evaluation-mode"),
    (suspicious.BatchStatistics, "evaluation-mode"), (suspicious.Quantised, "quantised-input"),
    (suspicious.QuantisedStraightThrough, "quantised-input"), (suspicious.Detached, "gradients")])
def test_an_unreliable_network_raises_exactly_its_own_check(network: nn.Module, modification: type, check: str) -> None:
    made = findings(evaluated(modification(network), attacks=("fgsm", "pgd-20")))
    assert [name for name, finding in made.items() if finding.raised] == [check], made
    assert made[check].finding == "failed" and made[check].advice == CHECKS[check].advice
    assert badge(made.values()).colour == "red"
    # The cause is named wherever it hides another check.
    assert all(CHECKS[check].title in made[name].measured for name in CHECKS if check in CHECKS[name].needs)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_sound_network_passes_in_both_norms_and_in_cascades(network: nn.Module, norm: str) -> None:
    evaluation = evaluated(network, norm=norm, attacks=("fgsm", "apgd-ce"), worst_case_only=True)
    assert not [finding for finding in findings(evaluation).values() if finding.raised]


@pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
def test_a_check_that_was_stopped_finds_the_same(sound: Evaluation, check: Check) -> None:
    polled = 0

    def poll() -> None:
        nonlocal polled
        polled += 1
        if polled == 1:
            raise StopRequested

    whole = inspect(check, inspection(sound))
    if check.name not in ("above-chance", "black-box"):  # they call no network
        with pytest.raises(StopRequested):
            inspect(check, inspection(sound, poll=poll))
    assert inspect(check, inspection(sound)) == whole


def test_checks_leave_the_network_and_the_random_state_as_found(sound: Evaluation) -> None:
    state = {name: value.clone() for name, value in sound.network.state_dict().items()}
    random_state = torch.get_rng_state()
    findings(sound)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in sound.network.state_dict().items())
    assert all(parameter.requires_grad for parameter in sound.network.parameters())
    assert not any(module.training for module in sound.network.modules())


@pytest.mark.parametrize(("spoil", "number"), [
    (lambda images: images[3].add_(0.2), "outside the ball"), (lambda images: images.copy_(images.roll(1, 0)), "not predicted")])
def test_images_that_do_not_support_the_outcomes_are_noticed(sound: Evaluation, spoil, number: str) -> None:
    kept = {name: images.clone() for name, images in sound.adversarial.items()}
    spoil(kept["pgd-20"])
    verdict, sentence = measured("kept-images", inspection(sound, kept=kept))
    assert verdict == "failed" and number in sentence


def test_a_changed_recorded_prediction_is_noticed(network: nn.Module) -> None:
    evaluation = evaluated(network, attacks=("fgsm",))
    assert measured("epsilon-zero", inspection(evaluation))[0] == "passed"
    evaluation.outcomes["natural"].columns["prediction"].add_(1)
    assert measured("epsilon-zero", inspection(evaluation))[0] == "failed"


@pytest.mark.parametrize(("withstand", "verdict"), [(0, "passed"), (1, "warning"), (4, "failed")])
def test_images_that_fall_to_square_alone_are_counted(network: nn.Module, withstand: int, verdict: str) -> None:
    """0.2 % of 128 images is less than one image, and 2 % is between two and three."""
    evaluation = evaluated(network, attacks=("fgsm", "pgd-3"))
    right = (evaluation.outcomes["natural"].correct == CORRECT).nonzero().flatten()[:withstand]
    evaluation.stages["square"] = replace(evaluation.stages["fgsm"], name="square", attack=SQUARE)
    evaluation.outcomes["square"] = Outcomes(128)
    for name in ("fgsm", "pgd-3", "square"):
        evaluation.outcomes[name].correct.fill_(CORRECT)
    evaluation.outcomes["square"].correct[right] = WRONG
    found, sentence = measured("black-box", inspection(evaluation))
    assert found == verdict and sentence.startswith(f"{withstand} of 128 images fall to Square")


@pytest.mark.parametrize(("extra", "verdict"), [(0, "passed"), (1, "passed"), (3, "warning"), (8, "failed")])
def test_more_steps_that_leave_more_images_are_noticed(network: nn.Module, extra: int, verdict: str) -> None:
    evaluation = evaluated(network, attacks=("pgd-3", "pgd-5"))
    few, many = (evaluation.outcomes[name].correct for name in ("pgd-3", "pgd-5"))
    few.fill_(WRONG)
    many.fill_(WRONG)
    many[:extra] = CORRECT
    found, sentence = measured("more-steps", inspection(evaluation))
    assert found == verdict and sentence == f"0 of 128 images withstand PGD-3, and {extra} withstand PGD-5."


def test_a_network_that_is_always_wrong_is_not_judged(network: nn.Module) -> None:
    class Wrong(suspicious.Modified):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -self.network(x)

    made = findings(evaluated(Wrong(network), attacks=("fgsm",)))
    assert {made[name].finding for name in ("logit-scale", "gradients", "huge-epsilon")} == {"skipped"}


@pytest.mark.parametrize(("right", "verdict"), [(128, "passed"), (40, "passed"), (16, "warning"), (0, "warning")])
def test_a_network_that_guesses_is_noticed(network: nn.Module, right: int, verdict: str) -> None:
    """With 40 of 128 images correct, the interval lies above the share of the most frequent class; with 16, it does not."""
    evaluation = evaluated(network, attacks=("fgsm",))
    evaluation.outcomes["natural"].correct[:] = torch.where(torch.arange(128) < right, CORRECT, WRONG)
    found, sentence = measured("above-chance", inspection(evaluation))
    constant = max(torch.bincount(evaluation.y).tolist()) / 128
    assert found == verdict and f"right on {100 * constant:.1f} %" in sentence
    assert (wilson(right, 128)[0] > constant) == (verdict == "passed")


def test_an_untrained_network_has_no_green_badge() -> None:
    """Nothing can be planted where nothing is predicted correctly, and no check of the attacks says anything."""
    torch.manual_seed(0)
    shown = badge(findings(evaluated(suspicious.SmallConvolutional().eval(), attacks=("fgsm", "pgd-20"))).values())
    assert shown.colour == "amber" and shown.reasons[0].startswith("Better than guessing: The natural accuracy is ")


def test_essential_checks_exist() -> None:
    assert {name: CHECKS[name].title for name in ESSENTIAL} == ESSENTIAL


def test_every_check_is_explained() -> None:
    """docs/evaluation.md names every check with its title, its condition and its advice."""
    text = " ".join((Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8").split())
    for check in CHECKS.values():
        assert f"### {check.title}" in text and check.raised_if in text and check.advice in text, check.name
        assert list(CHECKS).index(check.name) > max([list(CHECKS).index(name) for name in check.needs], default=-1)

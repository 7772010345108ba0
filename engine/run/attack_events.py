"""The kinds of events that attack runs write. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from engine.attack.verdict import Verdict
from engine.errors import RunLogError, shortened
from engine.run.event import Count, Event, Finding, MaybeReal, MaybeString, Real, String
from engine.run.event_fields import (
    Flag,
    JsonObject,
    OneOf,
    Part,
    WholeNumber,
)
from engine.run.values import is_number, is_text, is_whole

SINGLE, BATCH = 1, 64  # images per pass for which latencies are measured
_ROUNDING = 1e-9
# The types of the conditions that tables and pages compute with. Other conditions are only shown.
_CONDITIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epsilon": (is_number, "a number"), "step_size": (is_number, "a number"), "images": (is_whole, "a whole number"),
    "seed": (is_whole, "a whole number"),
    **dict.fromkeys(("dataset", "norm", "images_hash", "mode", "attack", "maker", "source"), (is_text, "text"))}
_OF_PROTOCOL = ("dataset", "norm", "epsilon", "images", "images_hash", "seed", "mode", "attacks")


def _check_conditions(fields: Mapping[str, Any]) -> None:
    """Check the types of the conditions under which accuracies were measured. `fields` belongs to a result or to a protocol.

    If `fields` lists attacks, the conditions of each listed attack are checked as well.

    Raises:
        RunLogError: a condition has a wrong type, or a list of attacks is malformed.
    """
    for name, (fits, words) in _CONDITIONS.items():
        if (value := fields.get(name)) is not None and not fits(value):
            raise RunLogError(f"{name} in fields must be {words}, got {shortened(value)}")
    for listed in ("attacks", "parts"):
        parts = fields.get(listed, [])
        if not isinstance(parts, list) or not all(isinstance(part, dict) and is_text(part.get("attack")) for part in parts):
            raise RunLogError(f"{listed} in fields must be a list of attacks, got {shortened(parts)}")
        for part in parts:
            _check_conditions(part)


@dataclass(frozen=True, kw_only=True)
class AttackResult(Event):
    """The accuracy of the network under one attack."""

    kind = "attack"
    table = "attack"
    attack: Annotated[String, "Name of the attack, `natural` for none, `worst-case` for the worst of all per image."]
    title: Annotated[String, "Display name."]
    epsilon: Annotated[Real, "Radius of the ball, in 0..1 pixel space."]
    images: Annotated[int, WholeNumber(low=1), "Images attacked."]
    correct: Annotated[int, Part("images"), "Images still classified correctly."]
    accuracy: Annotated[Real, "correct / images."]
    low: Annotated[Real, "Lower end of the accuracy's 95 % Wilson interval."]
    high: Annotated[Real, "Upper end of the interval."]
    fingerprint: Annotated[String, "Short hash of `fields`; results are comparable only if it is equal."]
    fields: Annotated[Mapping[str, Any] | None, JsonObject(), "Everything that the result depends on."] = None
    duration_s: Annotated[MaybeReal, "Duration in seconds."] = None
    complete: Annotated[bool, Flag(), "False while the attack has images left."] = True
    part_of: Annotated[MaybeString, "Suite that the attack is a part of."] = None

    def check(self) -> None:
        """Check that 0 <= low <= accuracy <= high <= 1, up to rounding, and the types of the conditions."""
        low, accuracy, high = self.low, self.accuracy, self.high
        _check_conditions(self.fields or {})
        if not -_ROUNDING <= low <= accuracy + _ROUNDING <= high + 2 * _ROUNDING <= 1 + 3 * _ROUNDING:
            raise RunLogError(f"low <= accuracy <= high must be fractions in 0..1, got {low}, {accuracy}, {high}")


@dataclass(frozen=True, kw_only=True)
class EvaluationBegun(Event):
    """The start of an evaluation under attack, with the attacked network and the protocol (the conditions of the evaluation)."""

    kind = "evaluation"
    table = "evaluation"
    protocol: Annotated[String, "Short hash of `fields`, by which tables group their rows."]
    title: Annotated[String, "The protocol in one line."]
    fields: Annotated[Mapping[str, Any], JsonObject(), "Everything that determines the results except the network."]
    network: Annotated[String, "Hash of the network's weights."]
    checkpoint: Annotated[String, "Checkpoint of the retraining that was attacked: best or last."]
    preprocessing: Annotated[Mapping[str, Any], JsonObject(), "The network's normalisation, mean and std; empty for none."]

    def check(self) -> None:
        """Check that the protocol has all its fields, with the right types."""
        if absent := [name for name in _OF_PROTOCOL if self.fields.get(name) is None]:
            raise RunLogError(f"fields must hold {', '.join(_OF_PROTOCOL)}, got none for {', '.join(absent)}")
        _check_conditions(self.fields)


@dataclass(frozen=True, kw_only=True)
class AttackCheck(Event):
    """The result of a check of how reliable an evaluation is."""

    kind = "check"
    table = "attack_check"
    check_name: Annotated[String, "Name of the check."]
    title: Annotated[String, "Display name."]
    finding: Annotated[Finding, OneOf("finding", get_args(Finding)), "Result of the check."]
    measured: Annotated[String, "What was measured, as a sentence."]
    advice: Annotated[String, "What to do, as a sentence; empty if the check passed."] = ""


@dataclass(frozen=True, kw_only=True)
class EarlyVerdict(Event):
    """The interim result of a comparison of two networks, written after each chunk of images until the comparison is decided.

    The first network is the one that this run attacks. The counts do not measure accuracies, because the attacks stop as soon as
    the counts decide the comparison.
    """

    kind = "verdict"
    table = "verdict"
    against: Annotated[String, "Attack run of the second network."]
    protocol: Annotated[String, "Short hash of the protocol of the second network's attack run."]
    network: Annotated[String, "Hash of the first network's weights."]
    other: Annotated[String, "Hash of the second network's weights."]
    total: Annotated[int, WholeNumber(low=1), "Images of the comparison, in random order."]
    images: Annotated[int, Part("total"), "Images attacked so far."]
    both_correct: Annotated[int, Part("images"), "Images that both networks still classify correctly under every attack."]
    first_only: Annotated[int, Part("images"), "Images that only the first network does."]
    second_only: Annotated[int, Part("images"), "Images that only the second network does."]
    neither: Annotated[int, Part("images"), "The other images."]
    low: Annotated[Real, "Lower bound of the difference of the accuracies on all images of the comparison, first - second."]
    high: Annotated[Real, "Upper bound."]
    level: Annotated[Real, "Probability with which all bounds of the run contain the difference, at least."]
    verdict: Annotated[str, OneOf("verdict", tuple(Verdict)), "The network that is better on all images of the comparison."]

    def check(self) -> None:
        """Check that the four counts sum to the number of attacked images, and that -1 <= low <= high <= 1."""
        counts = self.both_correct, self.first_only, self.second_only, self.neither
        if sum(counts) != self.images:
            raise RunLogError(f"The four counts of pairs must sum to images = {self.images}, got {counts}")
        if not -1 <= self.low <= self.high <= 1:
            raise RunLogError(f"low <= high must be in -1..1, got {self.low} and {self.high}")


@dataclass(frozen=True, kw_only=True)
class SweepPoint(Event):
    """One point of a curve of accuracy against attack radius or number of attack steps."""

    kind = "sweep"
    table = "sweep"
    sweep: Annotated[String, "What varies: `epsilon` or `steps`."]
    attack: Annotated[String, "Name of the attack."]
    title: Annotated[String, "Display name of the attack."]
    norm: Annotated[String, "Norm of the ball."]
    epsilon: Annotated[Real, "Radius of the ball, in 0..1 pixel space."]
    steps: Annotated[Count, "Number of iterations."]
    images: Annotated[int, WholeNumber(low=1), "Images attacked."]
    correct: Annotated[int, Part("images"), "Images still classified correctly."]
    low: Annotated[MaybeReal, "Lower end of the 95 % Wilson interval of correct / images."] = None
    high: Annotated[MaybeReal, "Upper end of the interval."] = None
    fingerprint: Annotated[String, "Short hash of the conditions; points are comparable only if it is equal."]


@dataclass(frozen=True, kw_only=True)
class CriticalEpsilon(Event):
    """The critical epsilon: the distance from an image to the nearest adversarial image found, as the median over the images."""

    kind = "critical"
    table = "critical"
    attack: Annotated[String, "Name of the attack that searched for them."]
    title: Annotated[String, "Display name of the attack."]
    norm: Annotated[String, "Norm of the distance."]
    images: Annotated[int, WholeNumber(low=1), "Images, including those misclassified without an attack, at distance 0."]
    median: Annotated[MaybeReal, "The median; null if half of the images have no adversarial image."] = None
    low: Annotated[MaybeReal, "Lower end of its 95 % interval from order statistics; null if there are too few images."] = None
    high: Annotated[MaybeReal, "Upper end of the interval; null if it is unknown."] = None
    fingerprint: Annotated[String, "Short hash of the conditions; medians are comparable only if it is equal."]


@dataclass(frozen=True, kw_only=True)
class Certified(Event):
    """The certified accuracy: the fraction of images on which provably no attack within the given radius succeeds.

    It is a lower bound of the robust accuracy.
    """

    kind = "certified"
    table = "certified"
    norm: Annotated[String, "Norm of the ball."]
    epsilon: Annotated[Real, "Radius of the ball, in 0..1 pixel space."]
    images: Annotated[int, WholeNumber(low=1), "Images bounded."]
    correct: Annotated[int, Part("images"), "Certified images."]
    low: Annotated[Real, "Lower end of the 95 % Wilson interval of correct / images."]
    high: Annotated[Real, "Upper end of the interval."]
    method: Annotated[String, "Method of the bound, such as interval bounds."]


@dataclass(frozen=True, kw_only=True)
class LatencyMeasured(Event):
    """The inference latency of the attacked network: the time of a forward pass in evaluation mode, after a warm-up.

    On a CPU, it is the computing time of one thread, so time that other programs take does not count.
    """

    kind = "latency"
    table = "latency"
    batch: Annotated[int, WholeNumber(low=1), "Images per pass."]
    median_s: Annotated[Real, "Median time of a pass, in seconds."]
    low_s: Annotated[Real, "Lower quartile of the times."]
    high_s: Annotated[Real, "Upper quartile of the times."]
    repeats: Annotated[int, WholeNumber(low=1), "Timed passes."]
    device: Annotated[String, "cpu or cuda."]
    hardware: Annotated[String, "Name of the processor or GPU."]
    threads: Annotated[int, WholeNumber(low=1), "CPU threads during the passes."]

    def check(self) -> None:
        """Check that 0 <= low_s <= median_s <= high_s."""
        if not 0 <= self.low_s <= self.median_s <= self.high_s:
            raise RunLogError(f"0 <= low_s <= median_s <= high_s must hold, got {self.low_s}, {self.median_s}, {self.high_s}")


@dataclass(frozen=True, kw_only=True)
class SplitOpened(Event):
    """A record that the run has read the test split.

    Test images must not influence any choice. Therefore every such event counts, even if a later attempt repeats it.
    """

    kind = "opened"
    table = "opened"
    split: Annotated[String, "Name of the split: test."]
    images: Annotated[Count, "Number of images in it."]
    purpose: Annotated[String, "Purpose, such as attack."]

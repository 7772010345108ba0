"""The kinds of events that a worker writes into events.jsonl, and the rows that the run log makes of them.

Each kind is one class. The declared fields of the class determine the JSON object of a line (`Event.to_json`), the check of
such an object (`read`), the columns of the kind's table (`Event.columns`) and the documentation (docs/events.md, written by
`engine.run.event_docs`). A field with a default may be missing from a line. Unknown fields are ignored. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from engine.architecture.genotype import EDGES, Genotype
from engine.architecture.network import DerivedNetwork, Network
from engine.attack.verdict import Verdict
from engine.errors import RunLogError
from engine.registry import unknown_name
from engine.run.event_fields import (
    LARGEST_INTEGER,
    Array,
    Cells,
    Column,
    EdgeMatrix,
    EdgeVector,
    FiniteNumber,
    Flag,
    GenotypeObject,
    JsonObject,
    NamedNumbers,
    Names,
    Number,
    NumberList,
    OneOf,
    Part,
    PartWithInterval,
    Reader,
    Record,
    SquareMatrix,
    Text,
    Unless,
    WholeNumber,
    columns_of,
    fields_of,
    readers_of,
)
from engine.search.candidates import Ranking

SCHEMA = 1  # version of events.jsonl
_ROUNDING = 1e-9

Level = Literal["info", "warning", "error"]
Finding = Literal["passed", "warning", "failed", "skipped"]
Count = Annotated[int, WholeNumber()]
Integer = Annotated[int, WholeNumber(high=LARGEST_INTEGER)]
Real = Annotated[float, FiniteNumber()]
MaybeReal = Annotated[float | None, Number()]
String = Annotated[str, Text()]
MaybeString = Annotated[str | None, Text()]
SizeOfDerived = Annotated[int | None, Unless("hand_made", WholeNumber(high=LARGEST_INTEGER))]
Floats = Annotated[Array, Column("FLOAT[]")]


class Stamp(NamedTuple):
    """The circumstances of an event: its time, the attempt (start of the worker) that wrote it, and the progress of the run."""

    t: Annotated[Real, "Seconds since 1970."]
    attempt: Annotated[int, WholeNumber(low=1, high=1_000_000), "Number of the worker start that wrote the event, from 1."]
    step: Annotated[Count, "Steps completed."]
    epoch: Annotated[Integer, "Epoch of the latest step, from 1; 0 before the first step."]


class Event:
    """Base class of all events. Each kind of event is a subclass.

    Attributes:
        kind: name of the kind, which a line of events.jsonl stores in its field `event`.
        table: table of the run log for the rows of this kind, without the suffix `_raw`.
        row: class that declares the columns of the rows; None if the columns are the event's own fields.
    """

    kind: ClassVar[str]
    table: ClassVar[str]
    row: ClassVar[type | None] = None

    @classmethod
    def columns(cls) -> dict[str, str]:
        """Return the columns (name -> DuckDB type) of the table for this kind of event.

        The columns that every table has are left out: run number, position of the line in the file, and the stamp of the event
        (time, attempt and progress).
        """
        return columns_of(cls.row or cls)

    @classmethod
    def from_json(cls, record: Record) -> Self:
        """Return the event that the JSON object of a line of events.jsonl describes.

        Raises:
            RunLogError: a field is missing, has the wrong type, or contradicts another field.
        """
        values = {}
        for name, read_value, default in _readers[cls]:
            value = record.get(name)
            values[name] = default if value is None and default is not MISSING else read_value(name, value, record)
        event = cls.__new__(cls)
        vars(event).update(values)  # several times faster than the __init__ of a frozen dataclass
        event.check()
        return event

    def to_json(self) -> dict[str, Any]:
        """Return the fields in the form in which a line of events.jsonl stores them.

        A field is left out if its value and its default are None.
        """
        record: dict[str, Any] = {}
        for name, of, _, default in fields_of(type(self)):
            value = getattr(self, name)
            if value is not None or default is not None:
                record |= of.to_json(name, value)
        return record

    def rows(self) -> Sequence[Cells]:
        """Return the rows that the event adds to its table, with one value for each of the `columns`."""
        return [tuple(cell for name, of, *_ in fields_of(type(self)) for cell in of.cells(getattr(self, name), self))]

    def check(self) -> None:
        """Check conditions between several fields, which the type of a single field cannot check.

        Raises:
            RunLogError: two fields contradict each other.
        """


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """The start of a later attempt, which continues from a checkpoint.

    Earlier attempts (starts of the worker) may have written events for steps after the checkpoint. These events no longer count.
    """

    kind = "resumed"
    table = "resumed"
    from_step: Annotated[Count, "Steps completed at the checkpoint."]


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Progress of the run, written about twice a second. The run log keeps only the latest such event of each attempt."""

    kind = "progress"
    table = "progress"
    phase: Annotated[String, "Kind of the run."]
    done: Annotated[Real, "Units done; a step in progress counts in part."]
    total: Annotated[Real, "Units of the whole run."]
    unit: Annotated[MaybeString, "The unit: steps, blocks or epochs."] = None
    passes: Annotated[Count, "Forward passes so far."] = 0
    detail: Annotated[MaybeString, "Current activity in words."] = None


class MetricRow(NamedTuple):
    """One measured value."""

    split: Annotated[String, "As in the event."]
    statistics: Annotated[String, "As in the event."]
    name: Annotated[String, "Key in `values`."]
    value: Annotated[MaybeReal, "Value in `values`."]


@dataclass(frozen=True, kw_only=True)
class Metric(Event):
    """Values measured during one step or after an epoch."""

    kind = "metric"
    table = "metric"
    row = MetricRow
    split: Annotated[String, "Split they were measured on: weights, alphas or select."]
    statistics: Annotated[String, "Statistics that batch normalization used: batch or running."] = ""
    values: Annotated[Mapping[str, float | None], NamedNumbers(), "Losses, accuracies (fractions in 0..1), rates."]

    def rows(self) -> Sequence[Cells]:
        """Return one row for each value."""
        split, statistics = self.split, self.statistics
        return [(split, statistics, name, value) for name, value in self.values.items()]


class AlphaRow(NamedTuple):
    """The architecture weights (alphas) of one cell kind, flattened edge by edge."""

    cell: Annotated[String, "As in the event."]
    primitives: Annotated[Sequence[str], Names("operation names"), "As in the event."]
    alpha: Annotated[Floats, "As in the event, [edges * primitives]."]
    weight: Annotated[Floats, "Softmax of alpha over an edge's operations, times its edge weight if any; [edges * primitives]."]
    edge_weight: Annotated[Floats, "Softmax of beta over the edges into a node, [edges]; empty without beta."]


@dataclass(frozen=True, kw_only=True)
class Alpha(Event):
    """Architecture weights (alphas) of one cell kind."""

    kind = "alpha"
    table = "alpha"
    row = AlphaRow
    cell: Annotated[String, "Cell kind, such as normal, reduce or robust."]
    primitives: Annotated[Sequence[str], Names("operation names"), "Operations, in the order of alpha's columns."]
    alpha: Annotated[Array, EdgeMatrix("primitives"), "Architecture weights before the softmax, [edges, primitives]."]
    beta: Annotated[Array | None, EdgeVector("alpha"), "Edge weights before the softmax, if the method has them."] = None

    def rows(self) -> Sequence[Cells]:
        """Return a list with a single row: the fields of the event, and the weights after the softmax."""
        import numpy as np

        weight = np.exp(self.alpha - self.alpha.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        edge_weight = np.empty(0, np.float32)
        if self.beta is not None:
            edge_weight = _edge_weights(self.beta)
            weight *= edge_weight[:, None]
            edge_weight = edge_weight.astype(np.float32)
        return [(self.cell, self.primitives, self.alpha.ravel().astype(np.float32), weight.ravel().astype(np.float32),
                 edge_weight)]


def _edge_weights(beta: Array) -> Array:
    """Return the weight of every edge, [edges]. It is the softmax of beta over the edges that end at the same node.

    Args:
        beta: edge weights before the softmax, one per edge of the search space, [edges].
    """
    import numpy as np

    targets = np.array([target for _, target in EDGES])
    weights = np.empty_like(beta)
    for target in np.unique(targets):
        exponential = np.exp(beta[targets == target] - beta[targets == target].max())
        weights[targets == target] = exponential / exponential.sum()
    return weights


@dataclass(frozen=True, kw_only=True)
class DerivedGenotype(Event):
    """The genotype derived from the architecture weights at the end of an epoch."""

    kind = "genotype"
    table = "genotype"
    genotype: Annotated[Genotype, GenotypeObject(), "The genotype."]


class ObjectiveRow(NamedTuple):
    """The loss and gradient of one objective in one step."""

    objective: Annotated[String, "Name of the objective."]
    position: Annotated[Integer, "Its place in `names`, from 0."]
    loss: Annotated[MaybeReal, "As in the event."]
    weight: Annotated[MaybeReal, "As in the event."]
    norm: Annotated[MaybeReal, "As in the event."]
    cosine: Annotated[MaybeReal, "Smallest cosine between its gradient and another objective's."]


@dataclass(frozen=True, kw_only=True)
class Objectives(Event):
    """Losses and gradients of all objectives in one step, and the weights that the method gives the objectives."""

    kind = "objectives"
    table = "objective"
    row = ObjectiveRow
    names: Annotated[Sequence[str], Names("objectives"), "Names of the objectives."]
    losses: Annotated[Sequence[float | None], NumberList("names"), "Losses."]
    weights: Annotated[Sequence[float | None], NumberList("names"), "Weights in the combined gradient."]
    norms: Annotated[Sequence[float | None], NumberList("names"), "Norms of the gradients with respect to alpha."]
    cosines: Annotated[Sequence[Sequence[float | None]], SquareMatrix("names"), "Cosines between the gradients."]
    stage: Annotated[MaybeString, "Stage of the search, for methods that have several."] = None

    def rows(self) -> Sequence[Cells]:
        """Return one row for each objective."""
        columns = zip(self.names, self.losses, self.weights, self.norms, self.cosines, strict=True)
        return [(name, i, loss, weight, norm,
                 min((value for j, value in enumerate(cosines) if j != i and value is not None), default=None))
                for i, (name, loss, weight, norm, cosines) in enumerate(columns)]


@dataclass(frozen=True, kw_only=True)
class MeasuredCandidate(Event):
    """A candidate network that a search trained and measured separately."""

    kind = "candidate"
    table = "candidate"
    candidate: Annotated[int, WholeNumber(low=1, high=LARGEST_INTEGER), "Number of the candidate, from 1."]
    images: Annotated[int, WholeNumber(low=1), "Images it was measured on."]
    natural_correct: Annotated[int, PartWithInterval("images"), "Images classified correctly."]
    adversarial_correct: Annotated[int, PartWithInterval("images"), "Images classified correctly under attack."]
    parameters: Annotated[Count, "Trainable parameters."]
    macs: Annotated[Count, "Multiply-accumulate operations per image."]
    genotype: Annotated[Genotype, GenotypeObject(), "Its genotype."]
    ranking: Annotated[Ranking, OneOf("ranking", get_args(Ranking)), "Accuracy that the search ranks candidates by."]


@dataclass(frozen=True, kw_only=True)
class NetworkBuilt(Event):
    """The network that a run trains or attacks: derived from a genotype, or made by hand."""

    kind = "network"
    table = "network"
    parameters: Annotated[Count, "Trainable parameters."]
    macs: Annotated[Count, "Multiply-accumulate operations per image."]
    channels: Annotated[SizeOfDerived, "Channels of the first cells."] = None
    layers: Annotated[SizeOfDerived, "Number of cells."] = None
    genotype: Annotated[Genotype | None, Unless("hand_made", GenotypeObject()), "Its genotype."] = None
    hand_made: Annotated[MaybeString, "Name of a network without cells, such as resnet-18."] = None

    @classmethod
    def of(cls, network: Network) -> NetworkBuilt:
        """Return the event that describes `network`. Parameters and MACs are counted without the auxiliary head.

        Raises:
            ConfigError: no network can have these channels, layers and image sizes.
        """
        size = network.cost()
        if isinstance(network, DerivedNetwork):
            return cls(parameters=size.parameters, macs=size.macs, channels=network.channels, layers=network.layers,
                       genotype=network.genotype)
        return cls(parameters=size.parameters, macs=size.macs, hand_made=network.name)


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
        """Check that 0 <= low <= accuracy <= high <= 1, up to rounding."""
        low, accuracy, high = self.low, self.accuracy, self.high
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
    """The comparison of two networks so far, written after each chunk of images until the comparison is decided.

    The first network is that of this run. The counts do not measure accuracies, because the attacks stop as soon as the counts
    decide the comparison.
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
    """The median distance from an image to the nearest adversarial image that an attack found."""

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
    """The certified accuracy, a lower bound of the robust accuracy. On certified images, provably no attack in the ball succeeds.
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
class SplitOpened(Event):
    """A record that the run has read the test split.

    Test images must not influence any choice. Therefore every such event counts, even if a later attempt repeats it.
    """

    kind = "opened"
    table = "opened"
    split: Annotated[String, "Name of the split: test."]
    images: Annotated[Count, "Number of images in it."]
    purpose: Annotated[String, "Purpose, such as attack."]


@dataclass(frozen=True, kw_only=True)
class Alert(Event):
    """A message for the user. It stays in the run log even if the run is later resumed from a step before the message."""

    kind = "alert"
    table = "alert"
    level: Annotated[Level, OneOf("alert level", get_args(Level)), "Severity."]
    text: Annotated[String, "The sentence."]


class MarkRow(NamedTuple):
    """The row of an event without numbers. Such events record that a checkpoint was written or that the run has finished."""

    kind: Annotated[String, "Kind of the event."]
    detail: Annotated[MaybeString, "`path` of a checkpoint."]


@dataclass(frozen=True, kw_only=True)
class CheckpointWritten(Event):
    """A record that the run has written a checkpoint."""

    kind = "checkpoint"
    table = "mark"
    row = MarkRow
    path: Annotated[MaybeString, "Name of the file in the run's checkpoint folder, without ending."] = None

    def rows(self) -> Sequence[Cells]:
        """Return one row: (kind of the event, name of the checkpoint)."""
        return [(self.kind, self.path)]


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """A record that the run has finished."""

    kind = "finished"
    table = "mark"
    row = MarkRow

    def rows(self) -> Sequence[Cells]:
        """Return one row: (kind of the event, None)."""
        return [(self.kind, None)]


KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in Event.__subclasses__()}
_readers: dict[type, tuple[Reader, ...]] = {cls: readers_of(cls) for cls in KINDS.values()}
_stamp_readers = readers_of(Stamp)


def header(run: str) -> dict[str, Any]:
    """Return the JSON object of the header, which is the first line of every events.jsonl. It has no stamp.

    Args:
        run: id of the run.
    """
    return {"event": "header", "schema": SCHEMA, "run": run}


def read(record: Record) -> tuple[Stamp, Event] | None:
    """Return the stamp and the event in the JSON object of a line of events.jsonl, or None if the line is the header.

    Returns:
        The stamp of the event: time, attempt and progress of the run.
        The event.

    Raises:
        RunLogError: the kind is unknown, a field is missing, has the wrong type or contradicts another field, or the header
            has another schema version.
    """
    name = record.get("event")
    if name == "header":
        if record.get("schema") != SCHEMA:
            raise RunLogError(f"events must be of schema {SCHEMA}, got {record.get('schema')!r}: another version of Rampart "
                              "wrote this run")
        return None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise RunLogError(unknown_name("event", name, KINDS).removesuffix("."))
    stamp = Stamp._make([read_value(name, record.get(name), record) for name, read_value, _ in _stamp_readers])
    return stamp, kind.from_json(record)

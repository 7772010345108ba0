"""The kinds of events that a worker writes into events.jsonl, and the rows that the run log stores for them.

Each kind is one class. The declared fields of the class determine four things:

- the JSON object of a line (`Event.to_json`),
- the check of such an object (`read`),
- the columns of the kind's table (`Event.columns`),
- the documentation (docs/events.md, written by `engine.run.event_docs`).

A field with a default may be missing from a line. Unknown fields are ignored. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_args

from engine.architecture.genotype import EDGES, Genotype
from engine.architecture.network import DerivedNetwork, Network
from engine.errors import RunLogError
from engine.registry import unknown_name
from engine.run import attack_events
from engine.run.event import (
    Count,
    Event,
    Floats,
    Integer,
    Level,
    MaybeReal,
    MaybeString,
    Real,
    SizeOfDerived,
    Stamp,
    String,
    readers,
)
from engine.run.event_arrays import EdgeMatrix, EdgeVector, SquareMatrix
from engine.run.event_fields import (
    LARGEST_INTEGER,
    Array,
    Cells,
    Column,
    GenotypeObject,
    NamedNumbers,
    Names,
    NumberList,
    OneOf,
    PartWithInterval,
    Record,
    Unless,
    WholeNumber,
)
from engine.search.candidates import Ranking

SCHEMA = 1  # version of events.jsonl
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
    cosines: Annotated[Sequence[float | None], Column("DOUBLE[]"), "Cosines between its gradient and each objective's, by place."]


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
                 min((value for j, value in enumerate(cosines) if j != i and value is not None), default=None), cosines)
                for i, (name, loss, weight, norm, cosines) in enumerate(columns)]


@dataclass(frozen=True, kw_only=True)
class MeasuredCandidate(Event):
    """A candidate network of a search. It was trained on its own, not as part of a supernet, and then measured.

    The fields that begin with `inherited` are for the same architecture with weights taken from a supernet.
    """

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
    inherited_natural_correct: Annotated[
        int | None, PartWithInterval("images"),
        "Images classified correctly by the same architecture with the weights of the supernet of `inherit_from`."] = None
    inherited_adversarial_correct: Annotated[
        int | None, PartWithInterval("images"), "Images that it classifies correctly under the same attack."] = None


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
class Alert(Event):
    """A message for the user. It stays in the run log even if the run is later resumed from a step before the message."""

    kind = "alert"
    table = "alert"
    level: Annotated[Level, OneOf("alert level", get_args(Level)), "Severity."]
    text: Annotated[String, "The sentence."]


@dataclass(frozen=True, kw_only=True)
class Telemetry(Event):
    """The load of the worker's machine, written every ten seconds or so. Rates and loads are means since the previous event."""

    kind = "telemetry"
    table = "telemetry"
    process_cores: Annotated[Real, "CPU cores that the run's processes used; 1.5 is one and a half."]
    machine_cpu: Annotated[Real, "Load of all CPU cores of the machine, 0..1."]
    memory_bytes: Annotated[Count, "Resident memory of the run's processes."]
    machine_free_bytes: Annotated[Count, "Memory of the machine that is available."]
    machine_bytes: Annotated[Count, "Memory of the machine."]
    disk_free_bytes: Annotated[Count, "Free space on the disk of the run's folder."]
    unit: Annotated[String, "The unit of work, as in the event progress."]
    units_per_s: Annotated[Real, "Units of work completed per second."]
    passes_per_s: Annotated[Real, "Forward passes per second."]


@dataclass(frozen=True, kw_only=True)
class GpuTelemetry(Event):
    """The load of the GPU of a run, written after each telemetry event. It includes other programs on this GPU."""

    kind = "gpu"
    table = "gpu"
    device: Annotated[String, "Device of the run, such as cuda:0."]
    name: Annotated[String, "Name of the GPU."]
    utilisation: Annotated[Real, "Fraction of the time in which a kernel was running, 0..1."]
    memory_bytes: Annotated[Count, "GPU memory in use."]
    memory_total_bytes: Annotated[Count, "GPU memory."]
    temperature_c: Annotated[Real, "Temperature in degrees Celsius."]


class MarkRow(NamedTuple):
    """The row of an event that holds no numbers: the run has written a checkpoint, or the run has finished."""

    kind: Annotated[String, "Kind of the event."]
    detail: Annotated[MaybeString, "`path` of a checkpoint, or `early` of the end."]


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
    """A record that the run has finished. An early-stop rule of the run may have ended it before its last epoch."""

    kind = "finished"
    table = "mark"
    row = MarkRow
    early: Annotated[MaybeString, "Why the run finished before its last epoch, as a sentence."] = None

    def rows(self) -> Sequence[Cells]:
        """Return one row: (kind of the event, reason of an early end)."""
        return [(self.kind, self.early)]


# The kinds that all runs write come first, those of attack runs last.
KINDS: dict[str, type[Event]] = {
    cls.kind: cls for cls in sorted(Event.__subclasses__(), key=lambda cls: cls.__module__ == attack_events.__name__)}


def header(run: str) -> dict[str, Any]:
    """Return the JSON object of the header, which is the first line of every events.jsonl. It has no time or progress.

    Args:
        run: id of the run.
    """
    return {"event": "header", "schema": SCHEMA, "run": run}


def read(record: Record) -> tuple[Stamp, Event] | None:
    """Return the stamp (time, attempt, progress) and the event in a line of events.jsonl, or None if the line is the header.

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
    stamp = Stamp._make([read_value(name, record.get(name), record) for name, read_value, _ in readers(Stamp)])
    return stamp, kind.from_json(record)

"""What-if questions and their answers, which are measured in a separate process and stored in the runs folder. Imports no torch.

The weights are inherited from a supernet (`engine.search.inherited`), and the images are from the select split of the search,
never from the test split. An answer is therefore only a hint. Results come from retraining and attacking a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.architecture.genotype import NODES, NONE, PRIMITIVES, Genotype
from engine.architecture.placement import RULES
from engine.config import SearchConfig
from engine.configuring import recorded
from engine.data.catalogue import DATASETS
from engine.errors import GenotypeError, RampartError, RunError
from engine.files import atomic_write_json
from engine.run.folder import RunFolder, read_json
from engine.run.state import compute
from engine.whatif.process import Standby

VERSION = 1  # of the way in which answers are measured; kept answers of another version do not count
SPLIT = "select"
MOST_IMAGES = 256
STEPS = 10  # of PGD
LIMIT_S = 8.0  # after which no further batch is begun
LEEWAY_S = 40.0  # for loading PyTorch and the batch that has been begun, also on a busy machine
CHECKPOINT = "last.pt"
JOB = "engine.whatif.job"
_standby = Standby(JOB)


@dataclass(frozen=True)
class Question:
    """A question: how accurate are these architectures with the weights of this search?

    Attributes:
        search: id of the search.
        genotypes: the architectures, which are all measured on the same images.
    """

    search: str
    genotypes: tuple[Genotype, ...]

    def key(self, runs: Path) -> str:
        """Return a hash (24 hex digits) of everything on which the answer depends, including the state of the checkpoint file.

        Raises:
            RunError: the search has no checkpoint.
        """
        path = RunFolder(runs, self.search).checkpoint / CHECKPOINT
        try:
            stamp = path.stat()
        except OSError:
            raise RunError(f"Weights can only be inherited from a search with a checkpoint, got {self.search}, which has none; "
                           "choose another search.") from None
        parts = [VERSION, self.search, stamp.st_mtime_ns, stamp.st_size, *(one.hash for one in self.genotypes)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Counts:
    """The numbers of images that an architecture classifies correctly with inherited weights.

    Attributes:
        images: number of images.
        natural_correct, adversarial_correct: number of natural and of attacked images that are classified correctly.
    """

    images: int
    natural_correct: int
    adversarial_correct: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.images + other.images, self.natural_correct + other.natural_correct,
                      self.adversarial_correct + other.adversarial_correct)


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
        counts: one entry for each of the question's genotypes, on the same images.
        dataset: name of the dataset.
        epsilon: L-infinity radius of PGD, in pixel space.
        steps: steps of PGD.
    """

    counts: tuple[Counts, ...]
    dataset: str
    epsilon: float
    steps: int

    @classmethod
    def of(cls, record: Any) -> Answer:
        """Return the answer that a JSON object with the fields of this class describes."""
        return cls(tuple(Counts(**one) for one in record["counts"]), str(record["dataset"]), float(record["epsilon"]),
                   int(record["steps"]))


def radius_of(config: SearchConfig) -> float:
    """Return the L-infinity radius for PGD, in pixel space: the search's epsilon or, if it has none, the dataset's default."""
    return float(getattr(config, "epsilon", 0.0)) or DATASETS[config.dataset].epsilon


def problem_of(runs: Path, search: str, genotype: Genotype) -> str:
    """Return a sentence that says why an architecture cannot use the weights of a search, or "" if it can."""
    try:
        folder = RunFolder(runs, search)
        if folder.exists() and not (folder.checkpoint / CHECKPOINT).is_file():
            return f"{search} has no checkpoint."
        config = recorded(folder.read_run())
    except RampartError as refusal:
        return str(refusal)
    if not isinstance(config, SearchConfig) or not config.on_supernet:
        return f"{search} has no supernet."
    if compute(folder).status not in ("finished", "stopped"):
        return f"{search} has not ended."
    kinds = sorted(RULES[config.placement].kinds)
    if sorted(genotype.kinds) != kinds:
        return f"{search} has the cells {', '.join(kinds)}."
    return _outside(genotype)


def _outside(genotype: Genotype) -> str:
    """Return a sentence that says why no supernet contains an architecture, or "" if at least one supernet contains it."""
    for kind, cell in genotype.cells:
        others = {operation for operation, _ in cell.edges} - {*PRIMITIVES, NONE}
        if cell.nodes != NODES or len(cell.concat) != NODES or others:
            return f"No supernet contains its {kind} cell, which has operations or nodes that a search does not choose from."
    return ""


def known(runs: Path, question: Question) -> Answer | None:
    """Return the stored answer to a question, or None if there is none."""
    try:
        record = read_json(_place_of(runs, question))
        return None if record is None else Answer.of(record)
    except (RunError, KeyError, TypeError, ValueError):  # damaged, of another version, or without its checkpoint
        return None


def answered(runs: Path, question: Question, limit_s: float = LIMIT_S) -> Answer:
    """Return the stored answer to a question. If there is none, measure the answer in a separate process and store it.

    Args:
        runs: folder of all runs.
        question: the question.
        limit_s: seconds after which no further batch is begun. The answer then covers fewer images.

    Raises:
        RunError: the search has no checkpoint, or the process gave no answer.
        GenotypeError: the weights of the search cannot be used for one of the architectures.
    """
    for genotype in question.genotypes:
        if reason := problem_of(runs, question.search, genotype):
            raise GenotypeError(f"The weights must be those of a search that contains the architecture. {reason} Choose another "
                                "search, or retrain the architecture.")
    if (kept := known(runs, question)) is not None:
        return kept
    path = _place_of(runs, question)
    lines, problem = _standby.ask(
        _request(runs, question.search), Question(question.search, ()).key(runs),
        {"limit_s": limit_s, "genotypes": [one.to_dict() for one in question.genotypes]}, limit_s + LEEWAY_S)
    if not lines or "problem" in lines[-1]:
        raise RunError(lines[-1]["problem"] if lines else f"The accuracy must be measured within {limit_s + LEEWAY_S:.0f} s, and "
                       f"it was not ({problem}); try again when the machine is less busy.")
    answer = Answer.of(lines[-1])
    with contextlib.suppress(OSError):  # on a full disk, the answer is not kept
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, asdict(answer))
    return answer


def prepare(runs: Path, search: str) -> None:
    """Start the process that answers questions about a search, unless it runs already. Return without waiting for it.

    Loading PyTorch and the weights takes the process longer than answering. If it is started early, it loads them while the user
    still chooses an operation.

    Raises:
        RunError: the search has no checkpoint.
    """
    _standby.prepare(_request(runs, search), Question(search, ()).key(runs))


def _request(runs: Path, search: str) -> dict[str, str]:
    return {"runs": str(runs), "search": search}


def _place_of(runs: Path, question: Question) -> Path:
    return runs / "control" / "whatif" / f"{question.key(runs)}.json"

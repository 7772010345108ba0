"""RunLog: everything that happened in a runs folder, as tables. The only home of SQL is this package.

The run folders are the truth; the database is an index that can be deleted at any time and is rebuilt identically. DuckDB
lets one process read and write a file, so the first process that opens `runs/index.duckdb` owns it and every other one
builds an index of its own in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from engine.configuring import config_class, differences_from_paper, recorded
from engine.errors import ConfigError, RunError, RunLogError
from engine.log import queries_attacks, queries_runs, queries_training, schema
from engine.log.frames import number_of
from engine.log.ingest import CHUNK_BYTES, Ingester, IngestReport, stamp_of
from engine.run.folder import RunFolder
from engine.run.state import RunState, compute

INDEX = "index.duckdb"
CURVE_BUCKETS, ALPHA_BUCKETS = 400, 200
_guard = threading.Lock()
_locks: dict[Path, threading.RLock] = {}  # one per runs folder: two logs of one process share a database file
_owned: set[Path] = set()
# What the state of a run whose worker is gone is computed from.
STATE_FILES = ("exit.json", "process.json", "control", "run.json")


class RunLog:
    """Reads run folders into an index and answers questions about them.

    Safe to use from several threads: every query takes a cursor of its own, one ingest works at a time.

    Example:
        log = RunLog.open("runs")
        log.ingest()
        log.runs()

    Attributes:
        root: the runs folder.
        owner: True when this process owns `runs/index.duckdb`; False when the index is in memory.
        holder: process id of the process that owns the file, when that is another one and known.
        trouble: a sentence when the file had to be given up while it was in use (a full disk), else "".
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, root: Path, *, owner: bool, holder: int | None = None,
                 chunk_bytes: int = CHUNK_BYTES) -> None:
        """Use `open`; `con` is a connection to a database with the tables of `schema`."""
        self.root = root
        self.owner = owner
        self.holder = holder
        self.trouble = ""
        self._con = con
        self._chunk_bytes = chunk_bytes
        with _guard:
            self._lock = _locks.setdefault(root, threading.RLock()) if owner else threading.RLock()
        self._settled: dict[str, tuple[tuple[str, ...], RunState]] = {}

    @classmethod
    def open(cls, root: Path | str, *, in_memory: bool = False, chunk_bytes: int = CHUNK_BYTES) -> RunLog:
        """Opens the index of a runs folder, made or rebuilt when it is missing, damaged or of another version.

        Args:
            root: the runs folder; made when it is not there.
            in_memory: never take the file (the command line does this, so that a dashboard can have it).
            chunk_bytes: how much of an events.jsonl is read at once; one transaction takes about as much.

        Returns:
            A log that has ingested nothing yet: call `ingest`.
        """
        root = Path(root).absolute()
        if in_memory:
            return cls(_in_memory(), root, owner=False, chunk_bytes=chunk_bytes)
        try:
            root.mkdir(parents=True, exist_ok=True)
            con = _open_file(root / INDEX)
        except OSError:  # a folder that only may be read
            return cls(_in_memory(), root, owner=False, chunk_bytes=chunk_bytes)
        except duckdb.Error as problem:  # held by another process, or the disk is full
            return cls(_in_memory(), root, owner=False, holder=_holder(problem), chunk_bytes=chunk_bytes)
        _owned.add(root)
        return cls(con, root, owner=True, chunk_bytes=chunk_bytes)

    def close(self) -> None:
        """Closes the index; queries fail from now on."""
        with self._lock:
            self._con.close()
            _owned.discard(self.root)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of the caller's own on the same database."""
        return self._con.cursor()

    def ingest(self, run: str | None = None) -> IngestReport:
        """Takes in what is new in the folders: of one run, or of all. Costs one `stat` per unchanged file.

        Raises:
            RunError: `run` is not a run id.
            RunLogError: DuckDB could not take in the rows even in memory; what was read before is still there.
        """
        with self._lock:
            try:
                return self._ingest(run)
            except duckdb.Error as problem:
                if not self.owner:
                    raise RunLogError(f"The index of {self.root} must take in new events and could not ({problem}); restart the "
                                      "dashboard. The runs themselves are not affected.") from problem
                self._leave_file(problem)
                return self._ingest(None)

    def _ingest(self, run: str | None) -> IngestReport:
        with self.cursor() as cursor:
            return Ingester(cursor, self.root, self._chunk_bytes).ingest(run)

    def _leave_file(self, problem: duckdb.Error) -> None:
        """Goes on in memory when the file cannot be written, so that a full disk never stops the pages."""
        self.trouble = (f"{self.root / INDEX} cannot be written ({problem}). The index is kept in memory; free disk space and "
                        "restart the dashboard.")
        file, self._con = self._con, _in_memory()
        self.owner = False
        _owned.discard(self.root)
        file.close()  # queries under way have cursors of their own

    def _ask(self, query: Callable[..., Any], run: str | None, *arguments: Any) -> Any:
        """`query(cursor, number of run, *arguments)`, without the number when `run` is None."""
        with self.cursor() as cursor:
            first = () if run is None else (number_of(cursor, run),)
            return query(cursor, *first, *arguments)

    # Runs ----------------------------------------------------------------------------------------------------------

    def runs(self) -> pd.DataFrame:
        """One row per run, newest first; columns as in `queries_runs.RUNS`.

        `natural_accuracy` and `adversarial_accuracy` are what `accuracy_of` says: of an attack run what it measured on the
        test split (the strongest attack), of a retraining the epoch that is kept, of a search the latest epoch,
        or the first in rank of its candidates. The
        `chain_*` columns hold the newest attack among the run's descendants. Missing numbers are NaN, missing text "".
        `status`, `cause`, `silent_s`, `can_stop`, `can_resume` and `seconds_left` are true at the moment of the call.
        """
        return self._runs(None)

    def run(self, run: str) -> dict[str, Any]:
        """The row of `runs` as a dict, with `config`, `command`, `code`, `packages`, `children_of_chain` from run.json,
        `attempt`, `device`, `since` and `pid` from its state, `imported` (file and hash it was made of; {} for a run of ours),
        and `differences`: what differs from the published settings, as `engine.configuring.Difference`. Unknown numbers are None.

        Raises:
            RunLogError: no such run.
        """
        found = self._runs(run)
        if found.empty:
            raise RunLogError(f"There is no run {run!r} in {self.root}; the Runs page and `rampart runs` list them.")
        row = {name: None if missing else value
               for (name, value), missing in zip(found.iloc[0].to_dict().items(), found.iloc[0].isna(), strict=True)}
        with self.cursor() as cursor:
            document = json.loads(queries_runs.document(cursor, run) or "{}")
        state = self._state(run, "")
        keys = ("config", "command", "code", "packages", "children_of_chain", "imported")
        defaults: dict[str, Any] = {"config": {}, "command": "", "code": {}, "packages": {}, "children_of_chain": [],
                                    "imported": {}}
        return (row | {key: document.get(key) or defaults[key] for key in keys}
                | {"attempt": state.attempt, "device": state.device, "since": state.since, "pid": state.pid,
                   "differences": _differences(document)})

    def chain(self, run: str) -> pd.DataFrame:
        """The whole family of a run from its root down: id, kind, title, parent, depth, status; columns `CHAIN`."""
        with self.cursor() as cursor:
            found = queries_runs.chain(cursor, run)
        found["status"] = pd.Series([self._state(name, "").status for name in found["id"]], dtype="str", index=found.index)
        return found

    def progress(self, run: str) -> dict[str, Any]:
        """attempt, phase, done, total, unit, passes, detail, t, fraction (0..1), seconds_left (at the rate of the last two
        minutes, NaN when unknown); empty before the first progress event."""
        return self._ask(queries_runs.progress, run)

    def alerts(self, run: str) -> pd.DataFrame:
        """Alerts of the run and lines of its events.jsonl that could not be used, oldest first: t, attempt, step, level,
        text, source ("run" or "run log"; the latter have no time)."""
        return self._ask(queries_runs.alerts, run)

    def test_openings(self) -> pd.DataFrame:
        """The test ledger: every opening of a test split, also by attempts that were superseded; `OPENINGS`."""
        return self._ask(queries_runs.test_openings, None)

    def events_revision(self, run: str | None = None) -> int:
        """A whole number that changes when, and only when, something changed that queries about the run (or about any
        run) would show: content of the index or status. Call after `ingest`; silence alone changes nothing."""
        with self.cursor() as cursor:
            rows = queries_runs.revision_rows(cursor, run)
        states = [self._state(row[0], "") for row in rows]
        content = [(*row, state.status, state.cause, state.attempt) for row, state in zip(rows, states, strict=True)]
        return int.from_bytes(hashlib.blake2b(repr(content).encode(), digest_size=6).digest(), "big")

    # Training ------------------------------------------------------------------------------------------------------

    def curves(self, run: str) -> pd.DataFrame:
        """Averages over each epoch: epoch, step (the epoch's last), split, statistics, name, value."""
        return self._ask(queries_training.curves, run)

    def steps_curve(self, run: str, names: Sequence[str], buckets: int = CURVE_BUCKETS) -> pd.DataFrame:
        """Step by step, averaged into at most `buckets` points a series; columns as `curves`."""
        return self._ask(queries_training.steps_curve, run, names, buckets)

    def objectives(self, run: str, buckets: int = CURVE_BUCKETS) -> pd.DataFrame:
        """Per objective, averaged into at most `buckets` points: step, epoch, objective, weight (MGDA's), norm of its
        gradient, loss, cosine (the smallest with another objective's gradient)."""
        return self._ask(queries_training.objectives, run, buckets)

    def share_at_vertex(self, run: str, last: int = 500) -> pd.DataFrame:
        """Over the last steps: objective, share_ignored (weight 0), share_alone (weight 1), steps (how many counted)."""
        return self._ask(queries_training.share_at_vertex, run, last)

    def alpha_cells(self, run: str) -> list[str]:
        """Cell kinds that have alphas, in the order in which they were written."""
        return self._ask(queries_training.alpha_cells, run)

    def alpha_epochs(self, run: str, cell: str) -> list[int]:
        """Epochs that have alphas of a cell kind, rising."""
        return self._ask(queries_training.alpha_epochs, run, cell)

    def alpha_matrix(self, run: str, cell: str, epoch: int | None = None) -> pd.DataFrame:
        """The last alphas of an epoch (None: of the run): edge (0..13), operation, alpha, weight, edge_weight.

        weight decides what is derived: the softmax over the operations of an edge, times edge_weight (softmax over the edges
        into a node) where the method has edge weights; edge_weight is NaN where it has none.
        """
        return self._ask(queries_training.alpha_matrix, run, cell, epoch)

    def alpha_lines(self, run: str, cell: str, buckets: int = ALPHA_BUCKETS) -> pd.DataFrame:
        """Weights over time: edge, operation, step, epoch, weight; the last step of each of at most `buckets` buckets."""
        return self._ask(queries_training.alpha_lines, run, cell, buckets)

    def edge_lines(self, run: str, cell: str, buckets: int = ALPHA_BUCKETS) -> pd.DataFrame:
        """Edge weights over time: edge, step, epoch, edge_weight; as `alpha_lines`, no rows for a method without them."""
        return self._ask(queries_training.edge_lines, run, cell, buckets)

    def genotypes(self, run: str) -> pd.DataFrame:
        """The genotype at the end of each epoch: epoch, step, genotype (JSON), hash, unchanged_epochs, t."""
        return self._ask(queries_training.genotypes, run)

    def candidates(self, run: str) -> pd.DataFrame:
        """Networks that a search trained and measured one by one, best first by its `ranking`: candidate (number from 1), rank,
        genotype (JSON), hash, parameters, macs, images, natural and adversarial (fractions) with _low and _high (95 % Wilson)."""
        return self._ask(queries_training.candidates, run)

    def genotype(self, run: str) -> dict[str, Any] | None:
        """The genotype a run works with (retrain, attack) or found last (search), in the format of
        `Genotype.from_dict`; None when there is none yet."""
        with self.cursor() as cursor:
            text = queries_training.genotype_text(cursor, run)
        return json.loads(text) if text else None

    # Attacks -------------------------------------------------------------------------------------------------------

    def attacks(self, run: str | None = None) -> pd.DataFrame:
        """Every attack result, natural accuracy and parts of suites included; columns `queries_attacks.ATTACKS`.
        `fields` is the fingerprint's content as JSON, `part_of` is "" for an attack of its own."""
        with self.cursor() as cursor:
            return queries_attacks.attacks(cursor, run)

    def robustness(self) -> pd.DataFrame:
        """One row per attacked network (attack run), the most robust first; columns `queries_attacks.ROBUSTNESS`:
        natural_, fgsm_, pgd20_, autoattack_ and worst_ with accuracy, low, high (95 % Wilson), images; `genotype` is a
        dict or None. worst: per image over all attacks on the images that every attack saw, where that is recorded; else
        the lowest accuracy, as `worst_of` says. `fingerprint`: hashes of all its results, blank between."""
        with self.cursor() as cursor:
            found = queries_attacks.robustness(cursor)
        found["genotype"] = pd.Series([json.loads(text) if text else None for text in found["genotype"]], dtype="object",
                                      index=found.index)
        return found

    def pareto_networks(self) -> pd.DataFrame:
        """Natural against adversarial accuracy of attacked networks, one row per network and attack. Only rows of the same
        `group` (dataset, attack, epsilon, images, fingerprint) may be drawn together; `is_front` is within it."""
        with self.cursor() as cursor:
            return queries_attacks.pareto_networks(cursor)

    def pareto_epochs(self, runs: Sequence[str] | None = None) -> pd.DataFrame:
        """The same of search epochs (alphas split, batch statistics); `runs`: these only. `is_front` is among the rows
        returned."""
        with self.cursor() as cursor:
            return queries_attacks.pareto_epochs(cursor, runs)

    # Status --------------------------------------------------------------------------------------------------------

    def _runs(self, run: str | None) -> pd.DataFrame:
        with self.cursor() as cursor:
            found = queries_runs.runs(cursor, run)
        states = [self._state(name, problem) for name, problem in zip(found["id"], found["problem"], strict=True)]
        found["status"] = [state.status for state in states]
        found["cause"] = [state.cause for state in states]
        found["silent_s"] = [state.silent_s for state in states]
        found["can_stop"] = [state.can_stop for state in states]
        found["can_resume"] = [state.can_resume for state in states]
        found["age_s"] = time.time() - found["created"]
        found.loc[found["status"] == "finished", "progress"] = 1.0
        found.loc[~found["status"].isin(("running", "stopping")), "seconds_left"] = None
        return found[list(queries_runs.RUNS)].astype(queries_runs.RUNS)

    def _state(self, run: str, problem: str) -> RunState:
        """State now. A settled one is remembered for as long as no file it is computed from was touched."""
        if problem:
            return RunState("failed", problem)
        stamps = tuple(stamp_of(f"{self.root}/{run}/{name}") for name in STATE_FILES)
        known = self._settled.get(run)
        if known and known[0] == stamps:
            return known[1]
        try:
            state = compute(RunFolder(self.root, run))
        except RunError as gone:  # its folder was deleted after the last ingest
            return RunState("failed", str(gone))
        # Without exit.json a dead worker's last words may still be on their way.
        if state.is_over and stamps[0]:
            self._settled[run] = (stamps, state)
        return state


def reindex(root: Path | str) -> IngestReport:
    """Deletes `runs/index.duckdb` and builds it anew from the folders.

    Raises:
        RunLogError: a dashboard owns the file.
    """
    root = Path(root).absolute()
    path = root / INDEX
    if not root.is_dir():
        raise RunLogError(f"Expected a folder of runs at {root}, and there is none; pass the right one with --runs.")
    if root in _owned:
        raise RunLogError(f"{path} is in use by this process, so it cannot be rebuilt; close the dashboard first.")
    try:
        duckdb.connect(str(path)).close()
    except duckdb.IOException as problem:
        holder = _holder(problem)
        if holder is not None:
            raise RunLogError(f"Expected {path} to be free, but a dashboard (process {holder}) owns it; close that dashboard "
                              "and reindex again.") from None
    _delete(path)
    log = RunLog.open(root)
    try:
        if not log.owner:
            raise RunLogError(f"Expected {path} to be free, but process {log.holder or 'unknown'} took it at this moment; close "
                              "the dashboard and reindex again.")
        return log.ingest()
    finally:
        log.close()


def _in_memory() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:")
    schema.create(con)
    return con


def _open_file(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection to the index file, rebuilt empty when it is not a usable one of this version.

    Raises:
        duckdb.IOException: another process holds the file.
        OSError: the file cannot be written.
    """
    con = None
    try:
        con = duckdb.connect(str(path))
        if schema.is_empty(con):
            schema.create(con)
        if schema.version_of(con) == schema.VERSION:
            return con
    except duckdb.Error as problem:
        if _holder(problem) is not None:
            raise
        # Damaged, or no DuckDB file at all. It is derived from the folders, so nothing is lost with it.
    if con is not None:
        con.close()
    _delete(path)
    con = duckdb.connect(str(path))
    schema.create(con)
    return con


def _delete(path: Path) -> None:
    for name in (path, path.with_name(path.name + ".wal")):
        name.unlink(missing_ok=True)


def _holder(problem: duckdb.Error) -> int | None:
    """Process id out of DuckDB's message about a held lock (2.0.0: "Conflicting lock is held in ... (PID n)")."""
    match = re.search(r"Conflicting lock is held.*?\(PID (\d+)\)", str(problem), re.DOTALL)
    if match:
        return int(match[1])
    return 0 if "Could not set lock" in str(problem) else None


def _differences(document: dict[str, Any]) -> list[Any]:
    """What a run.json's configuration changes of the published one; empty where that cannot be known: an imported run says
    little of its settings, and another version may have written it."""
    if document.get("imported"):
        return []
    try:
        cls = config_class(document["kind"], document.get("method"))
        return differences_from_paper(recorded(cls, document["config"]))
    except (ConfigError, KeyError):
        return []


"""Progress bars on the command line, for the runs of a launch with `--wait` and for the downloads of `dataset fetch`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine import api
from engine.attack.badge import Badge
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.attack.statistics import accuracy_words
from engine.attack.verdict import in_words
from engine.config import pixels_text
from engine.errors import RunLogError
from engine.report.words import badge_text
from engine.run.event_kinds import read
from engine.run.folder import RunFolder
from engine.run.recorded_badge import recorded_badge
from engine.run.state import RunState


class Bars:
    """Progress bars of several runs, updated by the runs' events.

    On a terminal, the bars move in place. If stderr goes to a file, a line is printed at most every 10 seconds.
    """

    def __init__(self, runs: Path, ids: Sequence[str], quiet: bool) -> None:
        """Create one progress bar for each run.

        Args:
            runs: folder of all runs.
            ids: ids of the runs.
            quiet: True to collect the results of attacks, checks and comparisons without drawing bars.
        """
        self.results: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in ids}
        self.findings: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in ids}
        self.verdicts: dict[str, dict[str, Any]] = {}
        kinds = {run_id: str(RunFolder(runs, run_id).read_run()["kind"]) for run_id in ids}
        width = max(map(len, kinds.values()))
        slow = {} if sys.stderr.isatty() else {"mininterval": 10.0, "maxinterval": 60.0}
        self.bars = {run_id: tqdm(total=1, desc=kind.ljust(width), position=place, disable=quiet, leave=True, dynamic_ncols=True,
                                  bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}", **slow)
                     for place, (run_id, kind) in enumerate(kinds.items())}

    def on_event(self, run_id: str, event: dict[str, Any]) -> None:
        """Update the progress bar or the collected results of a run with one event.

        An invalid event is ignored.

        Args:
            run_id: id of the run.
            event: JSON object of one line of the run's events.jsonl.
        """
        try:
            read(event)
        except RunLogError:
            return
        bar = self.bars[run_id]
        if event.get("event") == "progress" and event.get("total"):
            if not bar.n and event["done"] > 0:
                bar.unpause()  # time in the queue does not count
            bar.total = event["total"]
            bar.n = event["done"]
            bar.set_postfix_str(f"{event.get('detail') or ''} ({event.get('passes', 0)} passes)", refresh=False)
            bar.update(0)
        elif event.get("event") == "attack":
            self.results[run_id].append(event)
        elif event.get("event") == "check":
            self.findings[run_id].append(event)
        elif event.get("event") == "verdict":
            self.verdicts[run_id] = event  # a resumed run repeats those after its checkpoint
        elif event.get("event") == "resumed":
            for rows in (self.results[run_id], self.findings[run_id]):
                rows[:] = [row for row in rows if row["step"] <= event["from_step"]]

    def badge(self, run_id: str) -> Badge | None:
        """Return the reliability badge of a run's results, or None if the run has no accuracy under attack."""
        attacked = any(row["attack"] != NATURAL for row in self.results[run_id])
        return recorded_badge(self.findings[run_id]) if attacked else None

    def close(self) -> None:
        """Close the progress bars. They stay on the screen in their last state."""
        for bar in self.bars.values():
            bar.refresh()
            bar.close()


def wait(ids: Sequence[str], runs: Path, as_json: bool) -> int:
    """Wait until all given runs have ended, and print their status and the results of attacks.

    Args:
        ids: ids of the runs, parents first.
        runs: folder of all runs.
        as_json: True to print JSON instead of progress bars and text.

    Returns:
        Exit code: 0 if every run finished, 1 if not, 130 if the user interrupted the wait.
    """
    bars = Bars(runs, ids, as_json)
    states = watched(bars, ids, runs)
    if states is None:
        return 130
    if as_json:
        print(json.dumps({"ids": list(ids), "runs": {run_id: {
            "status": state.status, "cause": state.cause, "attacks": bars.results[run_id],
            "badge": dataclasses.asdict(badge) if (badge := bars.badge(run_id)) else None,
            "verdict": bars.verdicts.get(run_id)} for run_id, state in states.items()}}))
    else:
        for run_id, state in states.items():
            print(f"{run_id}  {state.status}" + (f": {state.cause}" if state.cause else ""))
            for row in bars.results[run_id]:
                print(f"  {result_text(row)}")
            if badge := bars.badge(run_id):
                print(f"  {badge_text(badge)}")
            if verdict := bars.verdicts.get(run_id):
                print(f"  {in_words(verdict, _title(runs, run_id), _title(runs, str(verdict['against'])))}")
    return 0 if all(state.status == "finished" for state in states.values()) else 1


def result_text(row: Mapping[str, Any]) -> str:
    """Return the result of an attack in one line, with interval, number of images and radius.

    Args:
        row: fields of an `AttackResult` event.
    """
    ball = f", epsilon {pixels_text(row['epsilon'])}" if row["epsilon"] else ""
    part = f", part of {ATTACKS[row['part_of']].title}" if row.get("part_of") else ""
    return f"{row['title']:<12} {accuracy_words(row['correct'], row['images'])}{ball}{part}"


def watched(bars: Bars, ids: Sequence[str], runs: Path) -> dict[str, RunState] | None:
    """Wait until all runs have ended, with progress bars.

    Returns:
        {run id: state of the run}; None if the user interrupted the wait. A message about the interruption has then been printed.
    """
    try:
        return api.wait(ids, runs=runs, on_event=bars.on_event)
    except KeyboardInterrupt:
        print(f"The runs continue without this terminal; stop them with `rampart stop {ids[0]}`.", file=sys.stderr)
        return None
    finally:
        bars.close()


def _title(runs: Path, run_id: str) -> str:
    """Return the title of a run, or its id if the run has been removed."""
    folder = RunFolder(runs, run_id)
    return str(folder.read_run().get("title") or run_id) if folder.exists() else run_id


class ProgressLines:
    """A callable that prints progress as lines of JSON, [activity, done, total], at most five per second."""

    def __init__(self) -> None:
        self._latest = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Print the progress, unless a line was printed within the last 0.2 s. The end of an activity is always printed."""
        if done >= total or time.monotonic() - self._latest > 0.2:
            self._latest = time.monotonic()
            print(json.dumps([what, done, total]), flush=True)


def fetched(name: str, source: str | None, side: int | None, as_json: bool, as_lines: bool = False) -> int:
    """Download and prepare a dataset with one progress bar per file, and print the number of its images.

    Args:
        name: name of the dataset.
        source: folder with the official files or, for an image folder, with one subfolder of images per class; None to download.
        side: height and width in pixels to which the images of an image folder are scaled; None for the default.
        as_json: True to print JSON instead of progress bars and text.
        as_lines: True to print the progress as lines of JSON on stdout, at most five per second, instead of bars.

    Returns:
        Exit code: 0, or 130 if the user interrupted the download.
    """
    bars: dict[str, tqdm] = {}
    slow = {} if sys.stderr.isatty() else {"mininterval": 10.0, "maxinterval": 60.0}

    def on_progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            unit = "images" if what == "preparing" else "B"
            bars[what] = tqdm(total=total, desc=what, unit=unit, unit_scale=True, disable=as_json, dynamic_ncols=True, **slow)
        bars[what].total = total
        bars[what].update(done - bars[what].n)

    try:
        dataset = api.fetch_dataset(name, source=source, side=side, progress=ProgressLines() if as_lines else on_progress)
    except KeyboardInterrupt:
        print(f"The downloaded part is kept; the same command continues: rampart dataset fetch {name}", file=sys.stderr)
        return 130
    finally:
        for bar in bars.values():
            bar.close()
    where = f" in {dataset.place}" if dataset.place else ""
    print(json.dumps(dataclasses.asdict(dataset)) if as_json else f"{dataset.title} is here: {dataset.images:,} images{where}")
    return 0

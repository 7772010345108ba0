"""`--wait`: one progress bar per run of the chain, and the attack table at the end. The progress line of `dataset fetch`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine import api
from engine.errors import RunLogError
from engine.log.events import rows_of
from engine.run.folder import RunFolder


class Bars:
    """Progress bars fed by events; on a terminal they move in place, in a log they are written now and then."""

    def __init__(self, runs: Path, ids: Sequence[str], quiet: bool) -> None:
        """quiet: collect the results without drawing anything."""
        self.results: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in ids}
        kinds = {run_id: str(RunFolder(runs, run_id).read_run()["kind"]) for run_id in ids}
        width = max(map(len, kinds.values()))
        slow = {} if sys.stderr.isatty() else {"mininterval": 10.0, "maxinterval": 60.0}
        self.bars = {run_id: tqdm(total=1, desc=kind.ljust(width), position=place, disable=quiet, leave=True, dynamic_ncols=True,
                                  bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}", **slow)
                     for place, (run_id, kind) in enumerate(kinds.items())}

    def on_event(self, run_id: str, event: dict[str, Any]) -> None:
        """Takes one event of a run's events.jsonl; leaves out what is none, as the run log does."""
        try:
            rows_of(event)
        except RunLogError:
            return
        bar = self.bars[run_id]
        if event.get("event") == "progress" and event.get("total"):
            if not bar.n and event["done"] > 0:
                bar.unpause()  # time in the queue is not time at work
            bar.total = event["total"]
            bar.n = event["done"]
            bar.set_postfix_str(f"{event.get('detail') or ''} ({event.get('passes', 0)} passes)", refresh=False)
            bar.update(0)
        elif event.get("event") == "attack":
            self.results[run_id].append(event)
        elif event.get("event") == "resumed":
            self.results[run_id] = [row for row in self.results[run_id] if row["step"] <= event["from_step"]]

    def close(self) -> None:
        """Leaves the bars as they are."""
        for bar in self.bars.values():
            bar.refresh()
            bar.close()


def wait(ids: Sequence[str], runs: Path, as_json: bool) -> int:
    """Waits for the chain; prints how it ended. Returns 0 when every run finished, else 1."""
    bars = Bars(runs, ids, as_json)
    try:
        states = api.wait(ids, runs=runs, on_event=bars.on_event)
    except KeyboardInterrupt:
        bars.close()
        print(f"The runs go on without this terminal; stop them with `rampart stop {ids[0]}`.", file=sys.stderr)
        return 130
    bars.close()
    if as_json:
        print(json.dumps({"ids": list(ids), "runs": {run_id: {
            "status": state.status, "cause": state.cause, "attacks": bars.results[run_id]} for run_id, state in states.items()}}))
    else:
        for run_id, state in states.items():
            print(f"{run_id}  {state.status}" + (f": {state.cause}" if state.cause else ""))
            for row in bars.results[run_id]:
                part = f"  part of {row['part_of']}" if row.get("part_of") else ""
                print(f"  {row['title']:<12} {row['accuracy']:.3f}  (95 % {row['low']:.3f} to {row['high']:.3f}, "
                      f"{row['images']} images, epsilon {row['epsilon']:.4g}){part}")
    return 0 if all(state.status == "finished" for state in states.values()) else 1


def fetched(name: str, source: str | None, side: int | None, as_json: bool) -> int:
    """Fetches a dataset with a progress line per file; prints what is there then. Returns 0, or 130 when interrupted."""
    bars: dict[str, tqdm] = {}
    slow = {} if sys.stderr.isatty() else {"mininterval": 10.0, "maxinterval": 60.0}

    def on_progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            unit = "images" if what == "preparing" else "B"
            bars[what] = tqdm(total=total, desc=what, unit=unit, unit_scale=True, disable=as_json, dynamic_ncols=True, **slow)
        bars[what].total = total
        bars[what].update(done - bars[what].n)

    try:
        found = api.fetch_dataset(name, source=source, side=side, progress=on_progress)
    except KeyboardInterrupt:
        print(f"What has come is kept; the same command goes on: rampart dataset fetch {name}", file=sys.stderr)
        return 130
    finally:
        for bar in bars.values():
            bar.close()
    where = f" in {found.place}" if found.place else ""
    print(json.dumps(dataclasses.asdict(found)) if as_json else f"{found.title} is here: {found.images:,} images{where}")
    return 0

"""What two runs must have in common, however often one of them was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engine.run.test_resume import results


def results_once(runs: Path, run_id: str) -> dict[str, Any]:
    """Return everything in a run's folder that must not depend on interruptions.

    A worker that is killed before its first checkpoint has written its first events, and its successor writes the same again. So
    does one that fails after the last event. The run log shows such an event once, and here it counts once.
    """
    found = results(runs, run_id)
    events: list[Any] = []
    for event in found["events"]:
        if (event.get("step") and event["event"] != "finished") or event not in events:
            events.append(event)
    return found | {"events": events}

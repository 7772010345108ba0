"""Runs that wait to be started: the facts that the supervisor needs, and the order in which the runs start. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from engine.run import device
from engine.run.folder import RunFolder, read_json
from engine.run.queue import Queue

# {kind of a run: what its parent is called in sentences}
PARENT_WORDS = {"search": "parent", "retrain": "search", "attack": "retraining"}


@dataclass(frozen=True)
class Waiting:
    """A run that waits to be started.

    Attributes:
        folder: folder of the run.
        kind: "search", "retrain" or "attack".
        asked: time in unix seconds at which the run was launched or a resume was requested. For a run of a study, the time at
            which the study, or the extension of the study that needs the run, was created.
        place: numbers by which the runs of a study are ordered: index of the retraining, of the search seed, of the arm, and of
            the step of the chain. Empty outside a study.
        parent: id of the parent run, which must finish first; None without a parent.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: number of CPU threads; None if it is not fixed yet.
        in_study: True if the run belongs to a study.
        model: title of the GPU on which an earlier attempt computed; "" without one.
        processes: number of processes that compute the run together.
    """

    folder: RunFolder
    kind: str
    asked: float
    place: tuple[int, ...]
    parent: str | None
    device: str
    threads: int | None
    in_study: bool
    model: str = ""
    processes: int = 1


def changed(path: str) -> int:
    """Return the modification time of the folder `path` in nanoseconds; 0 if there is no folder.

    It changes whenever a file is added to the folder or removed from it.
    """
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def as_waiting(folder: RunFolder) -> Waiting:
    """Return the facts about a waiting run that the supervisor needs.

    Raises:
        RunError: a file of the run cannot be read.
    """
    run, fixed = folder.read_run(), read_json(folder.environment_json) or {}
    resumed, study = read_json(folder.request("resume")), run.get("study") or {}
    # A resumed run of a study keeps its turn, so that the study stays balanced. Any other resumed run waits at the end.
    asked = float(study.get("since") or (resumed.get("at", 0.0) if resumed else run.get("created", 0.0)))
    config, wanted = run["config"], str(run["config"].get("device", "auto"))
    if fixed.get("device"):  # results depend on the kind of device, so a run keeps it
        wanted = "cpu" if fixed["device"] == "cpu" else "cuda" if wanted == "auto" else wanted
    threads = fixed.get("threads") or config.get("threads")
    return Waiting(folder, str(run["kind"]), asked, tuple(map(int, study.get("place") or ())), run.get("parent"), wanted,
                   None if threads is None else int(threads), bool(study),
                   "" if wanted == "cpu" else str(fixed.get("device_name") or ""),
                   int((resumed or {}).get("processes") or config.get("processes") or 1))


def trouble_above(kind: str, status: str) -> str:
    """Return why a run waits for its parent, as a sentence; "" if the parent has finished.

    Args:
        kind: kind of the waiting run.
        status: status of its parent, or "missing" if the parent's folder does not exist.
    """
    parent = PARENT_WORDS[kind]
    return "" if status == "finished" else {
        "failed": f"Its {parent} failed. Resume that one first.", "stopped": f"Its {parent} was stopped. Resume that one first.",
        "missing": f"Its {parent} does not exist any more."}.get(status, f"Its {parent} has not finished.")


def no_device(run: Waiting, resources: device.Resources, cpu_slots: int, needs: int, share: bool) -> str:
    """Return why no device is free for a run, as a sentence.

    Args:
        run: the waiting run.
        resources: the devices of the launcher.
        cpu_slots: number of runs that may use the CPU at the same time, unless the launcher has a number of its own.
        needs: measured memory of the run on a GPU, in bytes; 0 if unknown.
        share: True if small runs share GPUs.
    """
    if resources.uses_cpu(run.device):
        slots = resources.candidates("cpu")[0].slots or cpu_slots
        return "The CPU slot is taken." if slots == 1 else f"All {slots} CPU slots are taken."
    if run.processes > 1:
        return f"It needs {run.processes} free GPUs of one model at the same time."
    taken = (f"{run.device} is taken" if run.device.startswith("cuda:") else
             "The GPU is taken" if len(resources.gpus) == 1 else "All GPUs are taken")
    if not share:
        return f"{taken}."
    return f"{taken}, and " + (f"the {needs / 1e9:.1f} GB that it was measured to need do not fit beside the runs there."
                               if needs else "its memory has not been measured, so it shares none.")


def in_order(waiting: Iterable[Waiting], queue: Queue) -> list[Waiting]:
    """Return waiting runs in the order in which they start.

    Runs that the user has moved in the queue come first. The others follow by the time of their request. Runs of one study count
    as requested together and start in the order of their `place` in the study, even if a run was launched late because it needed
    the result of another run. If runs launched late went to the end instead, an interrupted study would have many results in some
    arms and none in others.
    """
    places = {run_id: place for place, run_id in enumerate(queue.order)}
    last = len(places)

    def key(run: Waiting) -> tuple[int, float, tuple[int, ...], str]:
        # A run that was launched or resumed after the user chose the order comes after the ordered ones.
        place = places.get(run.folder.id, last) if run.asked <= queue.ordered_at else last
        return place, run.asked, run.place, run.folder.id

    return sorted(waiting, key=key)


def cpu_slots_for(single: bool, others: Iterable[int | None], chosen: int | None, default: int) -> int:
    """Return the number of runs, including a new one, that may use the CPU at the same time if the new run is started.

    Single-threaded runs of studies share the CPU cores, because many such runs side by side are faster than one run with many
    threads. A number that the user has chosen applies to all runs.

    Args:
        single: True if the new run belongs to a study and uses a single thread.
        others: numbers of threads of the runs that use the CPU now; None for an unknown number.
        chosen: number of runs that the user has allowed on the CPU; None if the user has chosen no number.
        default: number to return if the user has chosen no number and the runs do not share the cores.
    """
    if chosen is not None:
        return chosen
    return max(default, device.cores()) if single and all(threads == 1 for threads in others) else default

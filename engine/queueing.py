"""Functions that read and change the queue: its order, its pause, how many runs share a device, and which launcher starts runs.

Pages and the command line call them. Each change writes control/queue.json (`engine.run.queue`), which the supervisor reads when
it next looks for runs to start. Imports no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.acts import act, named
from engine.config.run import KINDS
from engine.errors import ConfigError, RunError
from engine.requests import ensure_supervisor
from engine.run import device, queue
from engine.run.device import Resources
from engine.run.folder import RunFolder, check_id, read_json, run_ids
from engine.run.launchers.registry import LAUNCHERS, Choice, choice_of, load, read_choice, write_choice
from engine.run.queue import MOST_CPU_SLOTS, MOST_PER_GPU, PAUSED, PAUSING, Queue, read_queue
from engine.run.state import compute, is_waiting
from engine.run.waiting import Waiting, as_waiting, changed, cpu_slots_for, in_order, trouble_above

if TYPE_CHECKING:
    from engine.study.starts import Running

Place = Literal["first", "last", "up", "down"]
SOON = "Starts in a moment."
ACTIVE = ("running", "stopping", "queued")  # of a run that does not wait here: its job waits in the queue of a cluster
# {path of a run: time stamps of its folders} of runs that are over, whose files need not be read again until a folder changes
_over: dict[str, tuple[int, int]] = {}


@dataclass(frozen=True)
class Entry:
    """A run in the queue, which waits or runs.

    Attributes:
        id: id of the run.
        kind: "search", "retrain" or "attack".
        title: name of the run.
        parent: id of the parent run; "" without a parent.
        study: id of the study to which the run belongs; "" without a study.
        device: device that the run uses or, while it waits, wants: "auto", "cpu", "cuda" or "cuda:N". Several GPUs in use are
            separated by commas.
        cause: why the run waits, as a sentence; "" for a running run, unless its job waits in the queue of a cluster.
        starts_in_s: expected seconds until the run starts; None if unknown, and for a running run.
        left_s: expected seconds until a running run ends; None if unknown, and for a waiting run.
    """

    id: str
    kind: str
    title: str
    parent: str
    study: str
    device: str
    cause: str = ""
    starts_in_s: float | None = None
    left_s: float | None = None


@dataclass(frozen=True)
class DeviceEntry:
    """A device of a launcher.

    Attributes:
        name: "cpu" or "cuda:N".
        title: name of the hardware; "" if unknown.
        memory_bytes: its memory in bytes; 0 if unknown, and for a CPU.
        used: number of runs that use it now.
        slots: number of runs that may use it at the same time.
    """

    name: str
    title: str
    memory_bytes: int
    used: int
    slots: int


@dataclass(frozen=True)
class LauncherEntry:
    """A launcher, which starts the workers of runs.

    Attributes:
        name: name of the launcher.
        title: its name on pages.
        about: where its runs compute, as a sentence.
        is_chosen: True if it starts the next runs.
        missing: what it lacks, be it on this machine or a cluster that answers, and what to do; "" if it can be used.
        settings: {name: value} of all its settings.
        devices: the devices on which it starts runs; empty if it cannot be used.
    """

    name: str
    title: str
    about: str
    is_chosen: bool
    missing: str
    settings: dict[str, str | int]
    devices: tuple[DeviceEntry, ...]


@dataclass(frozen=True)
class View:
    """The queue at one moment.

    Attributes:
        running: runs that use a device now, in the order in which they started.
        waiting: runs that wait, in the order in which they start.
        decisions: what the user has chosen: order, pause, and how many runs may use each device at the same time.
        cpu_slots: number of runs that may use the CPU at the same time. If the user has not chosen a number, this is the number
            of cores while single-threaded runs of studies use the CPU or wait for it, and otherwise `default_cpu_slots`.
        runs_per_gpu: number of runs that may use a GPU at the same time.
        gpus: names of the GPUs, such as "cuda:0".
        launchers: all launchers, with the devices of those that this machine can use.
    """

    running: tuple[Entry, ...]
    waiting: tuple[Entry, ...]
    decisions: Queue
    cpu_slots: int
    runs_per_gpu: int
    gpus: tuple[str, ...]
    launchers: tuple[LauncherEntry, ...]


def view(runs: Path | str) -> View:
    """Return the queue of a runs folder. Each waiting run has the reason why it waits and, if known, its expected start.

    Raises:
        RunError: the folder or control/queue.json cannot be read.
    """
    from engine.study.starts import Running, expected  # imports pandas, which most requests do not need

    root = Path(runs).absolute()
    decisions, default, resources = read_queue(root), default_cpu_slots(), resources_of(root)
    waiting, active = _scan(root, decisions)
    in_play = {run.folder.id for run in waiting} | {folder.id for folder in active}
    statuses = {run.folder.id: _status_above(run, in_play) for run in waiting}
    busy = sorted(map(Running.of, active), key=lambda one: (one.started or 0.0, one.folder.id))
    outlook = expected(root, [run for run in waiting if statuses[run.folder.id] in ("finished", "in play")], busy, decisions,
                       default, resources)
    slots, per_gpu = _cpu_slots(busy, waiting, decisions, default), decisions.runs_per_gpu or (
        device.RUNS_PER_SHARED_GPU if decisions.share_gpus else device.RUNS_PER_GPU)
    told = _told(root)
    entries = tuple(replace(_entry(run.folder, run.device), starts_in_s=outlook.starts.get(run.folder.id),
                            cause=_cause(run, statuses[run.folder.id], decisions, told, resources)) for run in waiting)
    return View(tuple(replace(_entry(one.folder, one.device), left_s=None if one.waits else outlook.left.get(one.folder.id),
                              cause=one.waits)
                      for one in busy), entries,
                decisions, slots, per_gpu,
                resources.gpus, tuple(_launchers(root, busy, slots, per_gpu)))


def _cpu_slots(running: Sequence[Running], waiting: Sequence[Waiting], decisions: Queue, default: int) -> int:
    """Return how many runs may currently share the CPU (see `View.cpu_slots`)."""
    on_cpu = [one.threads for one in running if one.device == "cpu"]
    single = any(run.in_study and run.threads == 1 for run in waiting) or len(on_cpu) > default
    return cpu_slots_for(single, on_cpu, decisions.cpu_slots, default)


def resources_of(runs: Path) -> Resources:
    """Return the devices on which the launcher of a runs folder can start runs; those of this machine if it cannot be used."""
    try:
        return load(read_choice(runs), runs).resources()
    except RunError:
        return device.of_this_machine()


def launchers(runs: Path | str) -> list[LauncherEntry]:
    """Return all launchers, with their devices and how many runs use each.

    Raises:
        RunError: the folder, control/queue.json or control/launcher.json cannot be read.
    """
    return list(view(runs).launchers)


def _launchers(runs: Path, busy: Sequence[Running], cpu_slots: int, runs_per_gpu: int) -> Iterator[LauncherEntry]:
    chosen = read_choice(runs)
    for name, kind in LAUNCHERS.items():
        choice = chosen if name == chosen.name else Choice(name)
        missing = choice.missing() or choice.unreachable()
        used = [place for one in busy if one.launcher == name for place in one.device.split(", ")]
        devices = () if missing else load(choice, runs).resources().devices
        entries = tuple(DeviceEntry(one.name, one.title, one.memory_bytes, used.count(one.name),
                                    one.slots or (cpu_slots if one.kind == "cpu" else runs_per_gpu)) for one in devices)
        yield LauncherEntry(name, kind.title, kind.about, name == chosen.name, missing, kind.complete(dict(choice.settings)),
                            entries)


@act("choose the launcher", lambda *_: (), "admin")
def choose_launcher(runs: Path | str, name: str, settings: Mapping[str, object]) -> Choice:
    """Choose the launcher that starts the next runs. Runs that are running go on where they are.

    Args:
        runs: folder of all runs; created if it does not exist.
        name: name of the launcher.
        settings: {name: value} of settings to change. The others keep their values if the launcher was chosen before, and
            otherwise have their defaults.

    Raises:
        ConfigError: there is no such launcher or setting, or a value is not possible.
        RunError: this machine lacks something that the launcher needs, its cluster does not answer, or the choice cannot be
            written.
    """
    root = Path(runs).absolute()
    before = read_choice(root)
    choice = choice_of(name, {**(dict(before.settings) if before.name == name else {}), **settings})
    load(choice, root)
    if silent := choice.unreachable():
        raise RunError(f"The launcher {name} cannot be used. {silent}")
    write_choice(root, choice)
    ensure_supervisor(root)
    return choice


def settings_of(words: Sequence[str]) -> dict[str, str]:
    """Return the settings of a launcher from words such as "partition=gpu".

    Raises:
        ConfigError: a word has another form.
    """
    if wrong := next((word for word in words if not word.partition("=")[0] or "=" not in word), None):
        raise ConfigError(f"A setting of a launcher must have the form NAME=VALUE, got {wrong!r:.60}.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def devices_text(entry: LauncherEntry) -> str:
    """Return the devices of a launcher and how many runs use each, for example "cpu: 1 of 1 used"."""
    return ", ".join(f"{one.name}{f' ({one.title})' if one.title else ''}: {one.used} of {one.slots} used"
                     for one in entry.devices)


def waiting_list(runs: Path | str) -> list[dict[str, Any]]:
    """Return one dict per waiting run, with the keys id, kind, title and cause, in the order in which the runs will start.

    The cause is a sentence that says what the run waits for.
    """
    return [{"id": one.id, "kind": one.kind, "title": one.title, "cause": one.cause} for one in view(runs).waiting]


def decisions_of(runs: Path | str) -> Queue:
    """Return the user's decisions about the queue: order, pause, and how many runs may use each device at the same time.

    Raises:
        RunError: control/queue.json cannot be read.
    """
    return read_queue(Path(runs).absolute())


def stamp(runs: Path | str) -> tuple[int, int]:
    """Return two numbers. The first changes whenever control/queue.json is written, the second whenever queue.json is written.

    control/queue.json holds the user's decisions, and queue.json the supervisor's reasons why runs wait.
    """
    root = str(Path(runs).absolute())
    return changed(f"{root}/control/queue.json"), changed(f"{root}/queue.json")


def default_cpu_slots() -> int:
    """Return how many runs may share the CPU by default: $RAMPART_CPU_SLOTS or, if it is not set, a fixed number."""
    return int(os.environ.get("RAMPART_CPU_SLOTS", device.CPU_SLOTS))


@act("pause the queue", lambda *_: (), "admin")
def pause(runs: Path | str, *, after_chains: bool = False) -> Queue:
    """Pause the queue: running runs continue, and no new runs start. The pause survives restarts of Rampart and the machine.

    Return the user's decisions after the change.

    Args:
        runs: folder of all runs.
        after_chains: True to still start runs that follow running ones, so that every chain that has begun also ends.

    Raises:
        RunError: the decision cannot be written.
    """
    root = Path(runs).absolute()

    def change(decisions: Queue) -> Queue:
        waiting, active = _scan(root, decisions)
        parents = {run.folder.id: run.parent for run in waiting} | {folder.id: None for folder in active}
        begun = {folder.id for folder in active}
        exempt = [run.folder.id for run in waiting if begun & queue.ancestors(parents, run.folder.id)] if after_chains else []
        return queue.paused(decisions, time.time(), exempt)

    return queue.change_queue(root, change)


@act("continue the queue", lambda *_: (), "admin")
def go_on(runs: Path | str) -> Queue:
    """End the pause of the queue, and make sure that a supervisor is alive to start the waiting runs.

    Return the user's decisions after the change.

    Raises:
        RunError: the decision cannot be written.
    """
    after = queue.change_queue(Path(runs).absolute(), queue.continued)
    ensure_supervisor(runs)
    return after


@act("move in the queue", named("run_id"))
def move(runs: Path | str, run_id: str, place: Place | None = None, *, before: str | None = None) -> list[str]:
    """Change the place of a waiting run in the queue, and return the ids of the waiting runs in their new order.

    Args:
        runs: folder of all runs.
        run_id: id of the waiting run.
        place: "first", "last", "up" (one place ahead) or "down" (one place back); None if `before` is given.
        before: id of the waiting run directly before which `run_id` is placed; None if `place` is given.

    Raises:
        RunError: one of the runs does not wait, the run depends on the run `before`, or the decision cannot be written.
    """
    root = Path(runs).absolute()
    for one in filter(None, (run_id, before)):
        check_id(one)

    def change(decisions: Queue) -> Queue:
        waiting = _scan(root, decisions)[0]
        order, parents = [run.folder.id for run in waiting], {run.folder.id: run.parent for run in waiting}
        for one in filter(None, (run_id, before)):
            if one not in parents:
                raise RunError(f"Only a waiting run has a place in the queue, {one} does not wait; `rampart queue` lists those "
                               "that do.")
        places: dict[str | None, Callable[[], list[str]]] = {
            "first": lambda: queue.first(order, parents, run_id), "last": lambda: queue.moved(order, parents, run_id, None),
            "up": lambda: queue.up(order, parents, run_id), "down": lambda: queue.down(order, parents, run_id),
            None: lambda: queue.moved(order, parents, run_id, before)}
        return replace(decisions, order=tuple(places[place]()), ordered_at=time.time())

    return list(queue.change_queue(root, change).order)


def waits_in_vain(runs: Path | str, run_id: str) -> bool:
    """Return True if a queued run waits for an earlier run of its chain that has failed, was stopped or was deleted."""
    for _ in KINDS:  # a chain has at most one run of each kind
        parent = RunFolder(runs, run_id).read_run().get("parent")
        if not parent:
            return False
        if not RunFolder(runs, parent).exists():
            return True
        of_parent = compute(RunFolder(runs, parent), with_parent=False).status
        if of_parent != "queued":
            return of_parent in ("failed", "stopped")
        run_id = parent
    return False


@act("set slots", lambda *_: (), "admin")
def set_slots(runs: Path | str, *, cpu: int | None = None, per_gpu: int | None = None, share: bool | None = None) -> Queue:
    """Choose how many runs may use the CPU and each GPU at the same time. None stands for the default.

    Running runs continue, even if they are now more than the chosen number. Return the user's decisions after the change.

    Args:
        runs: folder of all runs.
        cpu: number of runs on the CPU.
        per_gpu: number of runs on each GPU.
        share: True if runs share a GPU only where the measured memory of all of them fits; None to change nothing in this.

    Raises:
        ConfigError: a number is too small or too large.
        RunError: the decision cannot be written.
    """
    for name, value, most in (("cpu", cpu, MOST_CPU_SLOTS), ("per_gpu", per_gpu, MOST_PER_GPU)):
        if value is not None and not 1 <= value <= most:
            raise ConfigError(f"{name} must be a whole number from 1 to {most}, got {value}; to start nothing, pause the queue.")
    after = queue.change_queue(Path(runs).absolute(), lambda decisions: replace(
        decisions, cpu_slots=cpu, runs_per_gpu=per_gpu, share_gpus=decisions.share_gpus if share is None else share))
    ensure_supervisor(runs)
    return after


def _scan(runs: Path, decisions: Queue) -> tuple[list[Waiting], list[RunFolder]]:
    """Return (waiting runs in the order of the queue, folders of the running runs). Runs that cannot be read are left out."""
    waiting, active = [], []
    for run_id in run_ids(runs):
        path = f"{runs}/{run_id}"
        stamps = changed(path), changed(f"{path}/control")
        if _over.get(path) == stamps:
            continue
        folder = RunFolder(runs, run_id)
        try:
            process = read_json(folder.process_json)
            if is_waiting(folder, process):
                waiting += [as_waiting(folder)] if folder.exists() else []
            elif process is not None and compute(folder, with_parent=False).status in ACTIVE:
                active.append(folder)
            elif time.time_ns() - max(stamps) > 1_000_000_000:  # a later change can have the same time stamp as a recent one
                _over[path] = stamps
        except Exception:  # noqa: BLE001 - the page of the run says what is wrong with it
            continue
    return in_order(waiting, decisions), active


def _status_above(run: Waiting, in_play: set[str]) -> str:
    """Return the status of a waiting run's parent.

    * "in play": the parent waits or runs, so its id is in `in_play`.
    * "missing": the parent has no folder.
    * "finished": the parent has finished, or the run has no parent.
    * Any other parent has the status that `engine.run.state.compute` returns, such as "failed".
    """
    if run.parent is None:
        return "finished"
    if run.parent in in_play:
        return "in play"
    above = RunFolder(run.folder.runs, run.parent)
    return compute(above, with_parent=False).status if above.exists() else "missing"


def _told(runs: Path) -> dict[str, str]:
    """Return {id of a waiting run: the supervisor's reason, as a sentence}; {} if there are none or they cannot be read."""
    try:
        why = (read_json(runs / "queue.json") or {}).get("why")
    except RunError:
        return {}
    return why if isinstance(why, dict) else {}


def _cause(run: Waiting, above: str, decisions: Queue, told: dict[str, str], resources: Resources) -> str:
    """Return a sentence that says why a run waits.

    `above` is the status of the parent, as `_status_above` returns it. `told` is {run id: the supervisor's reason}. These reasons
    concern busy devices and disk space.
    """
    if reason := trouble_above(run.kind, above) or decisions.hold(run.folder.id):
        return reason
    if run.device.startswith("cuda:") and run.device not in resources.gpus:
        return f"{run.device} does not exist. The run fails when its turn comes."
    reason = str(told.get(run.folder.id) or "")
    out_of_date = reason in (PAUSED, PAUSING) or reason.startswith("Its ")
    return SOON if out_of_date else reason or SOON


def _entry(folder: RunFolder, used: str) -> Entry:
    run = folder.read_run()
    return Entry(folder.id, run["kind"], str(run.get("title") or folder.id), str(run.get("parent") or ""),
                 str((run.get("study") or {}).get("id") or ""), used)

"""The launchers by name, with their settings, and the choice of one for a runs folder.

The choice is in control/launcher.json, so that every supervisor of the folder uses the same launcher. A launcher's module is
imported when it is used, because it may need a package that is not installed. Imports no torch.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json
from engine.registry import Registry, unknown_name
from engine.run.folder import read_json
from engine.run.launchers.contract import Launcher

DEFAULT = "local"


@dataclass(frozen=True)
class LauncherSetting:
    """A setting of a launcher: a text, or a number within bounds.

    Attributes:
        default: default value. Its type is the type of the setting: str or int.
        help: what the setting means, as a phrase.
        least: smallest value of a number.
        most: largest value of a number.
        options: possible values of a text; empty if all are possible.
        pattern: regular expression of a text; "" if all are possible.
        example: a possible value, for messages.
    """

    default: str | int
    help: str
    least: int = 0
    most: int = 0
    options: tuple[str, ...] = ()
    pattern: str = ""
    example: str = ""

    def value(self, name: str, given: object) -> str | int:
        """Return a given value with the type of this setting. Numbers may be given as text.

        Raises:
            ConfigError: the value is not possible.
        """
        if isinstance(self.default, str):
            good = isinstance(given, str) and given.isprintable() and not given.startswith("-") and (
                not self.options or given in self.options) and (not self.pattern or bool(re.fullmatch(self.pattern, given)))
            expected = (f"one of {', '.join(self.options)}" if self.options else f"such as {self.example}" if self.example else
                        "a printable text without - in front")
        else:
            is_text = isinstance(given, str) and given.isdecimal()
            given = int(str(given)) if is_text else given
            good = isinstance(given, int) and not isinstance(given, bool) and self.least <= given <= self.most
            expected = f"a whole number from {self.least} to {self.most}"
        if not good or not isinstance(given, (str, int)):
            raise ConfigError(f"{name} must be {expected}, got {given!r:.60}.")
        return given


@dataclass(frozen=True)
class LauncherKind:
    """A launcher that can be chosen.

    Attributes:
        title: its name on pages.
        about: where its runs compute, as a sentence.
        module: the module that implements it.
        factory: the function or class in `module` that makes the launcher from {name of a setting: value}.
        settings: {name: setting}.
        package: the Python package that it needs; "" for none.
        extra: the extra of our package that installs it.
        program: the program that it needs on the path, unless the setting `cluster` is "local"; "" for none.
        probe: the function in `module` that returns from the settings why no cluster answers, as a sentence, within some seconds;
            "" for none.
    """

    title: str
    about: str
    module: str
    factory: str
    settings: Mapping[str, LauncherSetting]
    package: str = ""
    extra: str = ""
    program: str = ""
    probe: str = ""

    def complete(self, given: Mapping[str, object]) -> dict[str, str | int]:
        """Return the value of every setting. Settings that are not given have their defaults.

        Raises:
            ConfigError: there is no such setting, or a value is not possible.
        """
        for name in given:
            if name not in self.settings:
                raise ConfigError(unknown_name("setting of this launcher", name, self.settings))
        return {name: setting.value(name, given.get(name, setting.default)) for name, setting in self.settings.items()}

    def missing(self, settings: Mapping[str, object]) -> str:
        """Return what this machine lacks for the launcher, and what to do, as a sentence; "" if it can be used."""
        if self.package and find_spec(self.package) is None:
            return f"It needs the Python package {self.package}: pip install 'rampart-nas[{self.extra}]'."
        if self.program and settings.get("cluster") != "local" and shutil.which(self.program) is None:
            return f"It needs the program {self.program}: run Rampart on a machine of the cluster that can submit jobs."
        return ""

    def unreachable(self, settings: Mapping[str, object]) -> str:
        """Return why its cluster cannot be used now, as a sentence; "" if it can, or if it has none. It takes some seconds."""
        return str(getattr(import_module(self.module), self.probe)(self.complete(settings))) if self.probe else ""


LAUNCHERS: Registry[LauncherKind] = Registry("launcher")
LAUNCHERS.add("local", LauncherKind(
    "This machine", "Runs compute on the CPU and the GPUs of this machine.", "engine.run.launchers.local", "local_launcher", {}))
LAUNCHERS.add("slurm", LauncherKind(
    "Slurm", "Each run computes as a job of a Slurm cluster, which shares the runs folder.", "engine.run.launchers.slurm",
    "SlurmLauncher", {
        "partition": LauncherSetting("", "partition of the jobs; empty for the cluster's default"),
        "account": LauncherSetting("", "account that is charged; empty for the user's default"),
        "qos": LauncherSetting("", "quality of service; empty for the default"),
        "constraint": LauncherSetting("", "features that a node must have, such as a100; empty for none"),
        "gpus": LauncherSetting(1, "GPUs of a job; 0 to offer only CPUs", 0, 1),
        "threads": LauncherSetting(4, "CPU cores of a job whose run fixes no number of threads", 1, 256),
        "memory_gb": LauncherSetting(16, "memory of a job, in GB", 1, 4096),
        "minutes": LauncherSetting(240, "time limit of a job; a longer run goes on in a further job", 5, 43_200),
        "jobs": LauncherSetting(20, "jobs on CPUs, and on GPUs, that are submitted at the same time", 1, 10_000),
        "running": LauncherSetting(0, "jobs of one array that run at the same time; 0 for no limit", 0, 10_000),
        "cluster": LauncherSetting("slurm", "slurm; or local, to try the launcher out on this machine, where the limits of "
                                   "memory and cores do not apply", options=("slurm", "local"))},
    package="submitit", extra="slurm", program="sbatch"))
LAUNCHERS.add("ray", LauncherKind(
    "Ray", "Each run computes as a job of a Ray cluster, which shares the runs folder.", "engine.run.launchers.ray",
    "RayLauncher", {
        "address": LauncherSetting("", "address of the dashboard of a Ray cluster", pattern=r"|https?://[^\s/@?#]+/?",
                                   example="http://HEAD:8265"),
        "gpus": LauncherSetting(1, "GPUs of a job; 0 to offer only CPUs", 0, 1),
        "threads": LauncherSetting(4, "CPUs of a job whose run fixes no number of threads", 1, 256),
        "memory_gb": LauncherSetting(4, "memory that Ray reserves for a job, in GB; 0 for none", 0, 4096),
        "jobs": LauncherSetting(20, "jobs on CPUs, and on GPUs, that are submitted at the same time", 1, 10_000)},
    probe="lacking"))


@dataclass(frozen=True)
class Choice:
    """The launcher of a runs folder.

    Attributes:
        name: name of the launcher in `LAUNCHERS`.
        settings: the settings that differ from their defaults.
    """

    name: str = DEFAULT
    settings: tuple[tuple[str, str | int], ...] = ()

    @property
    def kind(self) -> LauncherKind:
        """The chosen launcher's facts."""
        return LAUNCHERS[self.name]

    def missing(self) -> str:
        """Return what this machine lacks for the launcher, as `LauncherKind.missing` does."""
        return self.kind.missing(dict(self.settings))

    def unreachable(self) -> str:
        """Return why the launcher's cluster cannot be used now, as `LauncherKind.unreachable` does."""
        return self.kind.unreachable(dict(self.settings))


def choice_of(name: str, settings: Mapping[str, object]) -> Choice:
    """Return a checked choice.

    Raises:
        ConfigError: there is no such launcher or setting, or a value is not possible.
    """
    kind = LAUNCHERS[name]
    values = kind.complete(settings)
    return Choice(name, tuple((one, value) for one, value in values.items() if value != kind.settings[one].default))


def path_of(runs: Path) -> Path:
    """Return the path of the file with the choice."""
    return runs / "control" / "launcher.json"


def read_choice(runs: Path) -> Choice:
    """Return the launcher that was chosen for a runs folder; `local` if none was. The answer is cached until the file changes.

    Raises:
        RunError: the file cannot be read, or names a launcher or a setting that does not exist.
    """
    try:
        stamp = os.stat(path_of(runs))
    except FileNotFoundError:
        return Choice()
    except OSError as problem:
        raise RunError(f"{path_of(runs)} must be readable and is not ({problem.strerror}); change its permissions.") from None
    return _read(runs, stamp.st_mtime_ns, stamp.st_ino)


@lru_cache(maxsize=16)
def _read(runs: Path, mtime_ns: int, inode: int) -> Choice:
    record = read_json(path_of(runs)) or {}
    name, settings = record.get("name", DEFAULT), record.get("settings", {})
    try:
        if not isinstance(name, str) or not isinstance(settings, dict):
            raise ConfigError("It must hold name, a text, and settings, an object.")
        return choice_of(name, settings)
    except ConfigError as problem:
        raise RunError(f"control/launcher.json must name a launcher and its settings. {problem} Choose a launcher again: "
                       "rampart queue launcher NAME.") from None


def write_choice(runs: Path, choice: Choice) -> None:
    """Remember the launcher of a runs folder. The supervisor uses it for the next run that it starts.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        path_of(runs).parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path_of(runs), {"name": choice.name, "settings": dict(choice.settings)})
    except OSError as problem:
        raise RunError(f"The launcher could not be stored in {path_of(runs)} ({problem.strerror}); free some space or make the "
                       "folder writable, and try again.") from None


def load(choice: Choice, runs: Path) -> Launcher:
    """Return the chosen launcher for a runs folder.

    Raises:
        RunError: this machine lacks something that the launcher needs.
    """
    if missing := choice.missing():
        raise RunError(f"The launcher {choice.name} cannot be used. {missing}")
    launcher: Launcher = getattr(import_module(choice.kind.module), choice.kind.factory)(
        runs, choice.kind.complete(dict(choice.settings)))
    return launcher


def launcher_of(process: Mapping[str, Any], now: Launcher, runs: Path) -> Launcher:
    """Return the launcher that started an attempt. It may be another one than that which starts runs now.

    Args:
        process: content of process.json, which describes the attempt.
        now: the launcher that starts runs now.
        runs: folder of all runs.

    Raises:
        RunError: this machine lacks something that the launcher needs.
    """
    name = str(process.get("launcher") or DEFAULT)
    return now if name == now.name else load(Choice(name), runs)

"""Compare the peak memory of a search step between the engine and the published code.

    python -m benchmarks.search_step_memory                           # the paper setting; minutes
    python -m benchmarks.search_step_memory --setting digits

The published code and the engine with each back end take one step, each in a process of its own. The result is the peak resident
memory of the process after the step, minus its peak before the model was built, which is due to imports and loaded kernels. PGD
has one step, because more steps would need no more memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measurement import Table, add_output_options, publish
from benchmarks.search_step import PUBLISHED, SETTINGS, Comparison, Setting, add_setting_options, parse, why_not_compiled


@dataclass(frozen=True)
class Peak:
    """The peak resident memory of a process in bytes: before it built the model, and after one step."""

    before_bytes: int
    step_bytes: int

    @property
    def net_bytes(self) -> int:
        """The additional memory in bytes that the model, the batches and the step need."""
        return self.step_bytes - self.before_bytes


@dataclass(frozen=True)
class StepMemory:
    """The peak memory of each implementation in one setting: first the published code, then the engine with each back end."""

    setting: str
    sizes: Setting
    peaks: dict[str, Peak]

    def percent(self, side: str) -> float:
        """Return the additional memory (`Peak.net_bytes`) in per cent of that of the published code.

        Args:
            side: `PUBLISHED` for the published code, or the back end of the engine.
        """
        return 100 * self.peaks[side].net_bytes / self.peaks[PUBLISHED].net_bytes

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON data."""
        return {"setting": self.setting, "sizes": vars(self.sizes), "percent_of_published": {
            side: self.percent(side) for side in self.peaks}, "peaks": {
            side: {**vars(peak), "net_bytes": peak.net_bytes} for side, peak in self.peaks.items()}}


def peak_bytes() -> int:
    """Return the peak resident memory of this process so far, in bytes.

    On Linux, it is read from `VmHWM`, because a new process inherits the `ru_maxrss` of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def one_step(side: str, sizes: Setting) -> Peak:
    """Take one search step in this process, which must be a new one, and return the peak memory.

    Args:
        side: `PUBLISHED` for the published code, or the back end with which the engine takes the step.
        sizes: sizes and attack radius.
    """
    torch.set_num_threads(1)
    if side not in (PUBLISHED, "plain"):
        why_not_compiled()  # builds and loads the kernels, which is not part of a step
    before = peak_bytes()
    comparison = Comparison(sizes, attack_steps=1)
    comparison.step_seconds(side, (comparison.batch(), comparison.batch()), comparison.noise())
    return Peak(before, peak_bytes())


def measure(setting: str, *, choices: Sequence[str] = ()) -> StepMemory:
    """Measure the peak memory of the published code and of the engine with each back end, each in a process of its own.

    Args:
        setting: key of `SETTINGS`.
        choices: back ends of the engine, from `CHOICES` of `benchmarks.search_step`. If empty, all that can run on this machine.
    """
    sizes = SETTINGS[setting]
    sides = (PUBLISHED, *(choices or Comparison(sizes, attack_steps=1).choices()))
    return StepMemory(setting, sizes, {side: _in_a_process(side, sizes) for side in sides})


def _in_a_process(side: str, sizes: Setting) -> Peak:
    code = ("import json; from benchmarks.search_step import Setting; from benchmarks.search_step_memory import one_step; "
            f"print(json.dumps(vars(one_step({side!r}, {sizes!r}))))")
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # each thread would add its own buffers
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def table(found: Sequence[StepMemory]) -> Table:
    """Return a table with one row per setting and implementation (the published code, or the engine with one back end)."""
    rows = [(f"{memory.setting}: {memory.sizes}", side, *(f"{size / 2 ** 20:.0f}" for size in (
        peak.step_bytes, peak.before_bytes, peak.net_bytes)), f"{memory.percent(side):.0f} %")
        for memory in found for side, peak in memory.peaks.items()]
    return Table("Peak resident memory of one step, MiB, float32",
                 ("setting", "side", "peak", "imports", "difference", "of the published difference"), tuple(rows))


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison and print its table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_setting_options(parser, default="paper")
    add_output_options(parser)
    chosen = parse(parser, arguments)
    memory = measure(chosen.setting, choices=chosen.backend)
    publish(chosen, "search_step_memory", arguments, memory.record(), [table([memory])])


if __name__ == "__main__":
    main()

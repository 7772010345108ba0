"""Compare the time of an ARNAS search step on a GPU between the published code and several variants of the engine.

    python -m benchmarks.search_step_gpu                      # 24 channels, 8 cells, 3x32x32, batch 32; compiling takes minutes
    python -m benchmarks.search_step_gpu --variant published --variant graphs
    python -m benchmarks.search_step_gpu --batch-size 64 --pairs 10

The variants of the engine run eagerly, as CUDA graphs, with compiled code, or with attacks in lower precision.

* Times are wall-clock times, measured from idle device to idle device.
* Each round times the published code and every variant once. The table gives the median and range of the ratios over the rounds.
* The published code and all variants take the same steps on the same batches in float32. Exceptions are the attacks of "tf32" and
  "bf16", whose results differ. The table gives the fraction of pixels that change.
* The published code may use convolution algorithms that are not reproducible, as it does in the release. The engine uses
  reproducible ones.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.inductor import use_inductor
from benchmarks.measurement import Spread, Table, add_output_options, command, publish, ratios
from benchmarks.search_step import CLASSES, PUBLISHED, SETTINGS, Comparison, Setting, add_pairs_option, parse
from engine.graphs import Graphs
from engine.run import environment
from engine.search.methods.arnas.method import Arnas
from engine.space.supernet import Supernet

DEVICE = "cuda"
SETTING = replace(SETTINGS["paper"], batch_size=32)


@dataclass(frozen=True)
class Variant:
    """One way in which the engine can take a search step.

    Attributes:
        what: title in the table.
        graphs: True to record the passes as CUDA graphs.
        inductor: True to compile the computation of each node with torch.compile.
        precision: precision of the attacks: "float32", "tf32" or "bf16".
    """

    what: str
    graphs: bool = True
    inductor: bool = False
    precision: str = "float32"


VARIANTS = {
    "eager": Variant("ours, eager", graphs=False),
    "graphs": Variant("ours, CUDA graphs"),
    "compile": Variant("ours, CUDA graphs, compiled states", inductor=True),
    "tf32": Variant("ours, CUDA graphs, attacks in tf32 (other numbers)", precision="tf32"),
    "bf16": Variant("ours, CUDA graphs, attacks in bf16 (other numbers)", precision="bf16"),
}


@dataclass
class Side:
    """The measurements of one implementation: the published code or a variant of the engine.

    Attributes:
        what: title in the table.
        take: function that takes one step on (batches, noise) and returns the two adversarial batches. None if the implementation
            failed.
        set_up_s: seconds of the first step, including capture and compilation.
        peak_bytes: peak device memory during the first two steps, minus the memory in use before the implementation was built.
        pixels_changed: fraction of the adversarial pixels of the first step that differ from those of the first implementation in
            the table. Differences due to rounding do not count.
        seconds: seconds of each step; None if the implementation failed.
        remark: a sentence about a problem, or "".
    """

    what: str
    take: Callable[..., tuple[Tensor, Tensor]] | None = None
    set_up_s: float = 0.0
    peak_bytes: int = 0
    pixels_changed: float = 0.0
    seconds: list[float] | None = None
    remark: str = ""


def measure(setting: Setting, *, attack_steps: int, pairs: int, chosen: Sequence[str], device: str = DEVICE) -> dict[str, Side]:
    """Build the published code and variants of the engine one by one, then time their steps. Return {name: measurements}.

    Args:
        setting: sizes and attack radius.
        attack_steps: number of PGD steps.
        pairs: number of rounds; each round times every implementation once.
        chosen: names in the order of the table: `PUBLISHED` for the published code, or keys of `VARIANTS`. An implementation that
            fails gets a remark and is not timed.
        device: a CUDA device. On "cpu", memory is not measured and no graphs are recorded.
    """
    comparison = Comparison(setting, attack_steps, device=device)
    first = inputs(comparison)
    sides: dict[str, Side] = {}
    reference: tuple[Tensor, Tensor] | None = None
    for name in chosen:
        before = reset_peak(device)
        try:
            side = build(name, comparison)
            begin = time.perf_counter()
            images = side.take(*first)
            settle(device)
            side.set_up_s = time.perf_counter() - begin
            side.take(*first)
            settle(device)
            side.peak_bytes = torch.cuda.max_memory_allocated(device) - before if device != "cpu" else 0
        except RuntimeError as problem:
            what = VARIANTS[name].what if name in VARIANTS else name
            sides[name] = Side(what, remark=str(problem).split("\n")[0])
            continue
        reference = reference or images
        side.pixels_changed = changed(images, reference, setting.epsilon)
        side.seconds = []
        sides[name] = side
    for _ in range(pairs):
        drawn = inputs(comparison)
        for side in sides.values():
            if side.take and side.seconds is not None:
                settle(device)
                begin = time.perf_counter()
                side.take(*drawn)
                settle(device)
                side.seconds.append(time.perf_counter() - begin)
    return sides


def build(name: str, comparison: Comparison) -> Side:
    """Build the published code or a variant of the engine. All start with the same weights and alphas.

    Args:
        name: `PUBLISHED` or a key of `VARIANTS`.
        comparison: sizes, initial weights and random batches.
    """
    rate = comparison.config.weights_learning_rate
    if name == PUBLISHED:
        published = comparison.published

        def take_published(batches: Any, noise: Any) -> tuple[Tensor, Tensor]:
            with as_released():
                report = published.step(*batches, learning_rate=rate, noise=noise)
            return report.x_adv, report.xs_adv

        return Side("published, transcribed", take_published)
    variant, setting = VARIANTS[name], comparison.setting
    config = comparison.config.model_copy(update={"attack_precision": variant.precision})
    supernet = Supernet(channels=setting.channels, layers=setting.layers, classes=CLASSES, image_shape=setting.image_shape)
    supernet.use_backends(supernet.backends(comparison.device.type, compiled=False))
    if variant.inductor:
        use_inductor(supernet)
    graphs = Graphs.on(comparison.device) if variant.graphs else Graphs()
    arnas = Arnas(config, supernet, device=comparison.device, dtype=comparison.dtype, seed=comparison.seed, graphs=graphs)
    side = Side(variant.what)

    def take(batches: Any, noise: Any) -> tuple[Tensor, Tensor]:
        proposal = arnas.propose(*batches, learning_rate=rate, noise=noise)
        arnas.take(proposal)
        side.remark = " ".join(arnas.notices)
        return proposal.x_adv, proposal.xs_adv

    side.take = take
    return side


def inputs(comparison: Comparison) -> tuple[Any, Any]:
    """Return the inputs of one step: (two random batches, random starts of the attacks on them)."""
    return (comparison.batch(), comparison.batch()), comparison.noise()


def changed(images: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], epsilon: float) -> float:
    """Return the fraction of pixels that differ by more than epsilon / 1000.

    Smaller differences are due to rounding. Larger ones occur if a gradient has the opposite sign in a PGD step.
    """
    far = [((x - expected).abs() > epsilon / 1000).double().mean() for x, expected in zip(images, reference, strict=True)]
    return float(sum(far) / len(far))


@contextmanager
def as_released() -> Iterator[None]:
    """Let cuDNN time its algorithms and use those that are not reproducible, as in the released code, until the context ends."""
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic[0], warn_only=True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic[1], False


def settle(device: str) -> None:
    """Wait until the device is idle."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def reset_peak(device: str) -> int:
    """Reset the counter of peak device memory, and return the memory in use in bytes."""
    if device == "cpu":
        return 0
    settle(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def table(setting: Setting, attack_steps: int, sides: dict[str, Side], where: str) -> Table:
    """Return a table with one row for each implementation (the published code or a variant of the engine).

    Args:
        setting: sizes and attack radius.
        attack_steps: number of PGD steps.
        sides: measurements, from `measure`.
        where: name of the device, for the caption.
    """
    rows = []
    base = sides.get(PUBLISHED)
    for side in sides.values():
        if side.seconds is None:
            rows.append((side.what, "failed", "-", "-", "-", "-", side.remark))
            continue
        ratio = str(ratios(base.seconds, side.seconds)) if base and base.seconds is not None else "-"
        rows.append((side.what, f"{Spread.of(side.seconds).median * 1e3:.1f}", ratio, f"{side.peak_bytes / 2**20:.0f}",
                     f"{side.set_up_s:.1f}", f"{side.pixels_changed:.2%}", side.remark or "-"))
    return Table(f"A whole search step on {where}; {setting}, PGD-{attack_steps}, wall clock",
                 ("side", "ms per step", "published / this", "peak MiB", "first step, s", "pixels changed", "remark"),
                 tuple(rows))


def gpu_line() -> str:
    """Return the name of the GPU and the versions that affect its speed."""
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison and print its table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--variant", choices=(PUBLISHED, *VARIANTS), action="append", default=[],
                        help="may be given several times (default: all)")
    parser.add_argument("--batch-size", type=int, default=SETTING.batch_size, help=f"default: {SETTING.batch_size}")
    parser.add_argument("--attack-steps", type=int, default=7, help="steps of PGD (published: 7)")
    add_pairs_option(parser)
    add_output_options(parser)
    chosen = parse(parser, arguments)
    if not torch.cuda.is_available():
        raise SystemExit(f"This benchmark needs a CUDA GPU and torch {torch.__version__} finds none; on a CPU, run "
                         "`python -m benchmarks.search_step`.")
    environment.prepare(torch.get_num_threads(), DEVICE)
    setting = replace(SETTING, batch_size=chosen.batch_size)
    names = chosen.variant or (PUBLISHED, *VARIANTS)
    sides = measure(setting, attack_steps=chosen.attack_steps, pairs=chosen.pairs, chosen=names)
    record = {name: {key: value for key, value in vars(side).items() if key != "take"} for name, side in sides.items()}
    publish(chosen, "search_step_gpu", arguments, {"gpu": gpu_line(), "sizes": vars(setting), "sides": record},
            [table(setting, chosen.attack_steps, sides, gpu_line())])
    print(command("search_step_gpu", arguments))


if __name__ == "__main__":
    main()

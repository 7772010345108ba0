"""The environment in which a run computes: threads, device, package versions and so on. It affects the results of the run.

The environment is recorded at the first start of a run and compared with the record at every later start. On a CPU, a resumed run
is bit-equal to an uninterrupted run if threads, device, dtype and versions are equal. If one of these differs, the run continues
with a warning.
"""

from __future__ import annotations

import platform
from typing import Any

import torch

from engine.data.dataset import Dataset
from engine.data.summary import data_hash
from engine.errors import RunError
from engine.run.folder import RunFolder, read_json
from engine.run.provenance import package_versions
from engine.space.compiled import build as kernels

SCHEMA = 1


def prepare(threads: int, device: str) -> None:
    """Set torch's number of CPU threads in this process. For a GPU, also select deterministic algorithms without TF32.

    Args:
        threads: number of CPU threads.
        device: device to compute on, "cpu" or "cuda:N".

    Raises:
        RunError: the device does not exist on this machine.
    """
    torch.set_num_threads(threads)
    if torch.device(device).type == "cuda":
        if not torch.cuda.is_available():
            raise RunError(f"The device must exist, got {device}, but this PyTorch ({torch.__version__}) sees no GPU; "
                           "choose device cpu or install a CUDA build and driver.")
        if (torch.device(device).index or 0) >= torch.cuda.device_count():
            raise RunError(f"The device must be one of cuda:0 to cuda:{torch.cuda.device_count() - 1}, got {device}.")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling new memory with NaN costs a kernel per tensor; our code reads no uninitialized memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # defined at run time


def fix(folder: RunFolder, *, threads: int, device: str, dataset: Dataset, split_hash: str,
        second: tuple[Dataset, str] | None = None, processes: int = 1) -> list[str]:
    """Write environment.json at the first start of a run. At every later start, compare the environment with that file.

    Args:
        folder: folder of the run.
        threads: number of CPU threads.
        device: device to compute on.
        dataset: dataset of the run, whose images and labels are hashed.
        split_hash: hash of the dataset's splits.
        second: (dataset, hash of its splits) of the out-of-distribution images; None if the run uses no such images.
        processes: number of processes that compute the run together.

    Returns:
        Warnings for the user about differences from the first start. The list is empty if no difference can change the results.

    Raises:
        RunError: the images or the splits are not the same as at the first start.
    """
    now = {"schema": SCHEMA, "threads": threads, "processes": processes, "dtype": "float32", "device": device,
           "device_name": _device_name(device), "versions": package_versions(), "torch_build": torch.__version__,
           "platform": platform.platform(), "cpu_capability": torch.backends.cpu.get_cpu_capability(),
           "data_hash": data_hash(dataset), "split_hash": split_hash}
    hashed = [("data_hash", f"images of {dataset.name}"), ("split_hash", "splits")]
    if second:
        other, its_splits = second
        now |= {"second_dataset": other.name, "second_data_hash": data_hash(other), "second_split_hash": its_splits}
        hashed += [("second_data_hash", f"images of {other.name}"), ("second_split_hash", f"splits of {other.name}")]
    first = read_json(folder.environment_json)
    if first is None:
        folder.write_json(folder.environment_json, now)
        return []
    for name, what in hashed:
        if first.get(name) != now[name]:
            raise RunError(f"The {what} must be those of the run's first start (hash {first.get(name)}), got {now[name]}; "
                           "restore them or launch the run again.")
    first.setdefault("processes", 1)  # older versions did not write it
    compared = ("threads", "processes", "dtype", "device_name", "versions", "torch_build", "cpu_capability")
    different = [f"{name}: {_short(first.get(name), now[name])}" for name in compared if first.get(name) != now[name]]
    if not different:
        return []
    return ["Bit-equality with an uninterrupted run is not promised: the environment differs from that of the first start "
            f"({'; '.join(different)})."]


def fix_backends(folder: RunFolder, chosen: list[str]) -> tuple[list[str], list[str]]:
    """Record which back end (implementation) computes each cell of a search, so that later starts use the same back ends.

    The fingerprint of the compiled kernels (a hash of sources, compiler and processor features) is also recorded, and compared
    at later starts.

    Args:
        folder: folder of the run.
        chosen: back ends that this start would choose, one name per cell. They are used only if this is the first start.

    Returns:
        The names of the back ends recorded at the first start, one per cell.
        Warnings for the user about differences from the first start. The list is empty if the kernels are the same.
    """
    fixed = read_json(folder.environment_json) or {}
    if "backends" not in fixed:
        fixed |= {"backends": chosen, "kernels": _kernels(chosen)}
        folder.write_json(folder.environment_json, fixed)
    names = [str(name) for name in fixed["backends"]]
    then, now = fixed.get("kernels"), _kernels(names)
    if then == now:
        return names, []
    reason = kernels.unavailable() or "they were compiled from other sources, by another compiler or for another processor"
    return names, [f"Bit-equality with an uninterrupted run is not promised: the compiled kernels differ from those of the first "
                   f"start ({reason})."]


def _kernels(names: list[str]) -> str | None:
    """Return the fingerprint of the compiled kernels, a hash of everything on which the compiled file depends.

    Return None if none of the named back ends uses compiled kernels, or if this machine cannot compile them.
    """
    if "compiled" not in names or kernels.unavailable() is not None:
        return None
    return kernels.fingerprint(kernels.compiler(), "float32")


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _short(first: Any, now: Any) -> str:
    if isinstance(first, dict) and isinstance(now, dict):
        return ", ".join(f"{name} {first.get(name)} then, {value} now" for name, value in now.items() if first.get(name) != value)
    return f"{first} then, {now} now"

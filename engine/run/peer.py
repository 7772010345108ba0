"""A further process of a retraining with several processes. The run's worker starts it (`engine.run.peers`).

    python -m engine.run.peer --runs DIR --run ID --number 1 --processes 2 --device cpu --threads 1 --place FILE

It computes its part of each batch, as the worker tells it on its standard input, and ends when this input closes. It reads the
run's folder and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

from engine.run.folder import RunFolder
from engine.run.peers import OUT_OF_MEMORY
from engine.run.worker import out_of_memory

FAILED = 1  # exit code
# If a process that this one waits for has ended, the worker tells the cause and ends this one, whose own error would confuse.
QUIET_S = 10.0


def follow() -> queue.Queue[list[str]]:
    """Return a queue of the worker's orders, each a list of words. A thread ends this process when the worker has ended."""
    orders: queue.Queue[list[str]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            orders.put(line.split())
        os._exit(0)

    threading.Thread(target=read, name="orders", daemon=True).start()
    return orders


def compute(folder: RunFolder, orders: queue.Queue[list[str]], *, number: int, count: int, device: str, threads: int,
            place: Path) -> None:
    """Load what the worker has loaded, and compute this process's part of each step. Does not return.

    Args:
        folder: folder of the run.
        orders: what to compute.
        number: number of this process, from 1.
        count: number of processes of the run.
        device: device of this process.
        threads: CPU threads of this process.
        place: path of the file in which the processes meet.
    """
    import io

    import torch

    from engine.config import RetrainConfig
    from engine.configuring import recorded
    from engine.data.catalogue import DATASETS
    from engine.data.splits import splits_of
    from engine.run import environment
    from engine.run.preparation import Prepared
    from engine.run.trainer import Trainer
    from engine.train.distributed import Processes, connect, receive

    environment.prepare(threads, device)
    run = folder.read_run()
    config = recorded(run)
    assert isinstance(config, RetrainConfig)
    dataset = DATASETS[config.dataset]
    prepared = Prepared(config, dataset, splits_of(dataset, config.split_seed, config.images), None, None, torch.device(device))
    trainer = Trainer(prepared, folder.runs, run.get("parent"), Processes.of(config, number, count))
    connect(number, count, place, device)
    trainer.training.load_state_dict(torch.load(io.BytesIO(receive()), map_location=device, weights_only=True))
    while True:
        order, *places = orders.get()
        if order == "step":
            epoch, position = map(int, places)
            trainer.step(epoch, position)
        else:
            trainer.select()


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line of the process, and compute until the worker ends it. Return the exit code of a failure."""
    parser = argparse.ArgumentParser(prog="python -m engine.run.peer", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--run", required=True, help="id of the run")
    parser.add_argument("--number", type=int, required=True, help="number of this process, from 1")
    parser.add_argument("--processes", type=int, required=True, help="number of processes of the run")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of this process")
    parser.add_argument("--place", type=Path, required=True, help="file in which the processes meet")
    options = parser.parse_args(arguments)
    # A cluster sends these to all processes of a job. The worker answers them, and ends this process when it has saved.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    orders = follow()
    try:
        compute(RunFolder(options.runs, options.run), orders, number=options.number, count=options.processes,
                device=options.device, threads=options.threads, place=options.place)
    except Exception as problem:  # noqa: BLE001 - whatever it is, the worker has to learn that this process is gone
        if out_of_memory(problem):
            print(f"process {options.number + 1}: {problem}", file=sys.stderr, flush=True)
            return OUT_OF_MEMORY
        if "gloo" in str(problem) or "NCCL" in str(problem):
            time.sleep(QUIET_S)
        print(f"process {options.number + 1}: {type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
        return FAILED
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)

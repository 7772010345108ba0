"""Complete, realistic run folders for tests of the run log and of the pages, written in a fraction of a second.

`write_sample_runs(root)` writes seven runs: a finished chain search -> retrain -> attack, a running search (its process
is the test's own), a failed one, a stopped one, and a retraining that was killed between checkpoints and resumed, so that
its events hold superseded steps. Numbers follow smooth curves with seeded noise, as a real run's do.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from engine.architecture import genotype
from engine.attack.catalogue import ATTACKS
from engine.attack.fingerprint import fingerprint
from engine.attack.protocol import Protocol
from engine.attack.statistics import wilson
from engine.configuring import build
from engine.files import atomic_write_json
from engine.run.events import encode
from engine.run.state import boot_id

PRIMITIVES = list(genotype.PRIMITIVES)
CELLS = ("robust", "reduce", "accurate")
EPOCHS, STEPS_PER_EPOCH = 4, 10
START = 1_795_000_000.0  # 2026-11-18, seconds since 1970
TEST_IMAGES, AUTOATTACK_IMAGES, SAMPLES = 360, 64, 40
PARAMETERS, MACS = 41_210, 1_204_992


class EventsFile:
    """A writer of one run's events.jsonl in the form of the worker: one JSON object per line, header first."""

    def __init__(self, folder: Path, *, t: float = START) -> None:
        """folder: the run's; t: time of the first event, seconds since 1970."""
        self.path = folder / "events.jsonl"
        self.attempt, self.step, self.epoch, self.t = 1, 0, 0, t
        if not self.path.exists():
            self._append({"event": "header", "schema": 1, "run": folder.name})

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the common fields; advance its time by a tenth of a second."""
        self.t = round(self.t + 0.1, 3)
        self._append({"event": event, "t": self.t, "attempt": self.attempt, "step": self.step, "epoch": self.epoch, **fields})

    def write_raw(self, text: str) -> None:
        """Append raw text, for torn and corrupt lines."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)

    def _append(self, record: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(encode(record))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON as the engine does; create the parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, value)


def write_run_json(root: Path, run: str, kind: str, *, method: str | None = "arnas", title: str = "ARNAS",
                   preset: str = "quick", parent: str | None = None, children: tuple[str, ...] = (),
                   created: float = START, changes: dict[str, Any] | None = None) -> Path:
    """Create a run folder with its run.json; return the folder."""
    settings = build(kind, method, "digits", preset, changes)
    folder = root / run
    write_json(folder / "run.json", {
        "schema": 1, "id": run, "kind": kind, "method": method, "preset": preset, "title": title,
        "config": settings.model_dump(mode="json"), "parent": parent, "children_of_chain": list(children),
        "created": created, "command": f"rampart {kind} --dataset digits --preset {preset}",
        "code": {"version": "0.1.0", "diff": ""}, "packages": {"torch": "2.13.0"},
    })
    return folder


def alphas_at(step: int, cell: str, seed: int = 2) -> np.ndarray:
    """Return raw alphas [14, 7] that drift from noise towards one operation per edge."""
    generator = np.random.default_rng([seed, CELLS.index(cell)])
    start, goal = generator.normal(0, 1e-3, (14, 7)), generator.normal(0, 0.03, (14, 7))
    return start + goal * step + 0.01 * np.sin(step / 3 + np.arange(7))


def genotype_at(step: int, seed: int = 2) -> genotype.Genotype:
    """Return the genotype that `alphas_at` derives."""
    cells = []
    for cell in CELLS:
        raw = alphas_at(step, cell, seed)
        weights = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        cells.append((cell, genotype.derive(weights.tolist())))
    return genotype.Genotype(tuple(cells))


def write_genotype(events: EventsFile, seed: int = 2) -> None:
    """Write one genotype event at the file's current step."""
    found = genotype_at(events.step, seed)
    events.write("genotype", genotype=found.to_dict(), hash=found.hash)


def write_search_step(events: EventsFile, *, seed: int = 2, total: int = EPOCHS * STEPS_PER_EPOCH) -> None:
    """Write progress, metrics, objectives and alphas of one search step; advance the step."""
    events.step += 1
    step, noise = events.step, np.random.default_rng([seed, events.step]).normal(0, 0.01, 4)
    done = step / total
    events.write("progress", phase="search", done=step, total=total, unit="steps", passes=42 * step, detail="")
    events.write("metric", split="alphas", statistics="batch", values={
        "natural_loss": 2.3 - 1.6 * done + noise[0], "natural_accuracy": min(1.0, 0.1 + 0.7 * done + noise[1]),
        "adversarial_loss": 2.4 - 0.9 * done + noise[2], "adversarial_accuracy": 0.1 + 0.35 * done + noise[3]})
    events.write("metric", split="weights", statistics="batch", values={
        "train_loss": 2.4 - done, "train_accuracy": 0.1 + 0.4 * done, "learning_rate": 0.025 * (1 - 0.9 * done),
        "images_per_s": 90.0 + noise[0]})
    gamma = float(np.clip(0.4 - 0.6 * done + noise[0], 0, 1))
    cosine = float(0.5 + noise[1])
    events.write("objectives", names=["natural", "adversarial"], losses=[2.3 - 1.6 * done, 0.24 - 0.09 * done],
                 weights=[gamma, 1 - gamma], norms=[0.05 - 0.02 * done, 0.03], cosines=[[1.0, cosine], [cosine, 1.0]])
    for cell in CELLS:
        events.write("alpha", cell=cell, primitives=PRIMITIVES, alpha=alphas_at(step, cell, seed).round(7).tolist())


def write_search_steps(events: EventsFile, steps: int, *, seed: int = 2) -> None:
    """Write `steps` further steps, with the genotype at the start and at each epoch end."""
    if events.step == 0:
        events.write("progress", phase="search", done=0.1, total=EPOCHS * STEPS_PER_EPOCH, unit="steps", passes=3,
                     detail="PGD step 3 of 7")
        write_genotype(events, seed)
    for _ in range(steps):
        events.epoch = events.step // STEPS_PER_EPOCH + 1
        write_search_step(events, seed=seed)
        if events.step % STEPS_PER_EPOCH == 0:
            write_genotype(events, seed)
            events.write("checkpoint", path="last")


def write_telemetry(events: EventsFile, measurements: int = 6, *, gpu: str = "", unit: str = "steps") -> None:
    """Write measurements of the machine, ten seconds apart; of the GPU as well if its device is named, such as "cuda:0"."""
    for number in range(measurements):
        events.t += 10.0
        events.write("telemetry", process_cores=1.5 + 0.1 * (number % 3), machine_cpu=0.75, memory_bytes=700 * 2**20,
                     machine_free_bytes=14 * 2**30, machine_bytes=24 * 2**30, disk_free_bytes=41 * 2**30, unit=unit,
                     units_per_s=2.5 + number % 2, passes_per_s=80.0 + number)
        if gpu:
            events.write("gpu", device=gpu, name="NVIDIA H100", utilisation=0.9, memory_bytes=8 * 2**30,
                         memory_total_bytes=80 * 2**30, temperature_c=55.0 + number)


def write_network(events: EventsFile, *, parameters: int = PARAMETERS, macs: int = MACS, hand_made: str = "") -> None:
    """Write the network event of a retraining or an attack; hand_made: the name of a network without cells."""
    if hand_made:
        events.write("network", parameters=parameters, macs=macs, hand_made=hand_made)
        return
    found = genotype_at(EPOCHS * STEPS_PER_EPOCH)
    events.write("network", parameters=parameters, macs=macs, channels=12, layers=5, genotype=found.to_dict(), hash=found.hash)


def write_retrain_epoch(events: EventsFile, *, epochs: int = 4, steps: int = 5, stop_after: int | None = None) -> None:
    """Write one epoch of retraining: a training line per step, the select split at its end unless it is cut off."""
    events.epoch = events.step // steps + 1
    for _ in range(stop_after or steps):
        events.step += 1
        done = events.step / (epochs * steps)
        events.write("progress", phase="retrain", done=events.step, total=epochs * steps, unit="steps",
                     passes=9 * events.step, detail="")
        # The attempt shows in the value, so that a superseded step cannot hide among the later ones.
        events.write("metric", split="weights", statistics="batch",
                     values={"train_loss": 2.3 - 2 * done + 0.001 * events.attempt, "train_accuracy": 0.1 + 0.8 * done,
                             "learning_rate": 0.1 * (1 - done)})
    if stop_after is None:
        events.write("metric", split="select", statistics="running", values={
            "natural_loss": 2.3 - 2 * done, "natural_accuracy": 0.1 + 0.86 * done,
            "adversarial_loss": 2.4 - 1.5 * done, "adversarial_accuracy": 0.1 + 0.5 * done})
        events.write("checkpoint", path="last")


def write_attack(events: EventsFile, attack: str, title: str, images: int, correct: int, *, epsilon: float = 0.15,
                 part_of: str | None = None) -> None:
    """Write one attack event with its interval and fingerprint."""
    low, high = wilson(correct, images)
    fields = {"attack": attack, "epsilon": epsilon, "images": images, "norm": "Linf", "dataset": "digits",
              "images_hash": f"first {images}"}
    extra = {"part_of": part_of} if part_of else {}
    events.step += 1
    events.write("attack", attack=attack, title=title, epsilon=0.0 if attack == "natural" else epsilon, images=images,
                 correct=correct, accuracy=correct / images, low=low, high=high, fingerprint=fingerprint(fields), fields=fields,
                 duration_s=1.5, complete=True, **extra)


def write_evaluation(events: EventsFile, protocol: Protocol, network: str) -> None:
    """Write the event with which an evaluation of a network under a protocol begins."""
    events.write("evaluation", protocol=protocol.hash, title=protocol.title, fields=protocol.fields(), network=network,
                 checkpoint="best", preprocessing={})


def write_latency(events: EventsFile, seconds: float, *, hardware: str = "AMD EPYC 7B13") -> None:
    """Write the latency of a network on a processor: for one image, and 16 times as long for a batch of 64."""
    for batch, median in ((1, seconds), (64, 16 * seconds)):
        events.write("latency", batch=batch, median_s=median, low_s=0.9 * median, high_s=1.2 * median, repeats=9, device="cpu",
                     hardware=hardware, threads=1)


def write_checks(events: EventsFile, **findings: str) -> None:
    """Write one reliability check per keyword: its name and its finding."""
    for name, finding in findings.items():
        name, title = name.replace("_", "-"), name.replace("_", " ").capitalize()
        advice = "" if finding == "passed" else "Attack again with more steps."
        events.write("check", check_name=name, title=title, finding=finding, measured=f"{title} was measured.", advice=advice)


def write_outcomes(folder: Path, outcomes: dict[str, np.ndarray]) -> None:
    """Write results/outcomes.parquet from attack -> correct flags of the first images.

    A wrong prediction without an attack is the label plus 5, under an attack the label plus 1, 2 or 3.
    """
    natural = outcomes.get("natural", np.ones(TEST_IMAGES, bool))
    tables = []
    for attack, correct in outcomes.items():
        image = np.arange(len(correct))
        label, already_wrong = image % 10, ~natural[:len(correct)]
        wrong = np.where(already_wrong, label + 5, label + 1 + image % 3) % 10
        moved = (attack != "natural") & ~already_wrong
        tables.append(pa.table({
            "image": image, "label": label, "attack": [attack] * len(correct), "correct": correct.astype(bool),
            "prediction": np.where(correct, label, wrong).astype("int32"),
            "margin": np.where(correct, 1.5, -0.5).astype("float32"), "linf": np.where(moved, 0.15, 0).astype("float32"),
            "l2": np.where(moved, 0.8, 0).astype("float32"), "iterations": np.where(moved, 20, 0).astype("int32"),
            "confidence": np.where(correct, 0.998, 0.62).astype("float32")}))
    (folder / "results").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), folder / "results" / "outcomes.parquet")


def write_samples(folder: Path, attacks: Iterable[str], *, epsilon: float = 0.15, images: int = SAMPLES) -> None:
    """Write results/samples.parquet: the first images, 8 x 8 pixels in shades of grey, natural and under each attack."""
    generator = np.random.default_rng(0)
    natural = np.clip(generator.normal(0.5, 0.3, (images, 1, 8, 8)), 0, 1).astype("float32")
    changes = {attack: epsilon * np.sign(generator.normal(size=natural.shape)) for attack in attacks if attack != "natural"}
    pictures = {"natural": natural} | {attack: np.clip(natural + change, 0, 1).astype("float32")
                                       for attack, change in changes.items()}
    number = np.arange(images)
    table = pa.concat_tables([pa.table({"image": number, "label": number % 10, "attack": [attack] * images,
                                        "pixels": [one.tobytes() for one in pixels]}) for attack, pixels in pictures.items()])
    pq.write_table(table.replace_schema_metadata({"shape": "1,8,8"}), folder / "results" / "samples.parquet")


def write_first_batch(folder: Path, *, attacked: bool = True, images: int = 16) -> None:
    """Write results/samples.parquet of a search or retraining: each natural image is predicted right, each attacked one wrong."""
    (folder / "results").mkdir(exist_ok=True)
    write_samples(folder, ["training"] if attacked else [], images=images)
    path = folder / "results" / "samples.parquet"
    table = pq.read_table(path)
    wrong = np.array(table["attack"].to_pylist()) == "training"
    table = table.append_column("prediction", pa.array((table["label"].to_numpy() + wrong) % 10))
    table = table.append_column("confidence", pa.array(np.where(wrong, 0.62, 0.98)))
    about = {"shape": "1,8,8", "step": "40", "title": "PGD-7, epsilon 0.15" if attacked else ""}
    pq.write_table(table.replace_schema_metadata(about), path)


def write_finished(folder: Path, events: EventsFile) -> None:
    """Write the last event and a clean exit.json."""
    events.write("finished")
    write_exit(folder, events, code=0, status="finished")


def write_process(folder: Path, events: EventsFile, *, pid: int, started: float) -> None:
    """Write process.json and a fresh heartbeat."""
    write_json(folder / "process.json", {
        "attempt": events.attempt, "pid": pid, "create_time": started, "started": events.t, "device": "cpu", "threads": 1,
        "boot_id": boot_id()})
    (folder / "heartbeat").touch()


def write_exit(folder: Path, events: EventsFile, *, code: int, status: str, cause: str = "",
               last_lines: tuple[str, ...] = ()) -> None:
    """Write process.json of a process that has ended, exit.json and log.txt."""
    write_process(folder, events, pid=2**22 + 1, started=START)
    write_json(folder / "exit.json", {"attempt": events.attempt, "code": code, "status": status, "cause": cause,
                                      "ended": events.t, "last_lines": list(last_lines)})
    (folder / "log.txt").write_text("started\n" + "".join(line + "\n" for line in last_lines), encoding="utf-8")


def write_finished_chain(root: Path, *, name: str = "digits", created: float = START, seed: int = 2,
                         autoattack: int = 31) -> tuple[str, str, str]:
    """Write a finished search, the retraining of its genotype and the attack on that network; return their ids."""
    ids = (f"20261118-0906-arnas-{name}-7f3a", f"20261118-0906-retrain-{name}-7f3b", f"20261118-0906-attack-{name}-7f3c")
    folder = write_run_json(root, ids[0], "search", children=ids[1:], created=created, changes={"seed": seed})
    events = EventsFile(folder, t=created)
    write_search_steps(events, EPOCHS * STEPS_PER_EPOCH, seed=seed)
    write_json(folder / "results" / "genotype.json", genotype_at(events.step, seed).to_dict())
    write_finished(folder, events)

    folder = write_run_json(root, ids[1], "retrain", parent=ids[0], created=created + 1, changes={"seed": seed})
    events = EventsFile(folder, t=events.t)
    write_network(events)
    for _ in range(4):
        write_retrain_epoch(events)
    write_finished(folder, events)
    write_finished_attack(root, ids[2], parent=ids[1], t=events.t, created=created + 2, autoattack=autoattack)
    return ids


def write_finished_attack(root: Path, run: str, *, parent: str | None, t: float = START, created: float = START,
                          autoattack: int = 31, epsilon: float = 0.15, parameters: int = PARAMETERS,
                          macs: int = MACS, title: str = "ARNAS", hand_made: str = "", network: str = "",
                          latency_s: float | None = None, hardware: str = "AMD EPYC 7B13") -> str:
    """Write a finished attack run: natural, FGSM and PGD-20 on the whole test split, AutoAttack on 64 images.

    Args:
        network: hash of the attacked weights; if empty, one that no other run has.
        latency_s: latency of one image on `hardware`; None for an older run, which has measured none.
    """
    folder, events = _begun_attack(root, run, parent=parent, t=t, created=created, epsilon=epsilon, title=title,
                                   network=network or f"weights of {run}", parameters=parameters, macs=macs,
                                   hand_made=hand_made)
    if latency_s is not None:
        write_latency(events, latency_s, hardware=hardware)
    results = {"natural": ("Natural", 347), "fgsm": ("FGSM", 241), "pgd-20": ("PGD-20", 212)}
    for number, (attack, (title, correct)) in enumerate(results.items()):
        events.write("progress", phase="attack", done=number + 1, total=8, unit="blocks", passes=20 * number, detail=title)
        write_attack(events, attack, title, TEST_IMAGES, correct, epsilon=epsilon)
    parts = (("apgd-ce", "APGD-CE", autoattack + 3), ("apgd-t", "APGD-T", autoattack), ("fab-t", "FAB-T", autoattack),
             ("square", "Square", autoattack))
    for attack, title, correct in parts:
        write_attack(events, attack, title, AUTOATTACK_IMAGES, correct, epsilon=epsilon, part_of="autoattack")
    write_attack(events, "autoattack", "AutoAttack", AUTOATTACK_IMAGES, autoattack, epsilon=epsilon)
    write_attack(events, "worst-case", "Worst case", AUTOATTACK_IMAGES, autoattack, epsilon=epsilon)
    write_checks(events, gradients="passed", huge_epsilon="passed", more_steps="passed", planted="passed")
    events.write("progress", phase="attack", done=8, total=8, unit="blocks", passes=9000, detail="")
    survivors = {attack: np.arange(TEST_IMAGES) < correct for attack, (_, correct) in results.items()}
    # AutoAttack saw images 0..63 of the 360; of these, 1..autoattack withstand it.
    seen = np.arange(AUTOATTACK_IMAGES)
    survivors |= {f"autoattack/{attack}": (seen > 0) & (seen <= correct) for attack, _, correct in parts}
    write_outcomes(folder, survivors | {"autoattack": survivors["autoattack/square"]})
    write_samples(folder, survivors, epsilon=epsilon)
    write_finished(folder, events)
    return run


def _begun_attack(root: Path, run: str, *, parent: str | None, t: float, created: float, epsilon: float, title: str,
                  network: str, parameters: int = PARAMETERS, macs: int = MACS,
                  hand_made: str = "") -> tuple[Path, EventsFile]:
    """Write the folder and the first events of an attack run, up to the opening of the test split."""
    folder = write_run_json(root, run, "attack", parent=parent, created=created, title=title, changes={"epsilon": epsilon})
    events = EventsFile(folder, t=t)
    write_network(events, parameters=parameters, macs=macs, hand_made=hand_made)
    settings = build("attack", None, "digits", "quick", {"epsilon": epsilon})
    write_evaluation(events, Protocol.of(settings, classes=10, images=range(TEST_IMAGES), subset=range(AUTOATTACK_IMAGES)),
                     network)
    events.write("opened", split="test", images=TEST_IMAGES, purpose="attack")
    return folder, events


def write_unfinished_attack(root: Path, run: str, *, parent: str | None = None, ended: str = "", network: str = "weights",
                            created: float = START) -> str:
    """Write an attack run that has measured the natural accuracy only.

    Args:
        ended: "failed", or "" for one whose process is the one that calls this function.
        network: hash of the attacked weights.
    """
    folder, events = _begun_attack(root, run, parent=parent, t=created, created=created, epsilon=0.15, title="ARNAS",
                                   network=network)
    write_attack(events, "natural", "Natural", TEST_IMAGES, 340)
    events.write("progress", phase="attack", done=2, total=8, unit="blocks", passes=20, detail="FGSM")
    if ended == "failed":
        write_exit(folder, events, code=1, status="failed", cause="Out of memory.")
    else:
        me = psutil.Process(os.getpid())
        write_process(folder, events, pid=me.pid, started=me.create_time())
    return run


def write_comparison(root: Path, run: str = "20261118-0921-attack-digits-0c01", *, parent: str, against: str) -> str:
    """Write a finished attack run that only compares its network, titled "Other", with that of `against`."""
    folder = write_run_json(root, run, "attack", parent=parent, created=START, title="Other", changes={"against": against})
    events = EventsFile(folder)
    write_network(events)
    events.write("verdict", against=against, protocol="ab14", network="ab15", other="ab16", total=TEST_IMAGES, images=46,
                 both_correct=20, first_only=12, second_only=2, neither=12, low=0.01, high=0.34, level=0.95,
                 verdict="first better")
    write_finished(folder, events)
    return run


def write_sweep(events: EventsFile, correct: Mapping[float, int], *, images: int = AUTOATTACK_IMAGES) -> None:
    """Write the points of a sweep over epsilon, radius -> number of images classified correctly, and a median."""
    for radius, count in correct.items():
        events.write("sweep", sweep="epsilon", attack="pgd-20", title="PGD-20", norm="Linf", epsilon=radius, steps=20,
                     images=images, correct=count, fingerprint="f00")
    events.write("critical", attack="pgd-20", title="PGD-20", norm="Linf", images=images, median=0.125, low=0.1, high=0.14,
                 fingerprint="f00")


def write_transfers(root: Path, run: str, network: str, correct: Mapping[str, int], *, maker: str = "mi-fgsm",
                    created: float = START, parent: str | None = None, images: int = AUTOATTACK_IMAGES) -> str:
    """Write a finished attack run with transfer attacks; return its id.

    Args:
        network: hash of the attacked weights, 12 hex characters.
        correct: hash of a source -> number of images that withstand; that of `network` itself is the white-box result.
    """
    sources = [source for source in correct if source != network]
    changes = {"attacks": (maker,), "transfer_from": sources, "transfer_attack": maker, "images": images}
    folder = write_run_json(root, run, "attack", parent=parent, created=created, changes=changes)
    events = EventsFile(folder, t=created)
    write_network(events)
    protocol = Protocol.of(build("attack", None, "digits", "quick", changes), classes=10, images=range(images),
                           subset=range(images), sources=dict.fromkeys(sources))
    write_evaluation(events, protocol, network)
    for name in protocol.attacks:
        fields = protocol.part(ATTACKS[name])
        right = correct[fields.get("source", network)]
        low, high = wilson(right, images)
        events.write("attack", attack=name, title=ATTACKS[name].title, epsilon=0.15, images=images, correct=right,
                     accuracy=right / images, low=low, high=high, fingerprint=fingerprint(fields), fields=fields)
    write_attack(events, "worst-case", "Worst case", images, min(correct.values()))
    write_finished(folder, events)
    return run


def write_hand_made(root: Path, *, created: float = START) -> tuple[str, str]:
    """Write a finished retraining of a ResNet-18 and the attack on it; return their ids."""
    ids = ("20261118-0914-retrain-digits-7f51", "20261118-0914-attack-digits-7f52")
    sizes = {"parameters": 11_172_810, "macs": 34_712_832}
    folder = write_run_json(root, ids[0], "retrain", method="ResNet-18", title="ResNet-18", created=created,
                            changes={"network": "resnet-18"})
    events = EventsFile(folder, t=created)
    write_network(events, **sizes, hand_made="resnet-18")
    for _ in range(4):
        write_retrain_epoch(events)
    write_finished(folder, events)
    write_finished_attack(root, ids[1], parent=ids[0], t=events.t, created=created + 1, autoattack=28, title="ResNet-18",
                          hand_made="resnet-18", **sizes)
    return ids


def write_running_search(root: Path, run: str = "20261118-0910-arnas-digits-0a01", *, created: float = START) -> str:
    """Write a search in its second epoch whose process is the one that calls this function."""
    folder = write_run_json(root, run, "search", created=created)
    events = EventsFile(folder, t=created)
    write_search_steps(events, 13)
    me = psutil.Process(os.getpid())
    write_process(folder, events, pid=me.pid, started=me.create_time())
    (folder / "log.txt").write_text("threads 1\nepoch 2 of 4\n", encoding="utf-8")
    return run


def write_failed_search(root: Path, run: str = "20261118-0911-arnas-digits-0a02", *, created: float = START) -> str:
    """Write a search that ran out of memory in its first epoch."""
    folder = write_run_json(root, run, "search", title="ARNAS, images clipped", created=created, changes={"clip_images": True})
    events = EventsFile(folder, t=created)
    write_search_steps(events, 6)
    cause = "Out of memory: the batch of 40 images did not fit; take a smaller batch."
    events.write("alert", level="error", text=cause)
    write_exit(folder, events, code=1, status="failed", cause=cause, last_lines=("RuntimeError: out of memory",))
    return run


def write_stopped_search(root: Path, run: str = "20261118-0912-arnas-digits-0a03", *, created: float = START) -> str:
    """Write a search stopped on request in its third epoch."""
    folder = write_run_json(root, run, "search", created=created)
    events = EventsFile(folder, t=created)
    write_search_steps(events, 25)
    events.write("checkpoint", path="last")
    write_exit(folder, events, code=0, status="stopped", cause="Stopped on request.")
    return run


def write_resumed_retrain(root: Path, run: str = "20261118-0913-retrain-arnas-0a04", *, created: float = START) -> str:
    """Write a retraining killed twice between checkpoints and resumed: steps 11..13 and 16..17 have two attempts each."""
    folder = write_run_json(root, run, "retrain", created=created, changes={"genotype": "ARNAS"})
    events = EventsFile(folder, t=created)
    write_network(events)
    write_retrain_epoch(events)
    write_retrain_epoch(events)
    write_retrain_epoch(events, stop_after=3)  # killed at step 13; the checkpoint is at 10
    events.attempt, events.step = 2, 10
    events.write("resumed", from_step=10)
    write_retrain_epoch(events)
    write_retrain_epoch(events, stop_after=2)  # killed at step 17; the checkpoint is at 15
    events.attempt, events.step = 3, 15
    events.write("resumed", from_step=15)
    write_retrain_epoch(events)
    write_finished(folder, events)
    return run


CANDIDATE_COUNTS = ((50, 20), (58, 31), (60, 31), (41, 12))  # right of 64: as they are, under attack


def write_random_search(root: Path, run: str = "20261118-0914-random-search-digits-0a05", *, measured: int = 4,
                        ended: str = "finished", ranking: str = "adversarial", split: str = "select",
                        inherit_from: str = "") -> str:
    """Write a random search of four candidates, two epochs of two steps each, with the first `measured` of them measured.

    Args:
        ended: "finished", "failed", or "" for one whose process is the one that calls this function.
        split: the images on which candidates are measured; "alphas" in older runs.
        inherit_from: id of the search whose supernet measures the candidates as well.
    """
    folder = write_run_json(root, run, "search", method="random_search", title="Random search",
                            changes={"candidates": 4, "epochs": 8, "ranking": ranking, "inherit_from": inherit_from})
    events = EventsFile(folder)
    for number, (natural, adversarial) in enumerate(CANDIDATE_COUNTS[:measured], start=1):
        for position in range(4):
            events.step, events.epoch = events.step + 1, events.step // 2 + 1
            events.write("progress", phase="search", done=events.step, total=16, unit="steps", passes=9 * events.step,
                         detail=f"Candidate {number} of 4, {'measuring' if position > 1 else 'epoch 1 of 1'}. step done")
            if position > 1:
                events.write("metric", split=split, statistics="running", values={
                    "natural_loss": 0.5, "natural_accuracy": natural / 64, "adversarial_loss": 1.5,
                    "adversarial_accuracy": adversarial / 64})
            else:
                events.write("metric", split="weights", statistics="batch", values={"train_loss": 2.0, "train_accuracy": 0.3})
        found = genotype_at(10, seed=number)
        inherited = {"inherited_natural_correct": natural - 24, "inherited_adversarial_correct": 20 - adversarial // 4}
        events.write("candidate", candidate=number, genotype=found.to_dict(), hash=found.hash, images=64,
                     natural_correct=natural, adversarial_correct=adversarial, parameters=20_000 + number, macs=400_000 + number,
                     ranking=ranking, **(inherited if inherit_from else {}))
        best = genotype_at(10, seed=_best_candidate(number, ranking))
        events.write("genotype", genotype=best.to_dict(), hash=best.hash)
    if ended == "finished":
        write_json(folder / "results" / "genotype.json", genotype_at(10, seed=_best_candidate(measured, ranking)).to_dict())
    write_end(folder, events, ended)
    return run


def _best_candidate(measured: int, ranking: str) -> int:
    """Return the number of the candidate that is the result once the first `measured` candidates of a search are measured."""
    place = {"adversarial": lambda one: (one[1], one[0]), "natural": lambda one: one, "none": lambda one: 0}[ranking]
    counts = CANDIDATE_COUNTS[:measured]
    return 1 + counts.index(max(counts, key=place))


def write_end(folder: Path, events: EventsFile, ended: str) -> None:
    """Write what tells how a run has ended, "finished" or "failed"; with any other word, it runs in this process."""
    if ended == "finished":
        write_finished(folder, events)
    elif ended == "failed":
        write_exit(folder, events, code=1, status="failed", cause="Out of memory.")
    else:
        me = psutil.Process(os.getpid())
        write_process(folder, events, pid=me.pid, started=me.create_time())


def write_sample_runs(root: Path) -> dict[str, str]:
    """Write all seven and return role -> id: search, retrain, attack, running, failed, stopped, resumed."""
    pattern, ids = _pattern()
    # copyfile: the copies are as fresh as files just written, heartbeats included.
    shutil.copytree(pattern.name, root, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return dict(ids)


@cache
def _pattern() -> tuple[tempfile.TemporaryDirectory[str], dict[str, str]]:
    """Return a folder with the seven runs, written once per process and deleted when it exits, and their ids by role."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    search, retrain, attack = write_finished_chain(root)
    return folder, {
        "search": search, "retrain": retrain, "attack": attack,
        "running": write_running_search(root, created=START + 240),
        "failed": write_failed_search(root, created=START + 300),
        "stopped": write_stopped_search(root, created=START + 360),
        "resumed": write_resumed_retrain(root, created=START + 420),
    }

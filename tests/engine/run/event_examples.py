"""One event of every kind, and one of every form of a kind."""

from __future__ import annotations

import numpy as np

from engine.attack.statistics import wilson
from engine.run import attack_events, event_kinds
from engine.run.event import Event
from tests.sample_runs import PRIMITIVES, alphas_at, genotype_at

_LOW, _HIGH = wilson(6, 8)

EXAMPLES: dict[str, Event] = {
    "resumed": event_kinds.Resumed(from_step=3),
    "progress": event_kinds.Progress(phase="search", done=2.5, total=40, unit="steps", passes=105, detail="PGD step 3 of 7"),
    "progress, short": event_kinds.Progress(phase="retrain", done=2.0, total=40.0),
    "metric": event_kinds.Metric(split="alphas", statistics="batch", values={"natural_loss": 2.25, "natural_accuracy": None}),
    "alpha": event_kinds.Alpha(cell="robust", primitives=PRIMITIVES, alpha=alphas_at(3, "robust")),
    "alpha with beta": event_kinds.Alpha(cell="reduce", primitives=PRIMITIVES, alpha=alphas_at(3, "reduce"),
                                         beta=np.linspace(-1, 1, 14)),
    "genotype": event_kinds.DerivedGenotype(genotype=genotype_at(3)),
    "objectives": event_kinds.Objectives(names=["natural", "adversarial"], losses=[1.5, 0.25], weights=[0.25, 0.75],
                                         norms=[0.5, None], cosines=[[1.0, 0.5], [0.5, 1.0]], stage="second"),
    "candidate": event_kinds.MeasuredCandidate(candidate=1, images=8, natural_correct=6, adversarial_correct=2, parameters=7,
                                               macs=9, genotype=genotype_at(3), ranking="adversarial"),
    "candidate with inherited weights": event_kinds.MeasuredCandidate(
        candidate=2, images=8, natural_correct=6, adversarial_correct=2, parameters=7, macs=9, genotype=genotype_at(3),
        ranking="none", inherited_natural_correct=4, inherited_adversarial_correct=0),
    "network": event_kinds.NetworkBuilt(parameters=7, macs=9, channels=12, layers=5, genotype=genotype_at(3)),
    "network made by hand": event_kinds.NetworkBuilt(parameters=7, macs=9, hand_made="resnet-18"),
    "attack": attack_events.AttackResult(attack="fgsm", title="FGSM", epsilon=0.15, images=8, correct=6, accuracy=0.75, low=_LOW,
                                       high=_HIGH, fingerprint="ab12", fields={"norm": "Linf"}, duration_s=1.5),
    "part of a suite": attack_events.AttackResult(attack="apgd-ce", title="APGD-CE", epsilon=0.15, images=8, correct=6,
                                                accuracy=0.75, low=_LOW, high=_HIGH, fingerprint="ab13", complete=False,
                                                part_of="autoattack"),
    "critical": attack_events.CriticalEpsilon(attack="fmn-50", title="FMN-50", norm="L2", images=8, median=0.5, low=0.25,
                                            fingerprint="ab14"),
    "latency": attack_events.LatencyMeasured(batch=64, median_s=0.02, low_s=0.019, high_s=0.021, repeats=12, device="cpu",
                                             hardware="AMD EPYC 7B13", threads=1),
    "sweep": attack_events.SweepPoint(sweep="epsilon", attack="fmn-50", title="FMN-50", norm="L2", epsilon=0.5, steps=50,
                                       images=8,
                                    correct=4, fingerprint="ab14"),
    "certified": attack_events.Certified(norm="Linf", epsilon=0.15, images=8, correct=6, low=_LOW, high=_HIGH,
                                       method="interval bounds"),
    "verdict": attack_events.EarlyVerdict(against="20261120-0915-attack-digits-7f3a", protocol="ab14", network="ab15",
                                          other="ab16",
                                        total=20, images=8, both_correct=2, first_only=3, second_only=1,
                                        neither=2, low=-0.5, high=0.75, level=0.95, verdict="still open"),
    "opened": attack_events.SplitOpened(split="test", images=360, purpose="attack"),
    "alert": event_kinds.Alert(level="warning", text="Mind the gap."),
    "evaluation": attack_events.EvaluationBegun(protocol="ab15", title="L2 0.5, 8 images", network="cd16", fields={
        "dataset": "digits", "norm": "L2", "epsilon": 0.5, "images": 8, "images_hash": "ef17", "seed": 0, "mode": "eval",
        "attacks": [{"attack": "fgsm", "epsilon": 0.5}]},
        checkpoint="best", preprocessing={"mean": [0.5], "std": [0.25]}),
    "telemetry": event_kinds.Telemetry(process_cores=1.5, machine_cpu=0.75, memory_bytes=2**30, machine_free_bytes=2**33,
                                       machine_bytes=2**34, disk_free_bytes=2**36, unit="steps", units_per_s=2.5,
                                       passes_per_s=40.0),
    "gpu": event_kinds.GpuTelemetry(device="cuda:0", name="NVIDIA H100", utilisation=0.5, memory_bytes=2**33,
                                    memory_total_bytes=2**36, temperature_c=61.0),
    "check": attack_events.AttackCheck(check_name="gradients", title="Gradients", finding="warning", measured="3 of 64 are 0.",
                                     advice="Use the margin."),
    "checkpoint": event_kinds.CheckpointWritten(path="last"),
    "finished": event_kinds.Finished(),
}

"""Five recorded steps of the published ARNAS procedure, reproduced in float64 to 1e-9 relative.

The records (`tests/data/arnas_trace_*.npz`, numbers only) hold the batches, the random starts of the attacks and the
results, for lambda 0.1 (gamma is 0 throughout) and lambda 1 (gamma inside and at the end of its range).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.space.compiled.build import unavailable
from engine.space.supernet import Supernet
from tests.darts_state import darts_state_dict
from tests.engine.search.functional_networks import DEVICE, FunctionalReference

DATA = Path(__file__).parents[3] / "data"
KINDS = ("robust", "reduce", "accurate")
TOLERANCE = 1e-9


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference relative to that of the expected value; absolute if zero is expected."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / (expected.norm() or 1.0))


class Recording:
    """One recorded trace as tensors, and a search that starts from the same state."""

    def __init__(self, name: str) -> None:
        with np.load(DATA / f"arnas_trace_lambda{name}.npz") as file:
            self.values = {key: torch.as_tensor(file[key]) for key in file.files}

    def alphas(self, prefix: str) -> Tensor:
        return torch.cat([self.values[f"{prefix}{kind}"].flatten() for kind in KINDS])

    def weights(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}

    def step(self, t: int) -> dict[str, Tensor]:
        return self.weights(f"s{t}:")

    def config(self) -> ArnasConfig:
        number = {name: value.item() for name, value in self.values.items() if value.ndim == 0}
        return ArnasConfig(
            channels=number["channels"], layers=number["layers"], batch_size=6, adversarial_lambda=number["lambda"],
            alpha_learning_rate=number["arch_learning_rate"], alpha_weight_decay=number["arch_weight_decay"],
            momentum=number["momentum"], weight_decay=number["weight_decay"], gradient_clip=number["grad_clip"],
            epsilon=number["epsilon"], step_size=number["step_size"], attack_steps=number["attack_steps"],
            finite_difference=number["hvp_r"])

    def search(self, supernet, weights: Tensor) -> Arnas:
        arnas = Arnas(self.config(), supernet, device=DEVICE, dtype=torch.float64, seed=0)
        arnas.load_state_dict(arnas.state_dict() | {"weights": weights, "alphas": self.alphas("alpha0_")})
        return arnas


def check_step(arnas: Arnas, recorded: dict[str, Tensor], alphas: Tensor) -> dict[str, float]:
    """Propose the recorded step, take it, and return the relative error of every recorded quantity."""
    proposal = arnas.propose((recorded["x"], recorded["y"]), (recorded["xs"], recorded["ys"]),
                             learning_rate=recorded["lr"].item(), noise=(recorded["noise"], recorded["noise_s"]))
    report = arnas.take(proposal)
    assert report.passes == arnas.passes_per_step == 23
    u1, u2 = proposal.architecture.gradients
    return {
        "x_adv": relative_error(proposal.x_adv, recorded["x_adv"]),
        "xs_adv": relative_error(proposal.xs_adv, recorded["xs_adv"]),
        "u_natural": relative_error(u1, recorded["u_natural"]),
        "u_adversarial": relative_error(u2, recorded["u_adversarial"]),
        "gamma": relative_error(torch.tensor(report.weights[0], dtype=torch.float64), recorded["gamma"]),
        "loss_train": relative_error(torch.tensor(report.train_loss, dtype=torch.float64), recorded["loss_train"]),
        "alphas": relative_error(arnas.alphas, alphas),
    }


def check_trace(recording: Recording, supernet, flat_from, steps: int = 5) -> dict[str, float]:
    """Run the first steps; return the largest error of each quantity, after all five also of the final weights."""
    arnas = recording.search(supernet, flat_from(recording.weights("w0:")))
    worst: dict[str, float] = {}
    for t in range(steps):
        errors = check_step(arnas, recording.step(t), recording.alphas(f"s{t}:alpha_"))
        worst = {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
    if steps == 5:
        worst["weights"] = relative_error(arnas.weights, flat_from(recording.weights("wT:")))
    return worst


@pytest.mark.slow
def test_two_steps_on_the_reference_supernet() -> None:
    """Tests the method without the merged supernet; two steps, because it is slow."""
    recording = Recording("1")
    supernet = FunctionalReference(channels=2, layers=5, classes=10, image_shape=(3, 8, 8))
    supernet.module.double().to(DEVICE)
    errors = check_trace(recording, supernet, supernet.flat_from, steps=2)
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize(("name", "backend"), [("0.1", "compiled"), ("1", "compiled"), ("1", "dense"),
                                               pytest.param("0.1", "dense", marks=pytest.mark.slow)])
def test_trace(name: str, backend: str) -> None:
    recording = Recording(name)
    config = recording.config()
    supernet = Supernet(kinds=KINDS, channels=config.channels, layers=config.layers, classes=10, image_shape=(3, 8, 8),
                        backend=backend)

    def flat_from(weights: dict[str, Tensor]) -> Tensor:
        """Convert by DARTS-family names. The records hold no running statistics, because no step reads them."""
        buffers = darts_state_dict(supernet, torch.zeros(supernet.layout.size), supernet.initial_buffers())
        assert weights.keys() <= buffers.keys()
        return supernet.load_darts_state_dict(buffers | weights, torch.float64)[0]

    errors = check_trace(recording, supernet, flat_from)
    assert max(errors.values()) <= TOLERANCE, errors
    gammas = [recording.step(t)["gamma"].item() for t in range(5)]
    assert (max(gammas) == 0) == (name == "0.1"), "one record lies at the vertex, the other does not"


@pytest.mark.slow
@pytest.mark.skipif(unavailable() is not None or DEVICE.type != "cpu", reason="no compiled kernels here")
def test_compiled_steps_equal_plain_ones() -> None:
    """Two steps with momentum, image sizes no multiple of the vector width: same attacks, gradients, weights and alphas."""
    arnas = {}
    for backend in ("compiled", "merged"):
        supernet = Supernet(channels=6, layers=3, classes=5, image_shape=(3, 8, 12), backend=backend)
        arnas[backend] = Arnas(ArnasConfig(attack_steps=3, momentum=0.9), supernet, device=DEVICE, dtype=torch.float64, seed=3)
    for t in range(2):
        generator = torch.Generator().manual_seed(t)
        batches = [(torch.rand(7, 3, 8, 12, generator=generator, dtype=torch.float64),
                    torch.randint(5, (7,), generator=generator)) for _ in range(2)]
        proposals = {name: search.propose(*batches, learning_rate=0.05, generator=torch.Generator().manual_seed(t))
                     for name, search in arnas.items()}
        found, expected = proposals["compiled"], proposals["merged"]
        for a, b in ((found.x_adv, expected.x_adv), (found.xs_adv, expected.xs_adv)):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
        for a, b in zip(found.architecture.gradients, expected.architecture.gradients, strict=True):
            assert relative_error(a, b) < 1e-10
        for name, search in arnas.items():
            search.take(proposals[name])
    for name in ("weights", "alphas"):
        assert relative_error(getattr(arnas["compiled"], name), getattr(arnas["merged"], name)) < 1e-10

"""ONNX files give the network's logits in another runtime; without the package onnx, the error is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import KINDS_OF_ARNAS, KINDS_OF_DARTS
from engine.cli import main
from engine.exchange.source import find
from engine.exchange.writing import write_onnx
from tests.engine.architectures import random_genotype
from tests.engine.exchange.retrained import write_retrained

RETRAINED = "20261118-0920-retrain-digits-0b01"
WITHOUT = """
import sys
sys.modules["onnx"] = None  # as if it were not installed
from engine.cli import main
sys.exit(main(["export", "ARNAS", "--format", "onnx", "--channels", "2", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("seed", range(4))
def test_another_runtime_gives_the_same_logits(seed: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
    onnx = pytest.importorskip("onnx", reason="requirements-onnx.txt is not installed")
    genotype = find_genotype("ARNAS") if seed == 0 else random_genotype(seed, KINDS_OF_ARNAS if seed % 2 else KINDS_OF_DARTS)
    network = write_retrained(tmp_path, genotype)
    out = tmp_path / "net.onnx"
    assert main(["export", RETRAINED, "--format", "onnx", "--out", str(out), "--runs", str(tmp_path)]) == 0
    model = onnx.load(str(out))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "source": RETRAINED, "genotype": genotype.to_json(), "weights": "retrained"}
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    for images in (1, 3):
        x = torch.rand(images, 1, 8, 8)
        with torch.no_grad():
            expected = network(x)
        logits = torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])
        # Sums of single precision in another order.
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_an_architecture_without_weights_says_so_and_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="requirements-onnx.txt is not installed")
    source = find("DARTS_V2", tmp_path, channels=2, layers=3, classes=4, image_shape=(3, 9, 12))
    before = torch.random.get_rng_state()
    for name in ("a.onnx", "b.onnx"):
        write_onnx(source, tmp_path / name)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(str(tmp_path / "a.onnx"))
    assert {entry.key: entry.value for entry in model.metadata_props}["weights"] == "untrained"
    shape = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 3, 9, 12]


def test_without_the_package_there_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path / "net.onnx")], capture_output=True, text=True,
                          timeout=120, check=False, cwd=Path(__file__).resolve().parents[3])
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.strip() == ("An ONNX file needs the package onnx, which is not installed; run `.venv/bin/python -m pip "
                                   "install -r requirements-onnx.txt`.")

"""The alphas that E2RNAS's search saves become a run with architecture weights and a genotype per epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.architecture.genotype import Genotype
from engine.cli import main
from engine.exchange import entry
from engine.log import RunLog
from engine.run.folder import RunFolder, read_json

EDGES = [(state, node) for node in range(2, 6) for state in range(node)]
OPERATIONS = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
              "dil_conv_5x5"]


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, np.ndarray]:
    """Softmax weights of four epochs, in single precision, as the public code saves them; one has underflowed to 0."""
    generator = np.random.default_rng(0)
    of_kinds = {kind: generator.dirichlet(np.ones(8), (4, 14)).astype(np.float32) for kind in ("normal", "reduce")}
    for kind, of_kind in of_kinds.items():
        of_kind[0, 0] = [0, 0, 1, 0, 0, 0, 0, 0]
        np.save(tmp_path / f"alphas_{kind}.npy", list(of_kind))
    return of_kinds


def by_hand(matrix: np.ndarray) -> list[tuple[str, int]]:
    """Return the two strongest edges of each node, by their best operation except "none". Random weights have no ties."""
    edges = []
    for node in range(2, 6):
        best = [(matrix[i, 1:].max(), OPERATIONS[1 + int(matrix[i, 1:].argmax())], state)
                for i, (state, to) in enumerate(EDGES) if to == node]
        edges += [(name, state) for _, name, state in sorted(best, reverse=True)[:2]]
    return edges


@pytest.mark.parametrize("given", ["alphas_normal.npy", "alphas_reduce.npy"])
def test_weights_are_kept_and_genotypes_derived(given: str, weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run = entry.take(runs, tmp_path / given)
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    assert log.alpha_cells(run) == ["normal", "reduce"] and list(log.alpha_epochs(run, "normal")) == [0, 1, 2, 3]
    genotypes = log.genotypes(run)
    for epoch in range(4):
        genotype = Genotype.from_json(genotypes["genotype"][epoch])
        for kind, of_kind in weights.items():
            matrix = log.alpha_matrix(run, kind, epoch)
            assert matrix["operation"].tolist()[:8] == OPERATIONS
            np.testing.assert_allclose(matrix["weight"].to_numpy().reshape(14, 8), of_kind[epoch], rtol=1e-5, atol=1e-30)
            assert list(genotype.cell(kind).edges) == by_hand(of_kind[epoch])
    assert read_json(RunFolder(runs, run).results / "genotype.json") == genotype.to_dict()
    words = " ".join(log.alerts(run)["text"])
    assert "alphas_normal.npy" in words and "alphas_reduce.npy" in words
    assert log.run(run)["natural_accuracy"] is None
    log.close()


@pytest.mark.parametrize(("spoil", "sentence"), [
    (lambda a: a[:, :5], "[epochs, 14, 8]"),
    (lambda a: a[..., :7], "[epochs, 14, 8]"),
    (lambda a: a[0], "[epochs, 14, 8]"),
    (lambda a: a[:0], "[epochs, 14, 8]"),
    (lambda a: (a * 100).astype(int), "floating-point numbers"),
    (lambda a: np.log(a + 1e-3), "softmax weights"),
    (lambda a: a * 2, "softmax weights"),
    (lambda a: a * np.nan, "softmax weights"),
    (lambda a: a[:2], "equally many epochs, got 4 and 2"),
    (lambda a: np.array([{"loss": 1.0}, None], dtype=object), "save it anew without objects"),
], ids=["edges", "operations", "one epoch", "empty", "whole numbers", "raw alphas", "sums", "nan", "epochs", "objects"])
def test_other_arrays_are_refused_and_leave_nothing(spoil: Callable[[np.ndarray], np.ndarray], sentence: str,
                                                    weights: dict[str, np.ndarray], tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "alphas_reduce.npy", spoil(weights["reduce"]), allow_pickle=True)
    assert main(["import", str(tmp_path / "alphas_normal.npy"), "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and "Traceback" not in said.err and not said.out
    assert not (tmp_path / "runs").exists()


def test_a_missing_and_a_torn_file(weights: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (tmp_path / "alphas_reduce.npy").read_bytes()
    for content in (whole[:-100], whole[:40], b"", b"PK\x03\x04"):
        (tmp_path / "alphas_reduce.npy").write_bytes(content)
        assert main(["import", str(tmp_path / "alphas_normal.npy"), "--runs", str(tmp_path / "runs")]) == 2
        assert "as numpy.save writes it" in capsys.readouterr().err
    (tmp_path / "alphas_reduce.npy").unlink()
    assert main(["import", str(tmp_path / "alphas_normal.npy"), "--runs", str(tmp_path / "runs")]) == 2
    assert "alphas_reduce.npy is not" in capsys.readouterr().err
    np.save(tmp_path / "sols.npy", np.ones((4, 2)))
    assert main(["import", str(tmp_path / "sols.npy"), "--runs", str(tmp_path / "runs")]) == 2
    assert "alphas_normal.npy and alphas_reduce.npy, got 'sols.npy'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

"""Exports lose nothing: JSON and weights read back, and modules compute the same logits without our package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.genotype import KINDS_OF_ARNAS, KINDS_OF_DARTS, Genotype
from engine.cli import main
from engine.exchange.forms import EXPORTS
from engine.exchange.source import find
from engine.exchange.writing import WRITERS, write_module
from engine.space.network import Network
from tests.engine.architectures import random_genotype
from tests.engine.exchange.retrained import settled, write_retrained
from tests.sample_runs import write_sample_runs

RETRAINED = "20261118-0920-retrain-digits-0b01"
# Isolated: no PYTHONPATH, no current folder, so that our package cannot be found.
ALONE = """
import sys, torch
sys.modules["engine"] = sys.modules["app"] = None  # importing this project fails, whether it is installed or not
sys.path.insert(0, sys.argv[1])
import net
model = net.load(sys.argv[2])
torch.save(model(torch.load(sys.argv[3], weights_only=True)).detach(), sys.argv[4])
assert not [name for name, module in sys.modules.items() if module and name.split(".")[0] in ("engine", "app")]
"""


def logits_alone(folder: Path, weights: Path, x: torch.Tensor) -> torch.Tensor:
    """Return the logits of `net.py` in `folder`, computed by a process that cannot import this project."""
    torch.save(x, folder / "x.pt")
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, str(folder), str(weights), str(folder / "x.pt"),
                           str(folder / "y.pt")], capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "y.pt", weights_only=True)


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.genotype])
def test_json_reads_back(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "g.json"
    assert main(["export", name, "--out", str(out), "--json"]) == 0
    genotype = find_genotype(name)
    assert Genotype.from_json(out.read_text()) == genotype
    assert json.loads(capsys.readouterr().out) == {"files": [str(out)], "hash": genotype.hash}


@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_retrained_network_computes_the_same_alone(auxiliary: bool, tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    out.mkdir()
    if auxiliary:  # needs images of 17 pixels: only the shape of the record counts here
        network = write_retrained_larger(runs)
        x = torch.rand(3, 3, 19, 18)
    else:
        network = write_retrained(runs, find_genotype("ARNAS"))
        x = torch.rand(3, 1, 8, 8)
    assert main(["export", RETRAINED, "--format", "module", "--out", str(out / "net.py"), "--runs", str(runs)]) == 0
    state = torch.load(out / "net.pt", weights_only=True)
    assert set(state) == {name for name in network.state_dict() if not name.startswith("auxiliary_head.")}
    with torch.no_grad():
        assert torch.equal(logits_alone(out, out / "net.pt", x), network(x))


def write_retrained_larger(runs: Path) -> Network:
    """Write a retraining with auxiliary head and normalisation, for images with odd sides; return its network."""
    from engine.files import atomic_write_json
    from engine.run import checkpoint

    genotype = random_genotype(5)
    write_retrained(runs, genotype)
    sizes = {"channels": 2, "layers": 5, "classes": 7, "image_shape": [3, 19, 18], "auxiliary": True}
    network = settled(Network(genotype, **sizes))
    atomic_write_json(runs / RETRAINED / "results" / "network.json", {"genotype": genotype.to_dict(), **sizes})
    checkpoint.write(runs / RETRAINED / "checkpoint" / checkpoint.BEST, {"network": network.state_dict()})
    return network


@pytest.mark.parametrize("seed", range(6))
def test_any_architecture_has_the_names_and_numbers_of_ours(seed: int, tmp_path: Path) -> None:
    genotype = random_genotype(seed, KINDS_OF_ARNAS if seed % 2 else KINDS_OF_DARTS)
    sizes = {"channels": 1 + seed % 3, "layers": 3 + seed, "classes": 4, "image_shape": (2, 9, 12)}
    source = find(genotype.to_json(), tmp_path, **sizes)
    assert write_module(source, tmp_path / "net.py") == [tmp_path / "net.py"]  # no weights, no second file
    space: dict[str, object] = {}
    exec(compile((tmp_path / "net.py").read_text(), "net.py", "exec"), space)
    theirs, ours = space["Network"](), settled(Network(genotype, **sizes), seed)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    theirs.eval()
    x = torch.rand(2, 2, 9, 12)
    with torch.no_grad():
        assert torch.equal(theirs(x), ours(x))


def test_the_source_of_the_module_is_a_module(tmp_path: Path) -> None:
    from engine.exchange import standalone

    network = standalone.Network().eval()
    assert network(torch.rand(2, *standalone.IMAGE_SHAPE)).shape == (2, standalone.CLASSES)
    write_module(find("ARNAS", tmp_path), tmp_path / "arnas.py")
    text = (tmp_path / "arnas.py").read_text()
    assert text.startswith('"""ARNAS: ') and "from arnas import Network, load" in text and 'load("arnas.pt")' in text
    assert max(map(len, text.splitlines())) <= 130


def test_a_search_gives_its_result_for_its_own_images(tmp_path: Path) -> None:
    ids = write_sample_runs(tmp_path)
    found = find(ids["search"], tmp_path, channels=8, layers=5)
    assert found.network.sizes == {"channels": 8, "layers": 5, "classes": 10, "image_shape": (1, 8, 8),
                                   "placement": "accurate_first", "width_ratio": "1:2:2"}
    assert found.retrained is None


def test_an_attack_gives_the_network_it_attacked(tmp_path: Path) -> None:
    from tests.sample_runs import write_run_json

    write_retrained(tmp_path, find_genotype("DARTS_V2"))
    attack = "20261118-0930-attack-digits-0b02"
    write_run_json(tmp_path, attack, "attack", parent=RETRAINED)
    found = find(attack, tmp_path)
    assert found.retrained is not None and found.retrained.id == RETRAINED
    assert found.network.genotype == find_genotype("DARTS_V2")


@pytest.mark.parametrize(("words", "sentence"), [
    (["DARTS_V9", "--out", "g.json"], "There is no catalogue genotype 'DARTS_V9'"),
    (["RobNet_large_v1", "--out", "g.json"], "two edges per node"),
    (['{"normal": []}', "--out", "g.json"], "must have the cells"),
    (["20261118-0920-retrain-digits-ffff", "--out", "g.json"], "There is no run"),
    ([RETRAINED, "--channels", "8", "--out", "g.json"], "channels of the retrained network"),
    ([RETRAINED, "--image-shape", "3", "32", "32", "--out", "g.json"], "image_shape of the retrained network"),
    (["ARNAS", "--format", "module", "--out", "my net.py"], "name that Python can import"),
    (["ARNAS", "--format", "module", "--out", "net.txt"], "name that Python can import"),
    (["ARNAS", "--format", "module", "--layers", "2", "--out", "net.py"], "layers must be at least 3"),
    (["ARNAS", "--format", "module", "--channels", "0", "--out", "net.py"], "channels must be a whole number"),
    (["ARNAS", "--out", "no/such/folder/g.json"], "could not be"),
    (["ARNAS", "--form", "weights"], "Weights need a retrained network"),
    (["ARNAS", "--form", "safetensors"], "Weights need a retrained network"),
    (["ARNAS", "DARTS_V2"], "takes one network or run, got 2"),
    (["ARNAS", "--form", "tensorboard"], "A run id looks like"),
    ([RETRAINED, "--form", "report"], "no attack on a network of"),
])
def test_refusals_are_sentences_and_leave_nothing(words: list[str], sentence: str, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs, here = tmp_path / "runs", tmp_path / "here"
    here.mkdir()
    write_retrained(runs, find_genotype("ARNAS"))
    monkeypatch.chdir(here)
    if words[0] == "RobNet_large_v1" and words[0] not in CATALOG:
        words = [next(name for name, entry in CATALOG.items() if entry.genotype is None), *words[1:]]
    assert main(["export", *words, "--runs", str(runs)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and "Traceback" not in said.err and not said.out
    assert not list(here.iterdir())


def test_damaged_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_retrained(tmp_path / "runs", find_genotype("ARNAS"))
    (tmp_path / "runs" / RETRAINED / "checkpoint" / "best.pt").write_bytes(b"torn")
    words = ["export", RETRAINED, "--format", "module", "--out", str(tmp_path / "net.py"), "--runs", str(tmp_path / "runs")]
    assert main(words) == 2
    assert "best.pt is corrupt" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_every_format_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in EXPORTS) and set(WRITERS) < set(EXPORTS)


def test_weights_read_back_without_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    """Both files of weights hold the same tensors, are named after the run, and fill the exported module."""
    from safetensors import safe_open

    network = write_retrained(tmp_path / "runs", find_genotype("ARNAS"))
    monkeypatch.chdir(tmp_path)
    for form in ("weights", "safetensors", "module"):
        assert main(["export", RETRAINED, "--form", form, "--runs", "runs"]) == 0
    names = [f"{RETRAINED}.pt", f"{RETRAINED}.safetensors", "network_20261118_0920_retrain_digits_0b01.py"]
    assert set(names) < set(capsys.readouterr().out.split())
    state = torch.load(names[0], weights_only=True)
    with safe_open(names[1], framework="pt") as file:
        assert file.metadata() == {"source": RETRAINED, "genotype": find_genotype("ARNAS").to_json()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    assert set(state) == set(tensors) and all(torch.equal(state[name], tensors[name]) for name in state)
    space: dict[str, object] = {}
    exec(compile(Path(names[2]).read_text(), names[2], "exec"), space)
    theirs = space["Network"]()
    theirs.load_state_dict(tensors)
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(x), network(x))

"""Files of public code become runs: nothing is executed, nothing invented, nothing left behind when a file is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine import api, requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import Genotype
from engine.cli import main
from engine.errors import ConfigError
from engine.exchange import entry
from engine.log import RunLog
from engine.run.attacked_network import network_of
from engine.run.folder import RunFolder, free_id, read_json, run_ids
from engine.space.network import AuxiliaryHead, Network
from tests.engine.exchange.public_files import printed, search_log
from tests.engine.exchange.retrained import settled
from tests.engine.run.processes import processes_of

ARNAS, DARTS = find_genotype("ARNAS"), find_genotype("DARTS_V2")
SIZES = {"channels": 2, "layers": 5, "classes": 10, "image_shape": (1, 8, 8)}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def log_of(runs: Path) -> RunLog:
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    return log


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


MODULE = f"""from collections import namedtuple
Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')
PRIMITIVES = ['none', 'max_pool_3x3']
NASNet = Genotype(normal=[('sep_conv_9x9', 1)], normal_concat=[2], reduce=[], reduce_concat=[])
DARTS_V2 = {printed(DARTS)}
DARTS = DARTS_V2
"""


@pytest.mark.parametrize(("name", "content", "options", "genotype", "title"), [
    ("g.json", ARNAS.to_json(), {}, ARNAS, f"genotype {ARNAS.hash}, imported"),
    ("g.json", json.dumps(DARTS.to_dict(), indent=2), {"title": "Ours"}, DARTS, "Ours, imported"),
    ("g.json", json.dumps({"A": ARNAS.to_dict(), "B": DARTS.to_dict()}), {"name": "B"}, DARTS, "B, imported"),
    ("genotypes.py", MODULE, {"name": "DARTS_V2"}, DARTS, "DARTS_V2, imported"),
    ("genotypes.py", MODULE, {"name": "DARTS"}, DARTS, "DARTS, imported"),
    ("genotypes.py", f"ARNAS = {printed(ARNAS)}\n", {"dataset": "digits"}, ARNAS, "ARNAS, imported"),
    ("g.txt", printed(ARNAS), {"form": "genotype"}, ARNAS, f"genotype {ARNAS.hash}, imported"),
], ids=["json", "indented", "collection", "module", "alias", "one assignment", "bare call"])
def test_a_genotype_becomes_a_finished_search(name: str, content: str, options: dict[str, str], genotype: Genotype, title: str,
                                              runs: Path, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    run = entry.take(runs, path, **options)
    state = requests.status(runs, run)
    assert (state.status, state.can_resume, state.cause) == ("finished", False, "")
    assert Genotype.from_dict(read_json(RunFolder(runs, run).results / "genotype.json")) == genotype
    record = RunFolder(runs, run).read_run()
    assert record["title"] == title and record["kind"] == "search"
    assert record["imported"] == {"file": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "as": "genotype"}
    log = log_of(runs)
    assert log.genotypes(run)[["epoch", "hash"]].values.tolist() == [[0, genotype.hash]]
    row = log.run(run)
    assert row["imported"]["file"] == name and row["differences"] == []
    assert row["natural_accuracy"] is None and row["adversarial_accuracy"] is None and row["parameters"] is None
    assert path.name in log.alerts(run)["text"][0]


MODULE_OF_ALIASES = f"""
A = B = {printed(DARTS)}
C = A
D = E = C
F = {printed(ARNAS)}
D = F
OTHER = UNKNOWN
LOOP = POOL
POOL = LOOP
ITSELF = ITSELF
"""


@pytest.mark.parametrize(("name", "genotype"), [*((name, DARTS) for name in "ABCE"), ("F", ARNAS), ("D", ARNAS)])
def test_aliases_are_followed_as_python_would(name: str, genotype: Genotype, runs: Path, tmp_path: Path) -> None:
    run = entry.take(runs, write(tmp_path / "genotypes.py", MODULE_OF_ALIASES), name=name)
    assert Genotype.from_dict(read_json(RunFolder(runs, run).results / "genotype.json")) == genotype
    assert RunFolder(runs, run).read_run()["title"] == f"{name}, imported"


def test_a_genotype_with_several_names_counts_once_and_keeps_the_first(runs: Path, tmp_path: Path) -> None:
    run = entry.take(runs, write(tmp_path / "g.py", f"DARTS_V2 = {printed(DARTS)}\nDARTS = DARTS_V2\n"))
    assert RunFolder(runs, run).read_run()["title"] == "DARTS_V2, imported"


def swapped(genotype: Genotype) -> dict[str, object]:
    """ARNAS's cells under the names that DSARA's public code gives them."""
    record, names = genotype.to_dict(), {"normal": "robust", "reduce": "reduce", "robust": "accurate"}
    return {theirs + end: record[ours + end] for theirs, ours in names.items() for end in ("", "_concat")}


@pytest.mark.parametrize(("name", "content", "options"), [
    ("genotypes.py", "SMALLER_TRAIN_22 = Genotype({})\n\nDSARA = SMALLER_TRAIN_22\n", {"name": "DSARA"}),
    ("log.txt", "epoch 0 lr 0.1\ngenotype = Genotype({})\n", {}),
    ("g.json", None, {})])
def test_the_cell_names_of_dsara_become_those_of_arnas(name: str, content: str | None, options: dict[str, str], runs: Path,
                                                       tmp_path: Path) -> None:
    """Its robust cells come before the second reduction, as ARNAS's accurate ones do; its normal cells come after it."""
    record = swapped(ARNAS)
    fields = ", ".join(f"{field}={value!r}" for field, value in record.items())
    text = json.dumps(record) if content is None else content.format(fields)
    run = entry.take(runs, write(tmp_path / name, text), **options)
    assert Genotype.from_dict(read_json(RunFolder(runs, run).results / "genotype.json")) == ARNAS == find_genotype("DSARA")
    assert "its robust cell was read as accurate" in log_of(runs).alerts(run)["text"].tolist()[1]


@pytest.mark.parametrize("after_training", [False, True])
def test_a_log_becomes_a_search_with_a_genotype_an_epoch(after_training: bool, runs: Path, tmp_path: Path) -> None:
    line = [DARTS, find_genotype("ADVRUSH"), find_genotype("RACL"), find_genotype("RACL")]
    run = entry.take(runs, write(tmp_path / "log.txt", search_log(line, after_training=after_training)))
    genotypes = log_of(runs).genotypes(run)
    # A genotype printed after an epoch's training counts that epoch.
    assert genotypes["epoch"].tolist() == [epoch + after_training for epoch in range(4)]
    assert genotypes["hash"].tolist() == [genotype.hash for genotype in line]
    assert genotypes["unchanged_epochs"].tolist()[-1] == 1
    assert Genotype.from_dict(read_json(RunFolder(runs, run).results / "genotype.json")) == line[-1]
    assert log_of(runs).run(run)["natural_accuracy"] is None  # a log's accuracies are of other images than ours


def test_lines_without_epochs_are_numbered_and_repeated_ones_replaced(runs: Path, tmp_path: Path) -> None:
    text = f"genotype = {printed(ARNAS)}\nINFO:root:{printed(ARNAS)} # kept\n"
    with pytest.raises(Exception, match="whole Genotype"):
        entry.take(runs, write(tmp_path / "log.txt", text + f"x {printed(ARNAS)} and more words\n"))
    run = entry.take(runs, write(tmp_path / "log.txt", text))
    assert log_of(runs).genotypes(run)["epoch"].tolist() == [0, 1]
    twice = f"epoch 3 lr 0.1\n{printed(ARNAS)}\n{printed(ARNAS)}\n"
    run = entry.take(runs, write(tmp_path / "log.txt", twice))
    assert log_of(runs).genotypes(run)["epoch"].tolist() == [3]


def public(network: Network) -> dict[str, Tensor]:
    """Return the state dict of the public code's network, which has no normalisation inside."""
    return {name: value for name, value in network.state_dict().items() if name not in ("mean", "std")}


def with_auxiliary(state: dict[str, Tensor]) -> dict[str, Tensor]:
    head = AuxiliaryHead(16, 10, (2, 2))
    return state | {f"auxiliary_head.{name}": value for name, value in head.state_dict().items()}


def optimiser_state() -> dict[str, object]:
    layer = nn.Linear(2, 2)
    optimiser = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    layer(torch.rand(1, 2)).sum().backward()
    optimiser.step()
    return optimiser.state_dict()


@pytest.mark.parametrize("genotype", [ARNAS, DARTS], ids=["ARNAS", "DARTS"])
@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"epoch": 200, "state_dict": state, "optimizer": optimiser_state()},
    lambda state: {"state_dict": {f"module.{name}": value for name, value in with_auxiliary(state).items()}, "epoch": 99},
    lambda state: {"net": state, "acc": 84.5},
    lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
    lambda state: state | {"alphas_normal": torch.rand(14, 8)},
], ids=["plain", "checkpoint", "data parallel with auxiliary head", "net", "old torch", "alphas"])
def test_a_checkpoint_becomes_a_network_with_the_same_logits(wrap: Callable[..., object], genotype: Genotype, runs: Path,
                                                             tmp_path: Path) -> None:
    network = settled(Network(genotype, **SIZES))
    with torch.no_grad():
        network.mean.zero_()
        network.std.fill_(1.0)
    torch.save(wrap(public(network)), tmp_path / "model_best.pth.tar")
    run = entry.take(runs, tmp_path / "model_best.pth.tar", genotype=genotype.to_json(), dataset="digits")
    found, theirs, _ = network_of(RunFolder(runs, run))
    assert found.genotype == genotype
    assert (found.channels, found.layers, found.auxiliary) == (2, 5, False)
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(x), network(x))
    log = log_of(runs)
    row = log.run(run)
    assert row["status"] == "finished" and row["genotype_hash"] == genotype.hash and row["natural_accuracy"] is None
    assert "may be too high" in log.alerts(run)["text"].tolist()[-1]


def test_the_old_format_of_torch_and_a_normalisation_of_its_own(runs: Path, tmp_path: Path) -> None:
    network = settled(Network(DARTS, **SIZES, mean=[0.5], std=[0.25]))
    with torch.no_grad():
        network.mean.fill_(0.5)
        network.std.fill_(0.25)
    torch.save(public(network), tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    run = entry.take(runs, tmp_path / "weights.pt", genotype="DARTS_V2", dataset="digits", mean=[0.5], std=[0.25])
    theirs = network_of(RunFolder(runs, run))[1].eval()
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(theirs(x), network(x))


def test_an_attack_and_a_retraining_follow_imported_runs(runs: Path, tmp_path: Path) -> None:
    network = settled(Network(ARNAS, **SIZES))
    torch.save(public(network), tmp_path / "weights.pt")
    checkpoint = entry.take(runs, tmp_path / "weights.pt", genotype="ARNAS", dataset="digits", title="Theirs")
    with pytest.raises(ConfigError, match="must be best for .* an imported run with a single network"):
        api.launch("attack", runs=runs, preset="smoke", parent=checkpoint, changes={"checkpoint": "last"})
    search = entry.take(runs, write(tmp_path / "g.json", DARTS.to_json()))
    with processes_of(runs):
        attack = api.launch("attack", runs=runs, preset="smoke", parent=checkpoint)
        retrain = api.launch("retrain", runs=runs, preset="smoke", parent=search)
        states = api.wait([*attack, *retrain], runs=runs)
        assert {state.status for state in states.values()} == {"finished"}, states
    log = log_of(runs)
    rows = log.attacks()
    assert log.run(attack[0])["title"] == "Theirs, imported" and {"natural", "fgsm", "pgd-20"} <= set(rows["attack"])
    assert log.run(retrain[0])["genotype_hash"] == DARTS.hash
    assert log.run(attack[0])["parent"] == checkpoint


def spoilt(**changes: object) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: {name: value for name, value in (state | changes).items() if value is not None}


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(("make", "sentence"), [
    (spoilt(**{"classifier.weight": torch.zeros(3, 16)}), "classes of the dataset digits"),
    (spoilt(**{"stem.0.weight": torch.zeros(6, 3, 3, 3)}), "image channels of the dataset digits"),
    (spoilt(**{"stem.0.weight": torch.zeros(7, 1, 3, 3)}), "stem must have 3 C channels"),
    (spoilt(**{"stem.0.weight": None}), "names of the DARTS family"),
    (spoilt(**{"classifier.bias": None}), "missing (classifier.bias)"),
    (spoilt(**{"classifier.bias": torch.full((10,), torch.nan)}), "finite numbers"),
    (spoilt(**{"cells.9.preprocess1.op.1.weight": torch.zeros(1)}), "numbered 0 to 9"),
    (spoilt(**{"cells.0._ops.0._ops.1.weight": torch.zeros(1)}), "supernet's"),
    (lambda state: [1, 2, 3], "must map names to tensors, got list"),
    (lambda state: {}, "got none"),
    (lambda state: {"epoch": 3}, "got int for 'epoch'"),
    (lambda state: nn.Linear(2, 2), "got a pickled module; load it with the code that wrote it and save model.state_dict()"),
    (lambda state: {"model": nn.Sequential(nn.Linear(2, 2)), "epoch": 3}, "got a pickled module"),
    (lambda state: {"state_dict": state, "args": Path("a")}, "cannot be read as one (it holds pathlib."),
], ids=["classes", "images", "stem", "names", "missing", "nan", "cells", "supernet", "list", "empty", "no tensor", "a module",
        "a module in a checkpoint", "another object"])
def test_wrong_checkpoints_are_refused_and_leave_nothing(make: Callable[..., object], sentence: str, runs: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    content = make(public(Network(ARNAS, **SIZES)))
    words = ["import", str(tmp_path / "w.pt"), "--genotype", "ARNAS", "--dataset", "digits", "--runs", str(runs)]
    for of_today in (True, False):  # torch's format since 1.6, and the one before
        torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=of_today)
        assert main(words) == 2
        said = capsys.readouterr()
        assert sentence in said.err and "Traceback" not in said.err and not said.out
        assert "\x1b" not in said.err and "Weights only" not in said.err and len(said.err.splitlines()) == 1
    assert not runs.exists() or not list(runs.iterdir())


def test_the_wrong_genotype_and_what_would_execute(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(public(Network(ARNAS, **SIZES)), tmp_path / "w.pt")
    options = ["--dataset", "digits", "--runs", str(runs)]
    assert main(["import", str(tmp_path / "w.pt"), "--genotype", "DARTS_V2", *options]) == 2
    assert "build the network with the genotype" in capsys.readouterr().err
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps({"state_dict": Bomb(tmp_path / "exploded")}))
    torch.save({"state_dict": Bomb(tmp_path / "exploded")}, tmp_path / "bomb2.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "torn.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.pt").write_bytes(whole[:2000] + bytes(8) + whole[2008:])
    warnings.simplefilter("error")  # stderr holds the sentence only
    for name in ("bomb.pt", "bomb2.pt", "torn.pt", "flipped.pt"):
        assert main(["import", str(tmp_path / name), "--genotype", "ARNAS", *options]) == 2
        assert "tensors and plain values only" in capsys.readouterr().err, name
    assert not (tmp_path / "exploded").exists()
    assert not runs.exists() or not list(runs.iterdir())


CALL = printed(DARTS)


@pytest.mark.parametrize(("name", "content", "words", "sentence"), [
    ("g.json", "{", [], "must be JSON"),
    ("g.json", '{"normal": []}', [], "must have the cells"),
    ("g.py", "import os\n", [], "got none"),
    ("g.py", f"A = {CALL}\nB = {CALL}\n", [], "got 2 (A, B); choose one of them with --name"),
    ("g.py", f"A = {CALL}\nC = A\nB = {CALL}\n", [], "got 2 (A = C, B); choose one of them with --name"),
    ("g.py", MODULE_OF_ALIASES, ["--name", "OTHER"], "OTHER must be a genotype, got another name of UNKNOWN"),
    ("g.py", MODULE_OF_ALIASES, ["--name", "LOOP"], "got another name of POOL, which is none above line 8"),
    ("g.py", MODULE_OF_ALIASES, ["--name", "POOL"], "POOL must be a genotype, got another name of LOOP"),
    ("g.py", MODULE_OF_ALIASES, ["--name", "ITSELF"], "ITSELF must be a genotype, got another name of ITSELF"),
    ("g.py", "LOOP = POOL\nPOOL = LOOP\n", [], "got none"),
    ("g.py", f"A = {CALL}\n", ["--name", "C"], "There is no genotype in this file 'C'"),
    ("g.py", "A = Genotype(normal=open('x'), normal_concat=[2])", [], "must be written out"),
    ("g.py", "A = Genotype([1], [2])", [], "name every field"),
    ("g.py", "A = Genotype(**{})", [], "name every field"),
    ("g.py", CALL.replace("range(2, 6)", "range(2, 10**9)"), [], "must be written out"),
    ("g.py", CALL.replace("range(2, 6)", "range(2, 99, 0)"), [], "must be written out"),
    ("g.py", "not python at all (", [], "JSON or Python"),
    ("g.py", "(" * 5000, [], "JSON or Python"),
    ("log.txt", "epoch 0 lr 0.1\ntrain_acc 10\n", [], "got none; is it the log of a search"),
    ("log.txt", f"epoch 0 lr 1\n{CALL}\nepoch 1 lr 1\n{CALL[:90]}\n", [], "Line 4 of the log must hold a whole Genotype"),
    ("log.txt", f"epoch 5 lr 1\n{CALL}\nepoch 1 lr 1\n{CALL}\n", [], "go forwards, got 1 after 5 in line 4"),
    ("log.txt", f"epoch 0 lr 1\n{CALL}\nepoch 1 lr 1\n{printed(ARNAS)}\n", [], "keep its cell kinds"),
    ("log.txt", f"epoch 0 lr 1\n{CALL.replace('sep_conv_3x3', 'sep_conv_4x4', 1)}\n", [], "Line 2 of the log: Cell 'normal'"),
    ("log.txt", search_log([DARTS]), ["--dataset", "imagenet-9"], "There is no dataset"),
    ("log.txt", search_log([DARTS]), ["--genotype", "ARNAS"], "--genotype belongs to the import of a checkpoint"),
    ("notes.md", CALL, [], "ending of a file must tell"),
    ("w.pt", "no checkpoint", [], "needs --genotype"),
    ("w.pt", "no checkpoint", ["--genotype", "ARNAS"], "needs --dataset"),
    ("w.pt", "no checkpoint", ["--genotype", "ARNAS", "--dataset", "digits"], "tensors and plain values only"),
    ("g.json", ARNAS.to_json(), ["--as", "curve"], "invalid choice"),
])
def test_refusals_are_sentences_and_leave_nothing(name: str, content: str, words: list[str], sentence: str, runs: Path,
                                                  tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / name, content)
    assert main(["import", str(path), *words, "--runs", str(runs)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and "Traceback" not in said.err and not said.out
    assert not runs.exists() or not list(runs.iterdir())


def test_files_that_cannot_be_read_and_folders_that_cannot_be_written(runs: Path, tmp_path: Path,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe genotype")
    for name in ("missing.json", "missing.pt"):
        assert main(["import", str(tmp_path / name), "--runs", str(runs), *(["--genotype", "ARNAS", "--dataset", "digits"]
                                                                           if name.endswith("pt") else [])]) == 2
        assert "must be readable" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "latin.txt"), "--runs", str(runs)]) == 2
    assert "text in UTF-8" in capsys.readouterr().err
    good = write(tmp_path / "g.json", ARNAS.to_json())
    assert main(["import", str(good), "--runs", str(good)]) == 2
    assert "could not be written" in capsys.readouterr().err


def test_hundreds_of_imports_in_one_minute_get_ids_of_their_own(tmp_path: Path) -> None:
    for _ in range(2000):  # of 65,536 ids: some thirty would be taken already
        (tmp_path / free_id(tmp_path, "imported", "", 1_795_000_000.0)).mkdir()
    assert len(run_ids(tmp_path)) == 2000


def test_what_is_exported_can_be_imported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "ARNAS", "--out", str(tmp_path / "g.json"), "--runs", str(runs)]) == 0
    capsys.readouterr()
    assert main(["import", str(tmp_path / "g.json"), "--runs", str(runs), "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["id"]
    assert run_ids(runs) == [run]
    assert main(["export", run, "--out", str(tmp_path / "again.json"), "--runs", str(runs)]) == 0
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "g.json").read_bytes()

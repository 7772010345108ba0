"""The verbs table, compare and report, as processes on a folder of attacked networks."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine import api
from engine.attack.badge import Badge
from engine.attack.statistics import wilson
from engine.cli import main
from engine.cli.waiting import Bars, result_text, wait
from engine.errors import ConfigError
from engine.report.formats import FORMATS
from tests import sample_runs
from tests.engine.report.made_tables import attacked_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A runs folder with three networks under one protocol and one under another, and their ids by role."""
    root = tmp_path_factory.mktemp("runs")
    return root, attacked_runs(root)


def rampart(root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run one command on a runs folder."""
    return subprocess.run([sys.executable, "-m", "engine", *words, "--runs", str(root)], capture_output=True, timeout=120,
                          check=False, env=os.environ | {"PYTHONIOENCODING": "utf-8"})


def test_a_table_is_printed(folder: tuple[Path, dict[str, str]]) -> None:
    """A table is Markdown with its three networks, whose settings differ, and asks for the protocol where there are two."""
    root, _ = folder
    done = rampart(root, "table", "--protocol", protocol_of(root)[:6])
    assert done.returncode == 0 and done.stdout.decode().count("\n| ") == 2 + 3


def protocol_of(root: Path) -> str:
    """Return the hash of the protocol of three networks, from the sentence that asks for one."""
    with pytest.raises(ConfigError, match="A table has one protocol, and there are 2") as refusal:
        api.table(runs=root)
    return str(refusal.value).partition("--protocol: ")[2].split()[0]


def test_a_table_is_written(folder: tuple[Path, dict[str, str]], tmp_path: Path,
                            capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """The extension of --out decides the format, each format holds the same networks, and --json prints JSON."""
    root, ids = folder
    asked = ["table", "--protocol", protocol_of(root), "--runs", str(root), "--json"]
    assert main(asked) == 0
    content = json.loads(capsysbinary.readouterr().out)
    runs = [row["run"] for group in content["groups"] for row in group["rows"]]
    assert set(runs) == {ids["attack"], ids["resnet"], ids["weak"]}
    for name in ("t.csv", "t.parquet", "t.tex", "t.html"):
        assert main([*asked, "--out", str(tmp_path / name)]) == 0
        assert json.loads(capsysbinary.readouterr().out) == {"file": str(tmp_path / name)}
    lines = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_bytes().decode(), newline="")))
    assert [line["run"] for line in lines if line["run"]] == runs
    assert pq.read_table(tmp_path / "t.parquet").num_rows == len(lines)
    assert (tmp_path / "t.tex").read_text(encoding="utf-8").startswith("% Needs")
    assert (tmp_path / "t.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_older_results_are_listed_on_demand(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """The newest complete result is the row of a network; the older one stands below it in every format, and counts nowhere."""
    first, second = (sample_runs.write_finished_attack(
        tmp_path, f"20261118-0{number}06-attack-digits-7f3c", parent=None, created=sample_runs.START + number,
        autoattack=30 + number, network="weights") for number in (1, 2))

    def printed(*words: str) -> str:
        assert main(["table", *words, "--runs", str(tmp_path)]) == 0
        return capsysbinary.readouterr().out.decode()

    content = json.loads(printed("--json", "--older"))
    (row,) = content["groups"][0]["rows"]
    (older,) = row["older"]
    assert (row["run"], older["run"], row["repeats"]) == (second, first, 1)
    assert older["results"]["worst-case"]["correct"] == 31 and row["results"]["worst-case"]["correct"] == 32
    assert "older" not in json.loads(printed("--json"))["groups"][0]["rows"][0] and first not in printed()
    text = printed("--older")
    assert text.count("\n| ARNAS") == 2 and f"ARNAS, older result of {first} (quick)" in text and "50.0 (" in text
    for form in ("latex", "html"):
        assert f"older result of {first}" in printed("--older", "--format", form)
    lines = list(csv.DictReader(io.StringIO(printed("--older", "--format", "csv"), newline="")))
    assert [(line["row"], line["run"], line["worst-case_correct"]) for line in lines] == [
        ("network", second, "32"), ("older", first, "31")]


def test_a_comparison_speaks_in_sentences(folder: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """The weakest network is told apart, the other two are not, and JSON has the same verdicts."""
    root, ids = folder
    runs = (ids["attack"], ids["resnet"], ids["weak"])
    text = rampart(root, "compare", *runs).stdout.decode()
    assert "Worst case on 64 images" in text
    assert "ResNet-18: 43.8 % (32.3 to 55.9), 64 images, a, badge green: 4 checks passed." in text
    assert "cannot be told apart on these 64 images: difference 4.7 points" in text
    assert text.count(" is more accurate than ") == 2
    capsys.readouterr()
    assert main(["compare", *runs, "--attack", "fgsm", "--json", "--runs", str(root)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["column"] == "fgsm" and content["images"] == 360 and set(content["letters"]) == set(runs)
    assert [pair["distinct"] for pair in content["pairs"]] == [False] * 3
    labels = {network["label"]: network for network in content["networks"]}
    assert {network["run"] for network in labels.values()} == set(runs)
    assert all(network["images"] == 360 and network["low"] < network["accuracy"] < network["high"] for network in labels.values())
    assert all((pair["first_run"], pair["second_run"]) == (labels[pair["first"]]["run"], labels[pair["second"]]["run"])
               for pair in content["pairs"])


def test_runs_of_other_kinds_are_compared_by_results_and_settings(folder: tuple[Path, dict[str, str]],
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """A search and an attack have no paired test. Attacks have the settings beside their tests."""
    root, ids = folder
    assert main(["compare", ids["search"], ids["attack"], "--runs", str(root)]) == 0
    text = capsys.readouterr().out
    assert "(alphas split, batch statistics, not a result)" in text and "48.4 % (36.6 to 60.4), 64 images" in text
    assert "No recorded setting differs." in text
    assert main(["compare", ids["attack"], ids["resnet"], "--json", "--runs", str(root)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["pairs"]) == 1 and [one["id"] for one in content["results"]] == [ids["attack"], ids["resnet"]]
    network = next(one for one in content["settings"] if one["name"] == "network")
    assert network["kind"] == "retrain" and network["values"][ids["resnet"]] == "resnet-18"


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_comparison_without_runs_names_those_that_can_be_compared(words: list[str], folder: tuple[Path, dict[str, str]],
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """With and without --json, the sentence lists runs of one protocol, and not the network that has a protocol of its own."""
    root, ids = folder
    assert main(["compare", *words, "--runs", str(root)]) == 2
    printed = capsys.readouterr()
    assert "needs at least two attack runs, got none; name two of these, which have one protocol: " in printed.err
    assert all(f"{ids[name]} (" in printed.err for name in ("attack", "resnet", "weak"))
    assert f"{ids['other']} (" not in printed.err and not printed.out


def test_a_result_is_printed_in_per_cent() -> None:
    """The line at the end of a wait has the interval, the number of images, the radius and the suite of the attack."""
    row = {"title": "FAB-T", "correct": 233, "images": 359, "epsilon": 8 / 255, "part_of": "autoattack"}
    assert result_text(row) == "FAB-T        64.9 % (59.8 to 69.7), 359 images, epsilon 8/255, part of AutoAttack"
    assert result_text(row | {"title": "Natural", "epsilon": 0.0, "part_of": None}).endswith("(59.8 to 69.7), 359 images")


def test_a_badge_follows_the_results_of_a_wait(folder: tuple[Path, dict[str, str]]) -> None:
    """A repeated check counts once for each attempt, and a run without results has no badge."""
    root, ids = folder
    bars = Bars(root, [ids["attack"], ids["search"]], True)
    for line in (root / ids["attack"] / "events.jsonl").read_text(encoding="utf-8").splitlines():
        bars.on_event(ids["attack"], json.loads(line))
    shown = bars.badge(ids["attack"])
    assert shown == Badge("amber", ("More <steps>: PGD-40 broke 3 images more.",)) and bars.badge(ids["search"]) is None
    bars.on_event(ids["attack"], {"event": "resumed", "t": 1.0, "attempt": 2, "step": 90, "epoch": 0, "from_step": 90})
    assert bars.badge(ids["attack"]) == Badge("green", ("4 checks passed.",))


@pytest.mark.parametrize("form", FORMATS)
def test_every_export_names_badge_interval_fingerprint_and_protocol(form: str, folder: tuple[Path, dict[str, str]]) -> None:
    """No export leaves a figure without what is needed to judge it."""
    root, ids = folder
    protocol = protocol_of(root)
    content = api.table(form, protocol=protocol, runs=root)
    events = [json.loads(line) for line in (root / ids["attack"] / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    fingerprint = next(event["fingerprint"] for event in events if event.get("attack") == "autoattack")
    if form == "parquet":
        text = str(pq.read_table(io.BytesIO(content)).to_pylist())
    else:
        text = content.decode()
    low, high = wilson(31, 64)
    ends = [str(low), str(high)] if form in ("csv", "parquet", "json") else ["36.6", "60.4"]
    assert all(part in text for part in (protocol, fingerprint, "amber", "PGD-40 broke 3 images more.", *ends))


def test_every_command_that_prints_accuracies_prints_the_badge(folder: tuple[Path, dict[str, str]],
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    """The list of runs has the colour, and a launch with --wait the colour and the reasons, as text and as JSON."""
    root, ids = folder
    assert main(["runs", "--runs", str(root)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "badge" in lines["id"].split() and "Worst case  amber" in lines[ids["attack"]]
    assert wait([ids["attack"]], root, False) == 0
    assert "\n  badge amber: More <steps>: PGD-40 broke 3 images more.\n" in capsys.readouterr().out
    assert wait([ids["attack"]], root, True) == 0
    content = json.loads(capsys.readouterr().out)["runs"][ids["attack"]]
    assert content["badge"] == {"colour": "amber", "reasons": ["More <steps>: PGD-40 broke 3 images more."]}


def test_a_report_is_one_file(folder: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """The command writes the report and prints its path."""
    root, ids = folder
    out = tmp_path / "report.html"
    done = rampart(root, "report", ids["attack"], "--out", str(out))
    assert done.returncode == 0 and done.stdout.decode().strip() == str(out)
    assert b"</html>" in out.read_bytes()


@pytest.mark.parametrize(("words", "sentence"), [
    (["compare", "{attack}"], "needs at least two attack runs"),
    (["compare", "{attack}", "{attack}"], "needs at least two attack runs"),
    (["compare", "{attack}", "{other}"], "Only networks attacked under one protocol can be compared"),
    (["compare", "{attack}", "nothing"], "There is no run 'nothing'"),
    (["compare", "{attack}", "{weak}", "--attack", "pgd20"], "Did you mean 'pgd-20'?"),
    (["table", "--protocol", "xyz"], "There is no protocol 'xyz'"),
    (["table", "--format", "parquet"], "cannot be printed"),
    (["table", "--format", "latex", "--json"], "--json prints the table as JSON"),
    (["table", "--format", "word"], "invalid choice: 'word'"),
    (["report", "{search}", "--out", "r.html"], "needs the id of an attack"),
    (["report", "nothing", "--out", "r.html"], "There is no run 'nothing'"),
    (["report", "{attack}", "--out", "/nowhere/r.html"], "could not be written to /nowhere/r.html"),
    (["report", "{attack}"], "required: --out")])
def test_wrong_requests_are_refused_in_sentences(words: list[str], sentence: str, folder: tuple[Path, dict[str, str]],
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong request gives exit code 2 and a sentence on stderr, and nothing on stdout."""
    root, ids = folder
    assert main([*(word.format(**ids) for word in words), "--runs", str(root)]) == 2
    printed = capsys.readouterr()
    assert sentence.format(**ids) in printed.err and not printed.out


def test_without_attacked_networks_there_is_no_table(tmp_path: Path) -> None:
    """An empty folder has no table, and the sentence says how to get one."""
    with pytest.raises(ConfigError, match="launch one by `rampart attack"):
        api.table(runs=tmp_path)

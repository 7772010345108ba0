from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.cli import main
from engine.cli.flags import parse
from engine.configuration_file import Configuration, from_text
from engine.configuring import build
from engine.errors import ConfigError
from engine.run.folder import RunFolder
from tests.engine.run.processes import without_supervisor

YAML = """
# A chain with settings of all three runs.
kind: search
method: arnas
dataset: digits
preset: smoke
then: [retrain, attack]
changes:
  epsilon: 8/255
  width_ratio: 1:2:4
  weight_decay: 1e-4
  steps_per_epoch: null
  flip: yes
  added_objectives: [one_step, curvature]
then_changes:
  retrain: {epochs: 3}
"""
CHAIN = Configuration("search", "arnas", "digits", "smoke", ("retrain", "attack"), {
    "epsilon": 8 / 255, "width_ratio": "1:2:4", "weight_decay": 1e-4, "steps_per_epoch": None, "flip": True,
    "added_objectives": ("one_step", "curvature")}, {"retrain": {"epochs": 3}})
# As the Launch page has always written it.
EXPORTED = {"kind": "retrain", "method": None, "dataset": "digits", "preset": "smoke", "then": [],
            "changes": {"genotype": "ARNAS", "epochs": 2}}
SEARCH = {"kind": "search", "method": "arnas", "dataset": "digits", "preset": "smoke"}
REFUSED = [
    ("", "must name kind, dataset, preset, got an empty file"), ("[1, 2]", "got a list"),
    ("{", "must be JSON or YAML and cannot be read"),
    ("kind: [", "must be JSON or YAML and cannot be read"), (b"\xff\xfe", "must be JSON or YAML and cannot be read"),
    ("[" * 100_000, "must be JSON or YAML and cannot be read"), ("kind: !!python/name:os.system", "must have kind"),
    ("kind: search\nkind: attack", "kind must be given only once"),
    ('{"kind": "search", "changes": {"epochs": 1, "epochs": 2}}', "epochs must be given only once"),
    ("a: &a [x]\nb: [*a, *a]", "must write out every value"),
    ({"kind": "search", "method": "arnas"}, "got no dataset, preset"),
    (SEARCH | {"chnages": {}}, "Did you mean 'changes'?"), (SEARCH | {"method": None}, "method must be named for a search"),
    (EXPORTED | {"method": "arnas"}, "method must be named for a search and for no other run"),
    (SEARCH | {"kind": "serach"}, "Did you mean 'search'?"),
    (SEARCH | {"method": ["arnas"]}, "method in a configuration file must be"),
    (SEARCH | {"then": ["retrain"], "then_changes": {"search": {}}}, "There is no kind of run after search 'search'"),
    (SEARCH | {"method": "arnsa"}, "Did you mean 'arnas'?"), (SEARCH | {"preset": "qiuck"}, "Did you mean 'quick'?"),
    (SEARCH | {"then": "retrain"}, "then in a configuration file must be a list of kinds"),
    (SEARCH | {"then": ["attack"]}, "can be followed by retrain then attack"),
    (SEARCH | {"changes": [1]}, "must be settings by name"),
    (SEARCH | {"changes": {"epochz": 1}}, "Did you mean 'epochs'?"), (SEARCH | {"changes": {"epochs": 0}}, "epochs must be"),
    (SEARCH | {"changes": {"dataset": "cifar10"}}, "dataset must be an entry of its own"),
    (SEARCH | {"then_changes": {"retrain": {"epochs": 2}}}, "Settings of retrain need retrain in --then"),
    (SEARCH | {"then": ["retrain"], "then_changes": {"retrain": {"epochs": 0}}}, "The retraining that follows: epochs must be")]


def test_yaml_is_read_as_the_command_line_reads_words() -> None:
    assert from_text(YAML) == from_text(YAML.encode()) == CHAIN


def test_what_is_written_is_read_back() -> None:
    assert from_text(CHAIN.to_json()) == CHAIN
    assert from_text(json.dumps(EXPORTED)) == Configuration("retrain", None, "digits", "smoke", (), EXPORTED["changes"])


@pytest.mark.parametrize(("content", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_bad_file_is_refused_with_a_sentence(content: str | bytes | dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=".") as refusal:
        from_text(json.dumps(content) if isinstance(content, dict) else content)
    assert sentence in str(refusal.value) and len(str(refusal.value)) < 800


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(YAML)
    assert parse("search", ["--config", str(file)]).changes == dict(CHAIN.changes)
    request = parse("search", ["--config", str(file), "--epsilon", "0.15", "--no-flip", "--retrain.epochs", "5", "--seed", "7",
                               "--attack.images", "32"])
    assert request.changes == {"seed": 7} | {
        name: value for name, value in CHAIN.changes.items() if name not in ("epsilon", "flip")}
    assert request.then_changes == {"retrain": {"epochs": 5}, "attack": {"images": 32}} and request.then == ("retrain", "attack")
    assert parse("search", ["--config", str(file), "--preset", "paper"]).preset == "paper"
    with pytest.raises(ConfigError, match="must be for a run of kind attack, .* is for search; launch it by"):
        parse("attack", ["--config", str(file)])
    with pytest.raises(ConfigError, match="must be readable"):
        parse("search", ["--config", str(tmp_path / "none.yaml")])


def test_a_file_launches_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = without_supervisor(tmp_path / "runs")
    (tmp_path / "retraining.json").write_text(json.dumps(EXPORTED))
    assert main(["retrain", "--config", str(tmp_path / "retraining.json"), "--json", "--runs", str(runs)]) == 0
    run = RunFolder(runs, json.loads(capsys.readouterr().out)["ids"][0]).read_run()
    assert run["config"] == build("retrain", None, "digits", "smoke", EXPORTED["changes"]).model_dump(mode="json")

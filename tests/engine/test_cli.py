from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from engine import api, requests
from engine.architecture.catalogue import find_genotype
from engine.cli import flags, main
from engine.cli.flags import STANDARD_TRAINING, parse
from engine.cli.presets import SHOWN, row_of, wrapped_table
from engine.cli.verbs import VERBS
from engine.command import command_of, program
from engine.config import PRESETS
from engine.configuring import build, config_class, differences_from_paper
from engine.errors import ConfigError, RunError
from engine.run.folder import RunFolder
from engine.run.lineage import genotype_of
from engine.search.methods.registry import METHODS
from tests.engine.data.test_folders import painted
from tests.engine.run.processes import without_supervisor
from tests.sample_runs import write_run_json, write_sample_runs


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return without_supervisor(tmp_path / "runs")


def test_describe_prints_the_published_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "ARNAS", "--channels", "64", "--layers", "20", "--classes", "10", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["parameters"] == 4520394
    assert abs(answer["macs"] / 1_240.15e6 - 1) < 1e-3
    assert main(["describe", "ARNAS"]) == 0
    assert "4.520 M" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["presets", "schema"])
@pytest.mark.parametrize("kind", ["retrain", "attack"])
def test_a_method_is_not_passed_over_where_there_is_none(verb: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, kind, "--method", "dsara"]) != 0
    assert f"method belongs to searches, got 'dsara' for {kind}" in capsys.readouterr().err
    assert main([verb, kind, "--json"]) == 0 and main([verb, "search", "--method", "dsara", "--json"]) == 0


def test_an_unknown_attack_is_told_that_pgd_has_any_length() -> None:
    with pytest.raises(ConfigError, match=r"There is no attack 'pgd'; known are: .*pgd-N \(of N steps\)"):
        build("attack", changes={"attacks": ("pgd",)})


@pytest.mark.parametrize("words", [["--channels", "16"], ["--layers", "0"], ["--auxiliary"], ["--width-ratio", "1:2:4"],
                                   ["--placement", "normal"]])
def test_describe_refuses_what_a_hand_made_network_does_not_have(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "resnet-18", *words]) != 0
    assert "cannot be chosen for resnet-18, which has its own" in capsys.readouterr().err
    assert main(["describe", "resnet-18", "--classes", "100", "--image-size", "64"]) == 0


def test_the_help_tells_the_standard_training(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["retrain", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert STANDARD_TRAINING in shown
    changes = flags.parse("retrain", [*STANDARD_TRAINING.split(), "--dataset", "cifar10"]).changes
    config = build("retrain", None, "cifar10", "paper", changes)
    # DARTS and E2RNAS, released code: train.py
    assert (config.epochs, config.batch_size, config.layers, config.channels) == (600, 96, 20, 36)
    assert (config.learning_rate, config.schedule, config.momentum, config.weight_decay) == (0.025, "cosine", 0.9, 3e-4)
    assert (config.gradient_clip, config.auxiliary_weight, config.cutout, config.drop_path) == (5, 0.4, 16, 0.2)
    assert config.training == "natural" and config.normalise and config.warmup_epochs == 0


def test_transplant_prints_what_retrain_takes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transplant", "ARNAS", "--swap", "accurate:robust"]) == 0
    swapped = capsys.readouterr().out.strip()
    words = ["--genotype", swapped, "--transplant", "accurate:robust,robust:accurate", "--preset", "smoke", "--json"]
    assert main(["retrain", *words, "--runs", str(runs)]) == 0
    run = RunFolder(runs, json.loads(capsys.readouterr().out)["ids"][0])
    assert genotype_of(runs, run.id) == find_genotype("ARNAS")
    assert main(["transplant", "ARNAS", "--copy", "normal:robust"]) == 2
    assert "There is no cell kind 'normal'" in capsys.readouterr().err


def test_light_verbs_do_not_load_torch(tmp_path: Path) -> None:
    words = [["describe", "ARNAS"], ["schema"], ["presets"], ["queue"], ["runs"], ["doctor"], ["search", "--epsilon", "8"],
             ["transplant", "ARNAS", "--copy", "accurate:robust"], ["table"]]
    code = f"""
import sys
from engine.cli import main
for words in {words!r}:
    main([*words, *([] if "--epsilon" in words else ["--runs", {str(tmp_path)!r}])])
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "ui"])  # which is another process
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert not end.value.code
    assert f"rampart {verb}" in capsys.readouterr().out
    assert main(["--help"]) == 0 and verb in capsys.readouterr().out


def test_flags_are_the_configuration(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "--method", "arnas", "--preset", "smoke", "--epsilon", "8/255", "--step-size=2/255", "--flip",
             "--clip-images", "--steps-per-epoch", "None", "--seed", "5", "--then", "retrain,attack", "--json"]
    assert main([*words, "--runs", str(runs)]) == 0
    ids = json.loads(capsys.readouterr().out)["ids"]
    assert len(ids) == 3
    run = RunFolder(runs, ids[0]).read_run()
    expected = build("search", "arnas", "digits", "smoke", {
        "epsilon": 8 / 255, "step_size": 2 / 255, "flip": True, "clip_images": True, "steps_per_epoch": None, "seed": 5})
    assert run["config"] == expected.model_dump(mode="json")
    assert run["title"] == "ARNAS, images clipped, flip, epsilon 8/255, attack step 2/255"


@pytest.mark.parametrize("kind", ["search", "retrain", "attack"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_without_changes_changes_nothing(kind: str, preset: str) -> None:
    assert parse(kind, ["--preset", preset]).changes == {}


def test_the_shown_command_asks_for_the_same_run() -> None:
    asked = {"attacks": ("fgsm", "pgd-7"), "epsilon": 0.1, "images": 100, "batch_size": 16}
    line = command_of("attack", None, "smoke", "digits", asked, parent="20261120-0915-retrain-digits-7f3a")
    request = parse("attack", line.removeprefix(program()).split()[1:])
    assert build("attack", None, "digits", "smoke", request.changes) == build("attack", None, "digits", "smoke", asked)
    assert request.parent == "20261120-0915-retrain-digits-7f3a" and request.preset == "smoke"


def test_the_dataset_is_that_of_the_parent_unless_one_is_given(tmp_path: Path) -> None:
    parent = "20261120-0915-arnas-cifar10-7f3a"
    write_run_json(tmp_path, parent, "search")
    run = json.loads((tmp_path / parent / "run.json").read_text())
    (tmp_path / parent / "run.json").write_text(json.dumps(run | {"config": run["config"] | {"dataset": "cifar10"}}))
    follows = ["--parent", parent, "--runs", str(tmp_path)]
    assert parse("retrain", follows).dataset == "cifar10" and parse("attack", follows).dataset == "cifar10"
    assert parse("retrain", [*follows, "--dataset", "digits"]).dataset == "digits"
    assert parse("retrain", ["--runs", str(tmp_path)]).dataset == "digits"
    with pytest.raises(RunError, match="There is no run"):
        parse("retrain", ["--parent", "20261120-0915-arnas-cifar10-0000", "--runs", str(tmp_path)])


@pytest.mark.parametrize("method", list(METHODS))
def test_every_field_of_every_method_can_be_typed(method: str) -> None:
    config = build("search", method, "digits", "smoke")
    changes = {name: value for name, value in config.model_dump().items() if name != "dataset"}
    line = command_of("search", method, "paper", "digits", changes)
    request = parse("search", shlex.split(line.removeprefix(program()))[1:])
    assert build("search", method, "digits", "paper", request.changes) == config


@pytest.mark.parametrize("words", [["one_step", "curvature"], ["one_step,curvature"], ["one_step,", "curvature"]])
def test_several_values_stand_behind_each_other_or_with_commas(words: list[str]) -> None:
    assert parse("search", ["--added-objectives", *words]).changes == {"added_objectives": ("one_step", "curvature")}


@pytest.mark.parametrize("words", [
    ["--added-objectives", "one_step", "--added-objectives", "curvature"], ["--method", "arnas", "--method", "darts"],
    ["--preset=smoke", "--preset", "paper"], ["--flip", "--no-flip"]])
def test_an_option_is_given_only_once(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="must be given only once, got it 2 times"):
        parse("search", words)


def test_settings_of_followers_are_options(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--preset", "smoke", "--epsilon", "8/255", "--then", "retrain,attack", "--retrain.epochs=2", "--retrain.no-flip",
             "--retrain.epsilon", "0.15", "--attack.attacks", "fgsm", "pgd-7", "--attack.images", "None", "--json"]
    assert main(["search", *words, "--runs", str(runs)]) == 0
    ids = json.loads(capsys.readouterr().out)["ids"]
    search, retrain, attack = (RunFolder(runs, run_id).read_run()["config"] for run_id in ids)
    assert (search["epsilon"], retrain["epsilon"], attack["epsilon"]) == (8 / 255, 0.15, 0.15)
    assert (retrain["epochs"], retrain["flip"], attack["attacks"], attack["images"]) == (2, False, ["fgsm", "pgd-7"], None)


@pytest.mark.parametrize(("words", "sentence"), [
    (["search", "--retrain.epochz", "2"], "Did you mean '--retrain.epochs'?"),
    (["search", "--retrain.epochs", "2"], "Settings of retrain need retrain in --then"),
    (["search", "--then", "retrain", "--retrain.epochs", "0"], "The retraining that follows: epochs must be"),
    (["search", "--then", "retrain", "--retrain.flip", "--retrain.no-flip"], "must be given only once, got it 2 times"),
    (["attack", "--retrain.epochs", "2"], "There is no option '--retrain.epochs'; known are: --against, --attacks,")])
def test_wrong_settings_of_followers_are_refused(words: list[str], sentence: str, runs: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--preset", "smoke", "--runs", str(runs)]) == 2
    assert sentence in capsys.readouterr().err and not list(runs.glob("2*"))


def test_the_help_of_a_run_has_groups_choices_sources_and_the_presets_defaults(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main(["search", "--method", "advrush", "--dataset", "cifar10", "--preset", "paper", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    shown = " ".join(" ".join(lines).split())
    assert "those of AdvRush, preset paper, dataset cifar10" in shown
    assert "--robust-objective" not in shown and "--retrain.epochs" not in shown
    assert {"What to run:", "Data:", "Schedule:", "Supernet:", "Architecture:"} <= set(lines)
    assert "--preset {quick,scout,paper,smoke}" in shown and "--flip, --no-flip Random horizontal flip." in shown
    assert "Source: AdvRush code. Default: " in shown and "Empty: a full pass. Default: None." in shown


def test_queue_stop_resume(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = requests.submit(runs, "search", {}, method="arnas", preset="smoke")
    assert main(["queue", "--runs", str(runs), "--json"]) == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)["waiting"]] == [run_id]
    assert main(["stop", run_id, "--runs", str(runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "stopped"
    assert main(["queue", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == "No run is waiting.\n0 runs running, 0 waiting. CPU: 1 slot.\n"
    assert main(["resume", run_id, "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == f"{run_id}  queued\n"


def test_runs_and_reindex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = write_sample_runs(tmp_path)
    assert main(["runs", "--runs", str(tmp_path), "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(ids.values())
    assert {role: rows[ids[role]]["status"] for role in ("search", "running", "failed", "stopped")} == {
        "search": "finished", "running": "running", "failed": "failed", "stopped": "stopped"}
    assert not (tmp_path / "index.duckdb").exists()  # the command line leaves the file to a dashboard
    assert main(["runs", "--runs", str(tmp_path)]) == 0
    assert ids["attack"] in capsys.readouterr().out
    assert main(["reindex", "--runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == len(ids)
    assert (tmp_path / "index.duckdb").exists()


def test_reindex_refuses_while_a_dashboard_owns_the_index(tmp_path: Path) -> None:
    write_sample_runs(tmp_path)
    code = f"from engine.log import RunLog; log = RunLog.open({str(tmp_path)!r}); print('open', flush=True); input()"
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "open\n"
        words = [sys.executable, "-m", "engine", "reindex", "--runs", str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    finally:
        owner.communicate("\n")
    assert done.returncode == 2 and str(owner.pid) in done.stderr and "Traceback" not in done.stderr


def test_presets_of_every_kind_and_method_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == 0
    listed = [(one["kind"], one["method"], one["field"]) for one in json.loads(capsys.readouterr().out)]
    classes = [("search", name) for name in METHODS] + [("retrain", None), ("attack", None)]
    assert listed == [(kind, method, field) for kind, method in classes for field in config_class(kind, method).model_fields
                      if field != "dataset"]
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("setting ") and line.endswith("  published in") for line in lines) == len(classes)
    assert main(["presets", "attack"]) == 0 and "adversarial_lambda" not in capsys.readouterr().out
    assert main(["presets", "search", "--method", "nonsense"]) == 2 and "There is no method" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["search", "retrain", "attack"])
def test_a_star_marks_exactly_what_differs_from_paper(kind: str) -> None:
    for method in METHODS if kind == "search" else (None,):
        rows = {row[0]: row[1:-1] for row in map(row_of, api.presets(kind, method))}
        for column, preset in enumerate(SHOWN):
            differing = {one.field for one in differences_from_paper(build(kind, method, "digits", preset))}
            # Seed, device, threads and genotype are nobody's deviation, but a preset's own number of threads is marked here.
            marked = {field for field, values in rows.items() if values[column].endswith("*")} - {"threads"}
            assert marked == differing - {"dataset"}


def test_where_the_paper_column_is_not_the_published_value_that_one_is_named() -> None:
    rows = {one.field: row_of(one) for one in api.presets("search", "arnas")}
    assert rows["epsilon"] == ("epsilon", "0.15*", "0.15*", "0.15*", "ARNAS code: 8/255")
    assert rows["momentum"] == ("momentum", "0.9", "0.9", "0.9", "ARNAS code")


@pytest.mark.parametrize("dataset", ["cifar10", "tiny-imagenet"])
def test_what_is_published_for_a_dataset_has_no_star(dataset: str) -> None:
    rows = [row_of(one) for one in api.presets(dataset=dataset)]
    assert not [row for row in rows if row[3].endswith("*")]
    rows = {row[0]: row for row in rows}
    assert rows["layers"][3:] == (("14" if dataset == "tiny-imagenet" else "20"), "ARNAS code")


def test_a_long_cell_goes_on_below() -> None:
    text = wrapped_table([("setting", "value", "source"), ("attacks", "fgsm, pgd-20, autoattack", "word " * 30)])
    assert text.splitlines()[1].startswith("attacks  fgsm, pgd-20,   word")
    assert text.splitlines()[2].startswith("         autoattack      word")
    assert max(map(len, text.splitlines())) <= 100


def test_datasets_are_listed_and_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAMPART_DATA", str(tmp_path / "data"))
    painted(tmp_path / "pictures")
    assert main(["dataset", "fetch", "flowers", "--from", str(tmp_path / "pictures"), "--side", "16", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["present"] and answer["image_shape"] == [3, 16, 16] and answer["images"] == 75
    assert main(["dataset", "fetch", "digits"]) == 0 and "Digits 8x8 is here" in capsys.readouterr().out
    assert main(["dataset", "list", "--json"]) == 0
    assert {one["name"]: one["present"] for one in json.loads(capsys.readouterr().out)} == {
        "digits": True, "digits16": True, "digits32": True, "mnist5k": True, "cifar10": False, "cifar100": False, "svhn": False,
        "tiny-imagenet": False, "flowers": True}
    assert main(["dataset", "list"]) == 0 and "dataset fetch cifar10" in capsys.readouterr().out
    for words, sentence in ((["fetch"], "takes the name of one dataset"), (["list", "digits"], "list takes nothing"),
                            (["fetch", "cifra10"], "Did you mean 'cifar10'"), (["get", "digits"], "choose from"),
                            (["fetch", "cifar10", "--from", str(tmp_path)], "must hold cifar-10-binary.tar.gz or the folder")):
        assert main(["dataset", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_schema_presets_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "retrain"]) == 0
    assert "epsilon" in json.loads(capsys.readouterr().out)["properties"]
    assert main(["presets", "search", "--json"]) == 0
    settings = {one["field"]: one for one in json.loads(capsys.readouterr().out) if one["method"] == "arnas"}
    assert set(settings["epochs"]["values"]) == set(PRESETS) and settings["epochs"]["source"]
    assert main(["doctor", "--json"]) == 0
    assert {"Python", "torch", "device", "disk", "chromium", "torchattacks"} <= {
        one["subject"] for one in json.loads(capsys.readouterr().out)}

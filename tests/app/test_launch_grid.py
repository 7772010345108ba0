"""The Launch page: steps of a chain, grids, the address, clones of runs, the search over settings, and the forecast."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from app.components import launch_dataset
from app.formats import rounded
from app.launching import draft_of, from_address, to_address
from app.measuring import Task
from engine import requests
from engine.configuration_file import Configuration
from engine.configuring import build
from engine.data import fetching
from engine.data.catalogue import DATASETS
from engine.data.splits import steps_in_epoch
from engine.errors import DataError
from engine.preflight.measurement import Measurement
from engine.preflight.measuring import place_of
from engine.preflight.shape import shapes_of
from engine.run.chain import followers
from engine.run.folder import RunFolder, run_ids
from tests.app.conftest import Samples
from tests.app.pages import open_launch, open_page, text_of

SEARCH, RETRAIN, ATTACK = (f"launch.{kind}.digits.quick.0" for kind in ("search.arnas", "retrain.", "attack."))


def headers(page: object) -> list[str]:
    return [one.label for one in page.get("expander") if one.label.startswith("**")]


def configs(root: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for run_id in run_ids(root):
        run = RunFolder(root, run_id).read_run()
        found.setdefault(run["kind"], []).append(run["config"])
    return found


def test_later_steps_follow_the_first_until_they_are_changed(empty: Path) -> None:
    page = open_launch()
    page.text_input(key=f"{SEARCH}.epsilon").set_value("8/255").run()
    assert page.text_input(key=f"{RETRAIN}.epsilon").value == page.text_input(key=f"{ATTACK}.epsilon").value == "8/255"
    assert "As in the search" in text_of(page)
    page.text_input(key=f"{RETRAIN}.epsilon").set_value("0.21").run()
    assert page.text_input(key=f"{ATTACK}.epsilon").value == "0.21"  # an attack follows the retraining
    page.text_input(key=f"{SEARCH}.epsilon").set_value("0.1").run()
    assert [page.text_input(key=f"{key}.epsilon").value for key in (RETRAIN, ATTACK)] == ["0.21", "0.21"]
    page.number_input(key=f"{ATTACK}.images").set_value(64).run()
    assert "changed: Epsilon ε 0.1" in headers(page)[0] and "changed: Epsilon ε 0.21" in headers(page)[1]
    assert "on 64 test images" in headers(page)[2] and "changed: Images 64" in headers(page)[2]
    page.button(key="launch.go").click().run()
    of = configs(empty)
    assert [of[kind][0]["epsilon"] for kind in ("search", "retrain", "attack")] == [0.1, 0.21, 0.21]
    assert of["attack"][0]["images"] == 64 and of["retrain"][0]["images"] is None


def test_a_wrong_value_of_a_later_step_is_answered_there_and_launch_waits(empty: Path) -> None:
    page = open_launch()
    page.number_input(key=f"{RETRAIN}.batch_size").set_value(5000).run()
    assert not page.exception and page.button(key="launch.go").disabled
    assert [one for one in page.markdown if "batch\\_size must be at most" in one.value]
    assert ":red[1 problem]" in headers(page)[1]


def test_a_grid_is_counted_and_launched_as_one_batch(empty: Path) -> None:
    page = open_launch(seeds="0-1", methods="dsara", **{"grid.retrain.epochs": "3, 4"})
    assert page.button(key="launch.go").label == "Launch 8 chains"
    assert "2 seeds × 2 methods × 2 values of retrain epochs = 8 chains, 20 runs, about" in text_of(page)
    assert "--seeds 0,1 --grid method=arnas,dsara --grid retrain.epochs=3,4" in text_of(page)
    page.button(key="launch.go").click().run()
    assert not page.exception
    of = configs(empty)
    assert [len(of[kind]) for kind in ("search", "retrain", "attack")] == [4, 8, 8]
    assert sorted({config["seed"] for config in of["search"]}) == [0, 1]


@pytest.mark.parametrize(("query", "sentence"), [
    ({"seeds": "4-1"}, "Seeds must be whole numbers or ranges"), ({"grid.epochs": "3, 3"}, "Each value of epochs"),
    ({"methods": "darts", "adversarial_lambda": "0.3"}, "The combination method darts is not possible. There is no setting"),
    ({"grid.channels": "8, 7"}, "The combination channels 7 is not possible. channels must be even")])
def test_a_grid_that_is_not_possible_says_so_before_the_click(empty: Path, query: dict[str, str], sentence: str) -> None:
    page = open_page("launch", **query)
    assert not page.exception and page.button(key="launch.go").disabled
    assert any(sentence in one.value for one in page.get("text"))


def test_the_address_holds_the_page(empty: Path) -> None:
    page = open_launch(method="dsara", preset="scout", then="retrain", **{"retrain.epochs": "7", "flip": "yes"})
    assert page.selectbox(key="launch.method").value == "dsara" and page.button_group(key="launch.preset").value == "scout"
    page.number_input(key="launch.search.dsara.digits.scout.0.channels").set_value(12).run()
    page.text_input(key="launch.find").set_value("curv").run()
    address = dict(page.query_params)
    assert address["channels"] == "12" and address["retrain.epochs"] == "7" and address["find"] == "curv"
    again = open_page("launch", **address)
    assert not again.exception and dict(again.query_params) == address
    again.text_input(key="launch.find").set_value("channels").run()
    assert again.number_input(key="launch.search.dsara.digits.scout.0.channels").value == 12


@pytest.mark.parametrize(("query", "sentence"), [
    ({"method": "dsarra"}, "There is no method 'dsarra'"), ({"dataset": "cifar"}, "There is no dataset 'cifar'"),
    ({"preset": "papr"}, "There is no preset 'papr'"), ({"kind": "train"}, "There is no run kind 'train'"),
    ({"lamda": "3"}, "The address names 'lamda', which is no setting of a search run."),
    ({"epochs": "many"}, "epochs in the address must be a whole number, got 'many'"),
    ({"then": "attack"}, "then must be retrain,attack after a run of kind search, got 'attack'"),
    ({"from": "20261120-0915-arnas-digits-7f3a"}, "There is no run"), ({"grid.lamda": "1, 2"}, "There is no setting"),
    ({"methods": "x"}, "There is no method 'x'")])
def test_a_wrong_value_in_the_address_is_said(empty: Path, query: dict[str, str], sentence: str) -> None:
    page = open_page("launch", **query)
    assert not page.exception
    assert sentence.replace("'", "&#x27;") in text_of(page)


def test_a_draft_survives_its_address() -> None:
    changes = {"epsilon": 8 / 255, "adversarial_lambda": 1 / 3, "flip": True, "steps_per_epoch": None, "width_ratio": "1:1:1",
               "images": 64}
    draft = draft_of(Configuration("search", "arnas", "digits", "scout", ("retrain", "attack"), changes, {
        "attack": {"attacks": ("fgsm", "pgd-7")}}), seeds="0-4", methods=("dsara",), axes={"retrain.epochs": "1, 2"},
                     open=("retrain",))
    assert from_address(to_address(draft), Path("/nowhere")) == (draft, [])


def test_the_search_shows_matching_fields_only_and_hidden_ones_too(empty: Path) -> None:
    page = open_page("launch")
    page.text_input(key="launch.find").set_value("learning rate").run()
    shown = {one.key for one in page.text_input if one.key.startswith((SEARCH, RETRAIN, ATTACK))}
    assert {f"{SEARCH}.weights_learning_rate", f"{RETRAIN}.learning_rate"} <= shown and f"{SEARCH}.momentum" not in shown
    assert "no setting found" in headers(page)[2]
    page.text_input(key="launch.find").set_value("curvature radius").run()
    assert f"{SEARCH}.curvature_radius" in {one.key for one in page.text_input}
    assert "No effect unless you add the objective." in text_of(page)


def test_a_clone_shows_its_differences_and_a_re_run_is_exact(empty: Path) -> None:
    ids = requests.submit(empty, "search", {"epsilon": 0.1, "seed": 7}, method="dsara", preset="quick",
                          then=("retrain", "attack"), then_changes={"retrain": {"epochs": 3}})
    page = open_launch(**{"from": ids[0]})
    assert not page.exception and "no setting differs" in text_of(page)
    assert page.number_input(key="launch.retrain..digits.quick.0.epochs").value == 3
    page.number_input(key="launch.search.dsara.digits.quick.0.channels").set_value(12).run()
    assert "1 setting differs" in text_of(page) and '<th scope="row">Search: Channels</th><td>12</td><td>8</td>' in text_of(page)
    page.button(key="launch.again").click().run()
    assert not page.exception and len(run_ids(empty)) == 6
    again = [RunFolder(empty, page.query_params["id"]).read_run()]
    again += [RunFolder(empty, one).read_run() for one in again[0]["children_of_chain"]]
    assert [run["config"] for run in again] == [RunFolder(empty, one).read_run()["config"] for one in ids]


def test_a_re_run_inherits_nothing_anew(samples: Samples) -> None:
    """A launch with this parent takes over its seed. The old run kept the seed of the preset, and so does its repetition."""
    for run_id, seed in ((samples.ids["search"], 5), (samples.ids["retrain"], 2)):
        path = RunFolder(samples.root, run_id).run_json
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"config": record["config"] | {"seed": seed}}))
    page = open_launch(**{"from": samples.ids["retrain"]})
    page.button(key="launch.again").click().run()
    assert not page.exception and page.query_params["id"] not in samples.ids.values()
    assert RunFolder(samples.root, page.query_params["id"]).read_run()["config"]["seed"] == 2


def test_a_follower_is_cloned_with_its_parent(samples: Samples) -> None:
    draft, problems = from_address({"from": samples.ids["retrain"]}, samples.root)
    assert not problems and draft.kind == "retrain" and draft.parent == samples.ids["search"]


def test_a_kept_measurement_gives_the_forecast_and_warns(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build("search", "arnas", "cifar10", "paper")
    steps = [("search", config), *followers("search", config, "arnas", "paper", ("retrain", "attack"))]
    for shape in shapes_of(empty, steps, "arnas"):
        path = place_of(empty, shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(Measurement(seconds_per_step=0.5, forward_s=1e-4, backward_s=2e-4, memory=10**15,
                                                      checkpoint=10**7, batch=8))))
    page = open_page("launch", dataset="cifar10", preset="paper")
    text = text_of(page)
    assert not page.exception and "from measured batches" in text and "10000" in text.replace(",", "")
    assert "Does not fit" in text and "use smaller batches or fewer channels" in text
    assert "launch.measure" not in {one.key for one in page.button}


def test_each_chain_of_a_grid_has_its_own_forecast(empty: Path) -> None:
    """One measurement of a shape serves all its epochs and seeds; a chain of another shape is not known from it."""
    def keep(seconds: float, channels: int) -> float:
        """Keep a measurement, and return the seconds of a search of 4 epochs."""
        config = build("search", "arnas", "digits", "paper", {"channels": channels, "epochs": 4})
        (shape,) = shapes_of(empty, [("search", config)], "arnas")
        place_of(empty, shape).parent.mkdir(parents=True, exist_ok=True)
        place_of(empty, shape).write_text(json.dumps(asdict(Measurement(seconds_per_step=seconds, memory=10**8, batch=64))))
        return 4 * seconds * steps_in_epoch(611, config.batch_size, config.steps_per_epoch)

    narrow = keep(10.0, 8)
    query = {"preset": "paper", "then": "", "seeds": "0-1", "grid.epochs": "4, 8", "grid.channels": "8, 12"}
    page = open_page("launch", **query)
    assert not page.exception and "Not known for these settings yet" in text_of(page)
    assert "launch.measure" in {one.key for one in page.button}
    wide = keep(30.0, 12)
    page = open_page("launch", **query)
    table = text_of(page).replace("\u00a0", " ")
    rows = dict(re.findall(r'<th scope="row" class="rp-name">(epochs[^<]*)<br><span class="rp-label">([^<]*)</span>', table))
    assert len(rows) == 4 and rows["epochs 4, channels 8"] == f"search 2 × {rounded(narrow)}"
    assert rows["epochs 8, channels 12"] == f"search 2 × {rounded(2 * wide)}"
    assert f"About {rounded(2 * 3 * (narrow + wide))} on" in text_of(page)
    assert "launch.measure" not in {one.key for one in page.button}


def test_paper_proposes_the_published_dataset_and_fetches_it_by_a_button(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, **options: object) -> None:
        raise DataError(f"{name} must be downloaded, and the network cannot be reached.")

    page = open_page("launch", preset="paper")
    page.button(key="launch.published").click().run()
    assert page.selectbox(key="launch.dataset").value == "cifar10"
    assert page.button(key="launch.fetch.cifar10").label == "Fetch CIFAR-10 (170 MB)"
    monkeypatch.setattr(fetching, "fetch", unreachable)
    page.button(key="launch.fetch.cifar10").click().run()
    page.session_state[launch_dataset.TASK][1].wait(10)
    page.run()
    assert not page.exception and "CIFAR-10 was not fetched. cifar10 must be downloaded" in text_of(page)


def test_a_task_reports_stops_and_fails_with_a_sentence() -> None:
    def work(report: object) -> None:
        while True:
            report("images", 3, 10)

    task = Task(work)
    task.stop()
    task.wait(10)
    assert not task.running and task.problem.startswith("Stopped.")
    failed = Task(lambda report: 1 / 0)
    failed.wait(10)
    assert "see the server's log" in failed.problem and DATASETS["digits"].title not in failed.problem

"""The Robustness page: tables by protocol, comparison, detail, gallery, claims of papers, choices in the address."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import evaluations, fronts, session
from app.formats import accuracy, interval, network_labels, unequal_sizes, with_interval
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, table_rows, text_of

START = sample_runs.START


def table_of(page: AppTest) -> dict[str, object]:
    (data,) = component_data(page, "rampart_table")
    return data


def second_chain(samples: Samples, *, autoattack: int = 14) -> str:
    """Write a chain of another seed; return the id of its attack run."""
    attack = sample_runs.write_finished_chain(samples.root, name="two", seed=3, created=START + 600, autoattack=autoattack)[2]
    session.hub().refresh()
    return attack


def test_an_empty_folder_gives_the_first_page(empty: Path) -> None:
    page = open_page("robustness")
    assert not page.exception and page.button(key="first_run_launch")


def test_a_folder_without_attacks_explains_what_will_be_here(empty: Path) -> None:
    sample_runs.write_failed_search(empty)
    page = open_page("robustness")
    assert not page.exception and "No attacked network yet" in text_of(page)
    assert "No test split has been opened" in text_of(page)


def test_every_number_has_its_interval_and_its_images(samples: Samples) -> None:
    page = open_page("robustness")
    assert not page.exception
    row = table_rows(page)[samples.ids["attack"]]
    assert row["natural"] == "96.4 % 93.9 to 97.9"
    assert row["fgsm"] == "66.9 % 61.9 to 71.6" and row["pgd-20"] == "58.9 % 53.7 to 63.9"
    assert row["autoattack"] == row["worst-case"] == "48.4 % 36.6 to 60.4"
    headings = [column["label"] for column in table_of(page)["columns"]]
    assert headings == ["Network", "Badge", "Natural\n360 images", "FGSM\n360 images", "PGD-20\n360 images",
                        "AutoAttack\n64 images", "Worst case\n64 images", "Parameters\nMACs"]
    assert row["network"] == "ARNAS PGD-7 training, 14 epochs, quick" and row["size"] == "41,210 1.20 million MACs"


def test_autoattack_and_worst_case_say_what_each_means(samples: Samples) -> None:
    text = text_of(open_page("robustness"))
    assert "Worst case: An image counts only if it is classified correctly under every attack of the protocol." in text
    assert "AutoAttack: The standard cascade: APGD-CE, APGD-T, FAB-T and Square at their published settings." in text
    assert "Other attacks of the protocol do not count here." in text


def test_the_badge_gives_its_reasons(samples: Samples) -> None:
    cell = table_of(open_page("robustness"))["rows"][0]["cells"]["badge"]
    assert (cell["text"], cell["tone"]) == ("Green", "good")
    sample_runs.write_checks(sample_runs.EventsFile(samples.root / samples.ids["attack"]), gradients="failed")
    session.hub().refresh()
    page = open_page("robustness")
    cell = table_of(page)["rows"][0]["cells"]["badge"]
    assert (cell["text"], cell["tone"]) == ("Red", "bad") and cell["hint"].startswith("Gradients: Gradients was measured.")
    assert "Attack again with more steps." in text_of(page)


def test_seeds_stand_under_a_heading_with_mean_and_spread_that_folds(samples: Samples) -> None:
    attack = second_chain(samples)
    page = open_page("robustness")
    heading, *members = table_of(page)["rows"]
    assert heading["heading"] and heading["cells"]["network"]["text"] == "ARNAS: 2 networks"
    worst = heading["cells"]["worst-case"]
    assert (worst["text"], worst["sub"]) == ("35.2 %", "± 18.8") and "no confidence interval" in worst["hint"]
    assert [row["id"] for row in members] == [samples.ids["attack"], attack]
    assert {row["group"] for row in members} == {heading["id"]}
    assert [row["cells"]["network"]["text"] for row in members] == ["ARNAS, seed 2", "ARNAS, seed 3"]
    folded = open_page("robustness", folded=heading["id"])
    assert table_of(folded)["rows"][0]["folded"]


def test_letters_say_who_can_be_told_apart(samples: Samples) -> None:
    attack = second_chain(samples)
    rows = table_rows(open_page("robustness"))
    assert (rows[samples.ids["attack"]]["letters"], rows[attack]["letters"]) == ("a", "b")


def test_the_address_holds_the_order_of_the_table(samples: Samples) -> None:
    assert table_of(open_page("robustness"))["sort"] == "unsorted"
    assert table_of(open_page("robustness", sort="-pgd-20"))["sort"] == "-pgd-20"
    assert table_of(open_page("robustness", sort="nonsense"))["sort"] == "unsorted"


def test_the_address_holds_the_network_to_attack_next(samples: Samples) -> None:
    page = open_page("robustness", network=samples.ids["resumed"])
    box = page.selectbox(key="robustness.network")
    assert not page.exception and box.value == samples.ids["resumed"] and box.options == [f"ARNAS · {samples.ids['resumed']}"]


def test_transfer_results_of_all_protocols_stand_in_one_map(samples: Samples) -> None:
    """Each network's images make protocols of their own, and each of these shows the whole map with its missing pairs."""
    first, second = "a" * 12, "b" * 12
    runs = [sample_runs.write_transfers(samples.root, f"20261118-0940-attack-digits-7f6{number}", network, correct,
                                        parent=samples.ids["retrain"], created=START + 900 + number)
            for number, (network, correct) in enumerate(((first, {first: 10, second: 40}), (second, {second: 12, "c" * 12: 50})))]
    session.hub().refresh()
    for run in runs:
        page = open_page("robustness", run=run)
        charts = map(json.dumps, component_data(page, "rampart_live_plot"))
        (text,) = [chart for chart in charts if "Accuracy of each network on" in chart]
        assert not page.exception and text.count("not measured") >= 5 and "white-box" in text
        assert all(figure in text for figure in ("15.6 %", "62.5 %", "18.8 %", "78.1 %"))
        assert "made on other networks" in text_of(page)
    assert "made on other networks" not in text_of(open_page("robustness", run=samples.ids["attack"]))


def test_the_address_chooses_the_transfer_map_by_the_attack_that_made_the_images(samples: Samples) -> None:
    first, second = "a" * 12, "b" * 12
    for number, maker in enumerate(("mi-fgsm", "apgd-ce")):
        run = sample_runs.write_transfers(samples.root, f"20261118-0940-attack-digits-7f6{number}", first,
                                          {first: 10, second: 40}, maker=maker, created=START + 900 + number)
    session.hub().refresh()
    page = open_page("robustness", run=run)
    box = page.selectbox(key="robustness.transfer")
    assert box.options == ["APGD-CE · 2 networks, 2 results", "MI-FGSM · 2 networks, 2 results"]
    other = next(one.id for one in evaluations.transfer_maps() if one.attack == "mi-fgsm")
    page = open_page("robustness", run=run, transfer=other)
    assert not page.exception and page.selectbox(key="robustness.transfer").value == other
    assert "Rows are attacked by MI-FGSM images" in text_of(page)


def test_another_protocol_is_another_table_and_the_address_chooses(samples: Samples) -> None:
    other = sample_runs.write_finished_attack(samples.root, "20261118-0920-attack-digits-7f41", parent=samples.ids["resumed"],
                                              created=START + 900, epsilon=8 / 255)
    session.hub().refresh()
    protocols = session.run_log().evaluations().set_index("run")["protocol"]
    for run in (other, samples.ids["attack"]):
        page = open_page("robustness", protocol=protocols[run])
        assert list(table_rows(page)) == [run] and protocols[run] in text_of(page)
        page = open_page("robustness", run=run)
        assert list(table_rows(page)) == [run], "a link to a run opens the protocol of that run"
    options = page.selectbox(key="robustness.protocol").options
    assert len(options) == 2 and "L∞ 8/255" in "".join(options) and "L∞ 0.15" in "".join(options)


def test_a_chosen_protocol_enters_the_address(samples: Samples) -> None:
    sample_runs.write_finished_attack(samples.root, "20261118-0920-attack-digits-7f41", parent=samples.ids["resumed"],
                                      created=START + 900, epsilon=8 / 255)
    session.hub().refresh()
    page = open_page("robustness", run=samples.ids["attack"], compare=samples.ids["attack"])
    box = page.selectbox(key="robustness.protocol")
    other = next(short for short in session.run_log().evaluations()["protocol"].unique()
                 if short != box.value)
    box.set_value(other).run()
    assert not page.exception and page.query_params["protocol"] in (other, [other])
    assert "run" not in page.query_params and "compare" not in page.query_params


def test_the_protocol_is_shown_in_full_with_what_it_leaves_out(samples: Samples) -> None:
    text = text_of(open_page("robustness"))
    assert "images hash" in text and "step size 0.0375" in text and "Not part of the protocol" in text


def test_a_network_attacked_twice_is_one_row_and_shows_the_older_evaluation_on_demand(samples: Samples) -> None:
    newer = sample_runs.write_finished_attack(
        samples.root, "20261118-0930-attack-digits-7f42", parent=samples.ids["retrain"], created=START + 900,
        network=f"weights of {samples.ids['attack']}")
    session.hub().refresh()
    page = open_page("robustness")
    assert list(table_rows(page)) == [newer] and table_rows(page)[newer]["network"].endswith("quick · 1 other evaluation")
    page.button(key=f"robustness.show.{samples.ids['attack']}").click().run()
    assert not page.exception and "An older evaluation of this network" in text_of(page)
    assert "An older evaluation of this network" in text_of(open_page("robustness", run=samples.ids["attack"]))


@pytest.mark.parametrize(("ended", "words", "cell"), [("", "attack running, 25 % done", "pending"),
                                                      ("failed", "attack failed, 25 % done", "not measured")])
def test_an_evaluation_that_is_not_complete_says_so(samples: Samples, ended: str, words: str, cell: str) -> None:
    run = sample_runs.write_unfinished_attack(samples.root, "20261118-0951-attack-digits-8a02", ended=ended, created=START + 950)
    session.hub().refresh()
    page = open_page("robustness", run=run)
    row = table_rows(page)[run]
    assert "No outcome per image is recorded yet." in text_of(page)
    assert not page.exception and row["network"].endswith(words) and row["worst-case"] == cell
    assert "nan" not in json.dumps(table_rows(page)).lower()


def test_an_attack_without_any_result_is_named_below_the_table(samples: Samples) -> None:
    run = "20261118-0955-attack-digits-8b01"
    folder = sample_runs.write_run_json(samples.root, run, "attack", created=START + 960)
    events = sample_runs.EventsFile(folder)
    sample_runs.write_exit(folder, events, code=1, status="failed", cause="Out of memory.")
    session.hub().refresh()
    text = text_of(open_page("robustness"))
    assert "Failed before the first result" in text and run in text


def test_picked_networks_are_compared_in_sentences_settings_and_cells(samples: Samples) -> None:
    attack = second_chain(samples)
    for run in (samples.ids["attack"], attack):
        sample_runs.write_sweep(sample_runs.EventsFile(samples.root / run), {0.0: 60, 0.1: 40, 0.15: 20})
    session.hub().refresh()
    page = open_page("robustness", compare=f"{samples.ids['attack']},{attack}")
    text = text_of(page)
    assert not page.exception and "ARNAS, seed 2 is more accurate than ARNAS, seed 3 by 26.6 points" in text
    assert [row["picked"] for row in table_of(page)["rows"] if "picked" in row] == [True, True]
    assert 'Settings that differ"' in text and "Seed" in text
    assert "half of the 64 images have fallen at radius 0.125 (95 % 0.1 to 0.14)." in text
    assert "ARNAS, seed 2" in json.dumps(component_data(page, "rampart_live_plot"))
    assert "all networks share, the only pair of this table, level 5 %" in text
    page = open_page("robustness", compare=f"{samples.ids['attack']},{attack}", column="natural")
    assert "cannot be told apart on these 360 images" in text_of(page)


def test_unreadable_outcomes_leave_the_rest_of_the_page(samples: Samples) -> None:
    attack = second_chain(samples)
    (samples.root / attack / "results" / "outcomes.parquet").write_bytes(b"PAR1 no longer")
    page = open_page("robustness", run=attack)
    assert not page.exception and "The networks cannot be compared" in text_of(page) and attack in table_rows(page)


def test_the_gallery_follows_the_address(samples: Samples) -> None:
    page = open_page("robustness")
    text = text_of(page)
    assert text.count('class="rp-shot"') == 9 and "data:image/png;base64," in text
    assert "class 0: predicted 0 (&gt;99 %) → 1 (62 %)" in text and "APGD-CE, 80 steps · L∞ 0.15 · L2 0.80 · margin −0.5" in text
    page = open_page("robustness", outcome="withstands", label="3")
    stays = "class 3: stays 3 (&gt;99 % → &gt;99 %)"
    assert {stays} == {line.split("<span")[0] for line in text_of(page).split("<figcaption><b>")[1:]
                                    if line.startswith("class")}
    page = open_page("robustness", attack="autoattack", outcome="only")
    assert not page.exception and "Only AutoAttack breaks it (9)" in page.selectbox(key="robustness.outcome").options
    page = open_page("robustness", attack="fgsm", outcome="broken")
    assert "No stored image matches these filters." in text_of(page)


def test_a_run_without_confidences_shows_margins_and_says_so(samples: Samples) -> None:
    assert "the softmax probability of the predicted class" in text_of(open_page("robustness"))
    path = samples.root / samples.ids["attack"] / "results" / "outcomes.parquet"
    pd.read_parquet(path).drop(columns="confidence").to_parquet(path)
    page = open_page("robustness")
    text = text_of(page)
    assert not page.exception and "class 0: predicted 0 → 1<" in text and "margin −0.5" in text
    assert "older version, which did not record the confidence" in text


def test_pages_of_the_gallery_turn(samples: Samples) -> None:
    page = open_page("robustness", outcome="all")
    assert "Page 1 of 4" in text_of(page)
    page.button(key="robustness.page.Next").click().run()
    assert "Page 2 of 4" in text_of(page) and not page.exception


def test_runs_without_predictions_or_images_say_what_to_do(samples: Samples) -> None:
    results = samples.root / samples.ids["attack"] / "results"
    (results / "samples.parquet").unlink()
    assert "attack the network again to see its images" in text_of(open_page("robustness"))
    outcomes = pd.read_parquet(results / "outcomes.parquet")[["image", "label", "attack", "correct"]]
    outcomes.to_parquet(results / "outcomes.parquet")
    page = open_page("robustness")
    assert not page.exception and "recorded neither predictions nor images" in text_of(page)
    (results / "outcomes.parquet").unlink()
    page = open_page("robustness")
    assert not page.exception and "outcomes.parquet" in text_of(page)


def test_claims_of_papers_stand_apart_and_only_under_their_dataset(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Claims of papers" not in text_of(open_page("robustness"))
    from app.components import published
    from engine.report.published import blocks_of

    monkeypatch.setattr(published, "blocks_of", lambda dataset: blocks_of("cifar10"))
    page = open_page("robustness")
    text = text_of(page)
    assert "Claims of papers, other protocols" in text and "AutoAttack, claimed" in text and "RobustResNet-A4" in text
    assert "RobustResNet-A4" not in json.dumps(table_rows(page))


def test_networks_of_unequal_size_are_said_to_be(samples: Samples) -> None:
    assert "differ in size" not in text_of(open_page("robustness"))
    sample_runs.write_finished_attack(samples.root, "20261118-0921-attack-digits-7f42", parent=samples.ids["resumed"],
                                      created=START + 901, parameters=4_520_394)
    session.hub().refresh()
    assert ("These networks differ in size: 41,210 to 4.52 million parameters. Retrain with matched parameters for a fair "
            "comparison." in text_of(open_page("robustness")))


def test_a_hand_made_network_stands_beside_derived_ones(samples: Samples) -> None:
    _, attack = sample_runs.write_hand_made(samples.root)
    page = open_page("robustness", run=attack)
    rows = table_rows(page)
    assert not page.exception and rows[attack]["network"].startswith("ResNet-18") and rows[attack]["size"].startswith("11.2 mill")
    assert "<b>ResNet-18</b> is hand-made" in text_of(page) and not component_data(page, "rampart_cell_graph")
    pareto = open_page("pareto")
    assert not pareto.exception and "ResNet-18" in json.dumps(component_data(pareto, "rampart_live_plot"))


def test_the_selected_network_shows_its_cells_attacks_checks_and_fingerprints(samples: Samples) -> None:
    page = open_page("robustness")
    cells = "".join(data["html"] for data in component_data(page, "rampart_cell_graph"))
    assert cells.count("<figcaption>") == 3
    text = text_of(page)
    assert "APGD-T" in text and "Huge epsilon" in text and "Fingerprint of AutoAttack" in text
    assert "These results belong to this checkpoint" in text


def test_the_test_ledger_counts_openings(samples: Samples) -> None:
    text = text_of(open_page("robustness"))
    assert "The test split has been opened once." in text and samples.ids["attack"] in text


def test_runs_that_recorded_no_protocol_have_a_table(empty: Path) -> None:
    run = "20261118-0940-attack-digits-7f50"
    events = sample_runs.EventsFile(sample_runs.write_run_json(empty, run, "attack", created=START))
    sample_runs.write_network(events)
    sample_runs.write_attack(events, "natural", "Natural", 360, 347)
    sample_runs.write_attack(events, "fgsm", "FGSM", 360, 240)
    page = open_page("robustness")
    assert not page.exception and table_rows(page)[run]["fgsm"].startswith("66.7 %")
    assert "which recorded no protocol" in text_of(page)


def test_unknown_choices_in_the_address_are_ignored(samples: Samples) -> None:
    page = open_page("robustness", protocol="nonsense", run="../../etc", compare="a,b", attack="x", outcome="y", label="z",
                     gallery="99")
    assert not page.exception and samples.ids["attack"] in table_rows(page)


def test_sizes_are_compared_where_they_are_known() -> None:
    nan = float("nan")

    def said(*sizes: tuple[float, float]) -> str:
        return unequal_sizes(pd.DataFrame(sizes, columns=["parameters", "macs"]))

    assert said() == said((1e6, 2e6)) == said((1e6, 2e6), (nan, nan)) == said((1.00e6, 2e6), (0.95e6, 2e6)) == ""
    assert said((1e6, 100e6), (0.94e6, 300e6)) == (
        "These networks differ in size: 940,000 to 1.00 million parameters and 100 million to 300 million MACs. Retrain with "
        "matched MACs for a fair comparison.")


def test_percent_and_interval_as_text() -> None:
    assert with_interval(0.9384, 0.8466, 0.9754) == "93.8 % (84.7 to 97.5 %)"
    assert (accuracy(float("nan")), interval(None, None)) == ("not measured", "–")
    assert with_interval(None, None, None) == "not measured"


def test_equal_titles_are_told_apart_by_the_run() -> None:
    labels = network_labels(["ARNAS", "ARNAS", "DARTS"], ["x-0a1b", "x-0a1c", "x-0a1d"])
    assert [label.replace("\u00a0", " ") for label in labels] == ["ARNAS · 0a1b", "ARNAS · 0a1c", "DARTS"]


def test_many_networks_are_listed_in_part_and_found_by_search(empty: Path) -> None:
    """The table and the chart of intervals stay short; picked networks stay listed, and letters that do not fit are left out."""
    for number in range(34):
        folder, events = sample_runs._begun_attack(
            empty, f"20261118-1000-attack-digits-{number:04x}", parent=None, t=sample_runs.START, epsilon=0.15,
            created=sample_runs.START + number, title=f"Network {number:02}", network=f"weights {number}")
        for attack, images, correct in (("natural", 360, 340), ("worst-case", 64, 20 + number)):
            sample_runs.write_attack(events, attack, attack, images, correct)
        sample_runs.write_outcomes(folder, {"natural": np.arange(64) < 60, "autoattack": np.arange(64) < 20 + number})
        sample_runs.write_finished(folder, events)
    page = open_page("robustness", compare="20261118-1000-attack-digits-0000")
    assert not page.exception and "30 of 34 networks" in text_of(page)
    listed = table_rows(page)
    assert len(listed) == 31 and "20261118-1000-attack-digits-0000" in listed  # the weakest network is picked
    heights = [data["height"] for data in component_data(page, "rampart_live_plot") if data["name"].startswith("robustness_int")]
    assert heights == [154]  # of the picked network
    page = open_page("robustness")
    (height,) = (data["height"] for data in component_data(page, "rampart_live_plot")
                 if data["name"].startswith("robustness_int"))
    assert height < 1300 and "20 of 34 networks: tick or search in the table for others" in text_of(page)
    page.text_input(key="robustness.find").set_value("network 07").run()
    assert not page.exception and set(table_rows(page)) >= {"20261118-1000-attack-digits-0007"} and len(table_rows(page)) == 2


def test_what_the_first_reader_sees_is_computed_before(samples: Samples) -> None:
    """After `prepare`, a first visit reads no outcomes: letters and front are there although a file is unreadable now."""
    attack = second_chain(samples)
    session.run_log()
    fronts.prepare()
    file = samples.root / attack / "results/outcomes.parquet"
    written = file.stat()
    file.write_bytes(b"not Parquet")
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns))
    rows = table_rows(open_page("robustness", run=samples.ids["attack"]))
    assert (rows[samples.ids["attack"]]["letters"], rows[attack]["letters"]) == ("a", "b")
    assert "2 attacked networks" in text_of(open_page("pareto"))

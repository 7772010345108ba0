"""The Robustness page: intervals in every cell, groups of equal fingerprints, cells of the selected network, the test ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from app import session
from app.charts.robustness import intervals_figure
from app.formats import accuracy, interval, network_labels, unequal_sizes, with_interval
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, table_rows, text_of


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
    assert row["fgsm"] == "66.9 % 61.9 to 71.6" and row["pgd20"] == "58.9 % 53.7 to 63.9"
    assert row["autoattack"] == "48.4 % 36.6 to 60.4"
    headings = [column["label"] for column in component_data(page, "rampart_table")[0]["columns"]]
    assert headings[1:5] == ["Natural\n360 images", "FGSM\n360 images", "PGD-20\n360 images", "AutoAttack worst case\n64 images"]
    assert row["epsilon"] == "0.15" and row["size"] == "41,210 1.2 million MACs"


def test_networks_of_unequal_size_are_said_to_be(samples: Samples) -> None:
    assert "differ in size" not in text_of(open_page("robustness"))
    sample_runs.write_finished_attack(samples.root, "20261118-0921-attack-digits-7f42", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 901, parameters=4_520_394)
    session.hub().refresh()
    text = text_of(open_page("robustness"))
    assert ("These networks differ in size: 41,210 to 4.52 million parameters. Retrain with matched parameters for a fair "
            "comparison." in text)
    # A network alone in its table has nothing to be compared with.
    sample_runs.write_finished_attack(samples.root, "20261118-0922-attack-digits-7f43", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 902, macs=9_000_000, epsilon=8 / 255)
    session.hub().refresh()
    assert text_of(open_page("robustness")).count("differ in size") == 1


def test_a_hand_made_network_stands_beside_derived_ones(samples: Samples) -> None:
    _, attack = sample_runs.write_hand_made(samples.root)
    page = open_page("robustness")
    rows = table_rows(page)
    assert not page.exception and rows[attack]["network"] == "ResNet-18 quick" and rows[attack]["size"].startswith("11.2 million")
    assert "These networks differ in size: 41,210 to 11.2 million parameters" in text_of(page)
    page.session_state["robustness.selected"] = attack
    page.run()
    assert not page.exception and "<b>ResNet-18</b> is hand-made" in text_of(page)
    assert not component_data(page, "rampart_cell_graph")
    pareto = open_page("pareto")
    assert not pareto.exception and "ResNet-18" in json.dumps(component_data(pareto, "rampart_live_plot"))


def test_sizes_are_compared_where_they_are_known() -> None:
    nan = float("nan")

    def said(*sizes: tuple[float, float]) -> str:
        return unequal_sizes(pd.DataFrame(sizes, columns=["parameters", "macs"]))

    assert said() == said((1e6, 2e6)) == said((1e6, 2e6), (nan, nan)) == said((1.00e6, 2e6), (0.95e6, 2e6)) == ""
    assert said((1e6, 100e6), (0.94e6, 300e6)) == (
        "These networks differ in size: 940,000 to 1 million parameters and 100 million to 300 million MACs. Retrain with "
        "matched MACs for a fair comparison.")


def test_unlike_fingerprints_stand_in_tables_of_their_own(samples: Samples) -> None:
    sample_runs.write_finished_attack(samples.root, "20261118-0920-attack-digits-7f41", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 900, epsilon=8 / 255)
    sample_runs.write_finished_attack(samples.root, "20261118-0921-attack-digits-7f42", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 901)
    page = open_page("robustness")
    groups = [{row["id"] for row in data["rows"]} for data in component_data(page, "rampart_table")]
    assert groups == [{samples.ids["attack"], "20261118-0921-attack-digits-7f42"}, {"20261118-0920-attack-digits-7f41"}]
    assert "epsilon 8/255" in text_of(page) and "epsilon 0.15" in text_of(page)


def test_the_selected_network_shows_its_cells_attacks_and_fingerprints(samples: Samples) -> None:
    page = open_page("robustness")
    cells = "".join(data["html"] for data in component_data(page, "rampart_cell_graph"))
    assert cells.count("<figcaption>") == 3
    text = text_of(page)
    assert "APGD-T" in text and "images hash" in text
    assert "These numbers belong to this checkpoint" in text


def test_the_test_ledger_counts_openings(samples: Samples) -> None:
    text = text_of(open_page("robustness"))
    assert "The test split has been opened 1 time." in text and samples.ids["attack"] in text


def test_a_measure_that_is_missing_is_said_to_be(empty: Path) -> None:
    run = "20261118-0940-attack-digits-7f50"
    folder = sample_runs.write_run_json(empty, run, "attack", created=sample_runs.START)
    events = sample_runs.EventsFile(folder, t=sample_runs.START)
    sample_runs.write_network(events)
    sample_runs.write_attack(events, "natural", "Natural", 360, 347)
    sample_runs.write_attack(events, "fgsm", "FGSM", 360, 240)
    page = open_page("robustness")
    assert not page.exception
    assert table_rows(page)[run]["autoattack"] == "not measured"
    assert "nan" not in json.dumps(table_rows(page)).lower()


def test_percent_and_interval_as_text() -> None:
    assert with_interval(0.9384, 0.8466, 0.9754) == "93.8 % (84.7 to 97.5 %)"
    assert (accuracy(float("nan")), interval(None, None)) == ("not measured", "–")
    assert with_interval(None, None, None) == "not measured"


def test_equal_titles_are_told_apart_by_the_run() -> None:
    labels = network_labels(["ARNAS", "ARNAS", "DARTS"], ["x-0a1b", "x-0a1c", "x-0a1d"])
    assert [label.replace("\u00a0", " ") for label in labels] == ["ARNAS · 0a1b", "ARNAS · 0a1c", "DARTS"]


def test_a_long_name_leaves_the_intervals_their_room() -> None:
    row = {f"{name}_{end}": .5 for name in ("natural", "fgsm", "pgd20", "autoattack")
           for end in ("accuracy", "low", "high", "images")}
    figure = intervals_figure(pd.DataFrame([{"label": "DARTS_V2, accurate as robust, MACs as ARNAS@64x20 (+0.3 %)", **row}]))
    (label,) = figure.layout.yaxis.ticktext
    assert label.split("<br>") == ["DARTS_V2, accurate as", "robust, MACs as", "ARNAS@64x20 (+0.3 %)"]


def test_whiskers_are_the_intervals_and_missing_measures_are_left_out() -> None:
    row = {"label": "A", **{f"{name}_{end}": float("nan") for name in ("natural", "fgsm", "pgd20", "autoattack")
                            for end in ("accuracy", "low", "high", "images")}}
    row |= {"natural_accuracy": .9, "natural_low": .85, "natural_high": .93, "natural_images": 360.0}
    (trace,) = intervals_figure(pd.DataFrame([row])).data
    assert trace.name == "natural" and abs(trace.error_x.array[0] - 3) < 1e-9 and abs(trace.error_x.arrayminus[0] - 5) < 1e-9

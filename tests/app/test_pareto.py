"""The Pareto page: attacked networks by fingerprint group, and search epochs in a plot of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from app import session
from app.charts.pareto import SMALLEST, epochs_figure, marker_sizes, networks_figure
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, text_of

COLUMNS = ["run", "label", "method", "natural", "natural_low", "natural_high", "adversarial", "adversarial_low",
           "adversarial_high", "parameters", "macs", "is_front"]
NETWORKS = pd.DataFrame([
    ("run-a", "A", "arnas", .95, .93, .97, .50, .40, .60, 40_000, 1e6, True),
    ("run-b", "B", "arnas", .90, .88, .93, .60, .50, .70, 80_000, 2e6, True),
    ("run-c", "C", "random", .89, .87, .92, .45, .35, .55, 60_000, 3e6, False)], columns=COLUMNS).assign(
        natural_images=360, images=64, norm="Linf", epsilon=0.15, fingerprint="f00d", preset="quick", badge="green",
        badge_reasons="12 checks passed.")


def figures(page: object) -> list[dict]:
    return [json.loads(data["figure"]) for data in component_data(page, "rampart_live_plot")]  # type: ignore[arg-type]


def points(trace: dict) -> list[str]:
    return [text.split("<br>")[0] for text in trace.get("hovertext", [])]


def test_an_empty_folder_gives_the_first_page(empty: Path) -> None:
    page = open_page("pareto")
    assert not page.exception and page.button(key="first_run_launch")


def test_a_folder_without_attacks_explains_what_will_be_here(empty: Path) -> None:
    sample_runs.write_failed_search(empty)
    page = open_page("pareto")
    assert not page.exception and "No attacked network yet" in text_of(page)


def test_the_two_plots_say_what_they_show(samples: Samples) -> None:
    page = open_page("pareto")
    assert not page.exception
    networks, epochs = figures(page)
    assert "test split" in networks["layout"]["yaxis"]["title"]["text"]
    assert epochs["layout"]["yaxis"]["title"]["text"] == "Adversarial accuracy, alphas split, batch statistics (%)"
    text = text_of(page)
    assert "95 % Wilson intervals" in text and "A point is a checkpoint, not its method" in text
    assert "4 searches: Digits 8x8 · " in text


def test_networks_of_other_fingerprints_are_never_drawn_together(samples: Samples) -> None:
    sample_runs.write_finished_attack(samples.root, "20261118-0920-attack-digits-7f41", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 900, epsilon=8 / 255)
    page = open_page("pareto")
    box = page.selectbox(key="pareto.group")
    assert any("epsilon 8/255" in name for name in box.options) and any("epsilon 0.15" in name for name in box.options)
    for group in session.run_log().pareto_networks()["group"].unique():
        page.session_state["pareto.group"] = group
        page.run()
        drawn = {run[0] for trace in figures(page)[0]["data"] for run in trace.get("customdata", [])}
        assert len(drawn) == 1


def test_networks_of_unequal_size_are_said_to_be_while_both_are_shown(samples: Samples) -> None:
    assert "differ in size" not in text_of(open_page("pareto"))
    # The weaker network is dominated: hiding it removes the difference in size from the plot.
    sample_runs.write_finished_attack(samples.root, "20261118-0921-attack-digits-7f42", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 901, macs=526_000_000, autoattack=9)
    session.hub().refresh()
    page = open_page("pareto")
    frame = session.run_log().pareto_networks()
    page.session_state["pareto.group"] = frame[frame["attack"] == "autoattack"]["group"].iloc[0]
    assert "These networks differ in size: 1.2 million to 526 million MACs. Retrain with matched MACs" in text_of(page.run())
    page.toggle(key="pareto.dominated").set_value(False).run()
    assert not page.exception and "differ in size" not in text_of(page)


def test_front_and_dominated_points_and_the_toggle() -> None:
    figure = networks_figure(NETWORKS, "PGD-20")
    assert [trace.name for trace in figure.data if trace.name] == ["on the front", "dominated"]
    figure = networks_figure(NETWORKS, "PGD-20", dominated=False)
    assert [trace.name for trace in figure.data if trace.name] == ["on the front"]


def test_bars_are_the_intervals_and_hover_gives_them_in_words() -> None:
    trace = next(trace for trace in networks_figure(NETWORKS, "PGD-20").data if trace.name == "dominated")
    assert abs(trace.error_y.array[0] - 10) < 1e-9 and abs(trace.error_x.arrayminus[0] - 2) < 1e-9
    assert "natural 89.0 % (87.0 to 92.0 %), 360 images" in trace.hovertext[0]
    assert "PGD-20 45.0 % (35.0 to 55.0 %), 64 images" in trace.hovertext[0]


def test_colour_and_size_follow_a_quantity_and_methods_differ_in_shape_too() -> None:
    figure = networks_figure(NETWORKS, "PGD-20", size="parameters", colour="macs")
    assert list(figure.data[1].marker.color) == [1e6, 2e6, 3e6]
    assert figure.data[1].marker.size[1] > figure.data[1].marker.size[0] == SMALLEST
    methods = [trace for trace in networks_figure(NETWORKS, "PGD-20", colour="method").data if trace.name]
    assert {trace.name for trace in methods} == {"arnas", "random"}
    assert len({trace.marker.symbol for trace in methods}) == 2


def test_each_point_carries_its_badge_with_the_reasons() -> None:
    """The glyph stands beside the name, the reasons are in the hover text, and markup in them stays text."""
    frame = NETWORKS.assign(badge=["green", "amber", "red"],
                            badge_reasons=["12 checks passed.", "Steps: 3 < 5.", "A: bad.\nB: worse."])
    texts = {name: text for trace in networks_figure(frame, "PGD-20").data if trace.name
             for name, text in zip(trace.text, trace.hovertext, strict=True)}
    assert list(texts) == ["A\u00a0✓", "B\u00a0!", "C\u00a0✕"]
    assert "✓ Green: 12 checks passed." in texts["A\u00a0✓"] and "! Amber: Steps: 3 &lt; 5." in texts["B\u00a0!"]
    assert "✕ Red: A: bad. B: worse." in texts["C\u00a0✕"] and "L∞ 0.15, fingerprint f00d" in texts["C\u00a0✕"]


def test_with_many_networks_only_doubtful_ones_are_marked() -> None:
    """More names than fit leave the glyphs of badges that are not green."""
    many = pd.concat([NETWORKS.assign(run=str(number), natural=0.5 + number / 100, badge="red" if number == 3 else "green")
                      for number in range(5)])
    assert {text for trace in networks_figure(many, "PGD-20").data if trace.name for text in trace.text} == {"", "✕"}


def test_a_point_of_several_networks_describes_each() -> None:
    """The browser shows one text of points that coincide: it names the first three networks and counts the others."""
    same = pd.concat([NETWORKS.iloc[:1].assign(label=f"N{number}") for number in range(5)])
    (text,) = {text for trace in networks_figure(same, "PGD-20").data if trace.name for text in trace.hovertext}
    assert [f"<b>N{number}</b>" in text for number in range(5)] == [True] * 3 + [False] * 2 and "and 2 more networks" in text


def test_axes_give_radius_and_images() -> None:
    """A saved figure says on how many images and at which radius its accuracies are."""
    layout = networks_figure(NETWORKS, "PGD-20").layout
    assert layout.yaxis.title.text == "PGD-20 accuracy, L∞ 0.15, 64 images of the test split (%)"
    assert layout.xaxis.title.text == "Natural accuracy, 360 images of the test split (%)"


def test_the_badge_of_the_page_is_that_of_the_list_of_runs(samples: Samples) -> None:
    sample_runs.write_checks(sample_runs.EventsFile(samples.root / samples.ids["attack"]), gradients="failed")
    page = open_page("pareto")
    assert not page.exception and "✓ green, ! amber, ✕ red" in text_of(page)
    assert any("✕ Red: Gradients: Gradients was measured." in text for trace in figures(page)[0]["data"]
               for text in trace.get("hovertext", []))
    box = page.selectbox(key="pareto.group")
    assert box.options[0].startswith("Worst case")


def test_unknown_sizes_do_not_break_the_plot() -> None:
    assert marker_sizes([None, float("nan")]) == [12.0, 12.0]
    assert marker_sizes([1.0, None, 3.0])[1] == SMALLEST


def test_a_trail_per_search_with_its_latest_epoch_filled() -> None:
    frame = pd.DataFrame([("run-a", "A", epoch, .5 + epoch / 10, .3 + epoch / 10, "PGD-7", 8 / 255) for epoch in (1, 2, 3)],
                         columns=["run", "label", "epoch", "natural", "adversarial", "attack_title", "epsilon"])
    (trace,) = epochs_figure(frame, "Adversarial").data
    assert "natural 60.0 %<br>PGD-7, epsilon 8/255: 40.0 %<br>alphas split, batch statistics, not a result" in trace.hovertext[0]
    assert trace.name == "A" and list(trace.marker.symbol) == ["circle-open", "circle-open", "circle"]

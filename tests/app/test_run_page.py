"""The Run page on runs that a test writes or changes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from streamlit.testing.v1 import AppTest

from app import session
from engine import requests
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, run_tabs, text_of


def write_further_attack(samples: Samples, end: str, parent: str, finding: str) -> str:
    """Write another attack run, on the network of `parent` or of another retraining, with a further check."""
    run = sample_runs.write_finished_attack(samples.root, f"20261118-0920-attack-digits-{end}", parent=parent, autoattack=20,
                                            created=sample_runs.START + 20)
    sample_runs.write_checks(sample_runs.EventsFile(samples.root / run), gradients=finding)
    return run


def outcomes_of(test: AppTest) -> tuple[list[str], list[str]]:
    """Return the HTML of the attack tables outside and inside the expander of the chain's other attack runs."""
    def tables(elements: Iterable[Any]) -> list[str]:
        return [element.proto.body for element in elements if "Accuracy under each attack" in element.proto.body]

    (*_, inside) = [[], *(tables(box.get("html")) for box in test.expander if "of this chain" in box.label)]
    return [one for one in tables(test.get("html")) if one not in inside], inside


def test_an_attack_run_shows_its_own_results_and_others_of_the_chain_on_demand(samples: Samples):
    other = write_further_attack(samples, "0d01", samples.ids["retrain"], "failed")
    for run, correct, badge in ((samples.ids["attack"], "36.6 to 60.4 %", "green"), (other, "21.2 to 43.4 %", "red")):
        test = open_page("run", id=run)
        (own,), (others,) = outcomes_of(test)
        assert not test.exception and correct in own and f'data-badge="{badge}"' in own and f"robustness?run={run}" in own
        assert correct not in others and "Attack run <a" in others and "Attack run <a" not in own
    assert "Gradients: Gradients was measured." in own  # the reasons, in the tooltip of the badge


def test_an_attack_run_without_results_says_so_before_the_others(samples: Samples):
    run = sample_runs.write_run_json(samples.root, "20261118-0922-attack-digits-0d04", "attack", parent=samples.ids["retrain"],
                                     created=sample_runs.START + 30)
    sample_runs.write_exit(run, sample_runs.EventsFile(run), code=1, status="failed", cause="Out of memory.")
    test = open_page("run", id=run.name)
    own, (others,) = outcomes_of(test)
    assert not test.exception and not own and "The attack failed. The reason is above." in text_of(test)
    assert samples.ids["attack"] in others


def test_a_retraining_shows_the_attack_on_its_own_network(samples: Samples):
    sibling = "20261118-0919-retrain-digits-0d02"
    sample_runs.write_finished(folder := sample_runs.write_run_json(
        samples.root, sibling, "retrain", parent=samples.ids["search"], created=sample_runs.START + 9),
        sample_runs.EventsFile(folder))
    test = open_page("run", id=sibling)
    own, (others,) = outcomes_of(test)
    assert not test.exception and not own and "Not attacked yet" in text_of(test)
    assert f"on the network of {samples.ids['retrain']}" in others
    write_further_attack(samples, "0d03", sibling, "warning")
    session.hub().refresh()
    (own,), (others,) = outcomes_of(open_page("run", id=sibling))
    assert "0d03" in own and 'data-badge="amber"' in own and samples.ids["attack"] in others
    (own,), (others,) = outcomes_of(open_page("run", id=samples.ids["search"]))  # a search shows the newest
    assert "0d03" in own and samples.ids["attack"] in others


def test_a_hand_made_network_says_what_it_is_where_others_show_cells(samples: Samples):
    for run in sample_runs.write_hand_made(samples.root):
        test = open_page("run", id=run)
        words = text_of(test)
        assert not test.exception and not component_data(test, "rampart_cell_graph")
        assert "<b>ResNet-18</b> is hand-made" in words and "64, 128, 256, 512 channels" in words
        assert "AutoAttack" in words and "11.2 million parameters" in words


def test_a_comparison_shows_its_verdict_in_place_of_accuracies(samples: Samples):
    run = sample_runs.write_comparison(samples.root, parent=samples.ids["resumed"], against=samples.ids["attack"])
    test = open_page("run", id=run)
    words = text_of(test)
    assert not test.exception and "decided after 46 of 360 images: Other is more robust than ARNAS on these test images" in words
    assert "No accuracy was measured" in words and "No attack measured yet" not in words


def test_running_search_shows_progress_and_can_be_stopped_twice(samples: Samples):
    run = samples.ids["running"]
    test = open_page("run", id=run)
    words = text_of(test)
    assert 'data-status="running"' in words and "13 of 40 steps" in words and 'data-measured="546"' in words
    test.button(key="run_stop").click().run()
    assert requests.status(samples.root, run).status == "stopping"
    assert test.button(key="run_force").label == "Kill now"
    test.button(key="run_force").click().run()
    assert (samples.root / run / "control" / "force").exists() or list((samples.root / run / "control").glob("force*"))


def test_run_that_has_written_nothing_yet_says_what_will_come(samples: Samples):
    run = "20261118-0950-arnas-digits-0e0e"
    sample_runs.write_run_json(samples.root, run, "search", created=time.time())
    tabs = run_tabs(run)
    assert not any(tab.exception for tab in tabs.values())
    assert "No architecture weights yet" in text_of(tabs["alphas"]) and "No genotype yet" in text_of(tabs["genotype"])
    assert "The log is empty" in text_of(tabs["log"])


def test_a_run_launched_this_very_moment_is_shown_before_the_thread_has_looked(samples: Samples):
    open_page("runs")
    session.hub().close()  # as on a machine too busy to run the thread
    run = "20261118-0951-arnas-digits-0e0f"
    sample_runs.write_run_json(samples.root, run, "search", created=time.time())
    words = text_of(open_page("run", id=run))
    assert "cannot be shown" not in words and 'data-status="queued"' in words


def test_corrupt_run_is_a_sentence_and_other_runs_are_untouched(samples: Samples):
    test = open_page("run", id=samples.ids["corrupt"])
    assert not test.exception and "run.json" in text_of(test)
    assert not open_page("run", id=samples.ids["search"]).exception


def test_corrupt_event_lines_cost_only_themselves(samples: Samples):
    run = samples.ids["search"]
    with (samples.root / run / "events.jsonl").open("a") as file:
        file.write('{"event":"metric","t":1,"attempt":1,"step":\n{"event":"alpha","cell":3}\n')
    test = open_page("run", id=run)
    assert not test.exception and "AutoAttack" in text_of(test)

"""The tabs of the Run page in every state of a run: the sentence at their head, and what the best and the imported runs say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.formats import escape
from engine.architecture.catalogue import find_genotype
from engine.exchange import entry
from engine.insight.sentences import sentence
from tests import sample_runs
from tests.app import pages
from tests.app.conftest import Samples, runs_folder
from tests.app.pages import text_of
from tests.engine.exchange.public_files import search_log


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samples]:
    """One runs folder for the module, with runs in every state, an imported log and a random search."""
    folder = tmp_path_factory.mktemp("tabs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for root in runs_folder(folder / "runs", monkeypatch):
            ids = sample_runs.write_sample_runs(root) | {"random": sample_runs.write_random_search(root)}
            (folder / "a<b>.txt").write_text(search_log([find_genotype("RACL"), find_genotype("DARTS_V2")]))
            yield Samples(root, ids | {"imported": entry.take(root, folder / "a<b>.txt")})


@cache
def opened(run: str, tab: str) -> AppTest:
    """A tab of a run as it opens; no test of this module changes it."""
    return pages.open_page("run", id=run, tab=tab)


def told(test: AppTest) -> list[str]:
    """Return the sentences at the heads of a tab's panels, as HTML."""
    return re.findall(r'<p class="rp-told">([^<]*)</p>', text_of(test))


@pytest.mark.parametrize(("role", "tab", "panel"), [
    *((role, "overview", "overview") for role in ("search", "running", "failed", "imported", "random", "attack")),
    ("running", "alphas", "alphas"), ("search", "settings", "settings"), ("search", "lineage", "lineage"),
    ("random", "candidates", "candidates")])
def test_the_head_of_a_tab_says_what_is_seen_now(runs: Samples, role: str, tab: str, panel: str) -> None:
    test = opened(runs.ids[role], tab)
    words = sentence(session.run_log(), runs.ids[role], panel)
    if role == "running" and panel == "overview":  # the time left passes between page and test
        assert words.startswith("Running after 13 of 40 steps") and told(test)[0].startswith("Running after 13 of 40 steps")
    else:
        assert words and told(test) == [escape(words)]
    assert not test.exception


def test_a_random_search_leads_with_its_best_candidate_and_its_interval(runs: Samples) -> None:
    shown = re.search(r'<div class="rp-figures">.*', text_of(opened(runs.ids["random"], "overview")))
    assert shown is not None
    words = re.sub(r"<[^>]*>", " ", shown.group())
    # Candidate 3 has 60 and 31 right of 64, and the newest one 41 and 12.
    assert "93.8 %" in words and "48.4 %" in words and "64.1 %" not in words and "18.8 %" not in words
    assert "36.6 to 60.4 %, under PGD-10, not a result" in words
    assert "Best of 4 candidates: candidate 3, select split, running statistics, 64 images." in words


def test_the_head_of_an_imported_run_has_no_empty_pill(runs: Samples) -> None:
    for role in ("imported", "search"):
        tags = re.findall(r'<span class="rp-tag">([^<]*)</span>', text_of(opened(runs.ids[role], "overview")))
        assert tags and all(tag.strip() for tag in tags) and "preset" not in tags
    assert "preset quick" in tags

"""Filters on the list of runs: words and expressions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from engine.errors import ConfigError
from engine.log import RunLog
from engine.log.filtering import EXAMPLES, NAMES, matching, matching_words
from engine.run.marks import change_tags, set_archived, set_note


@pytest.fixture(scope="module")
def listed(shared_log: RunLog) -> pd.DataFrame:
    return shared_log.runs()


def found(runs: pd.DataFrame, expression: str) -> set[str]:
    return {run.split("-")[2] + run[-4:] for run in runs["id"][matching(runs, expression)]}


@pytest.mark.parametrize(("expression", "runs"), [
    ('method == "arnas" and robust > 0.4', {"attack7f3c"}),
    ("robust < 0.4", set()),  # figures of other splits are not results
    ("robust_guide > 0.4 and kind == 'retrain'", {"retrain7f3b", "retrain0a04"}),
    ("chain_robust > 0.4", {"arnas7f3a", "retrain7f3b", "attack7f3c"}),
    ('status in ("failed", "stopped")', {"arnas0a02", "arnas0a03"}),
    ('"clipped" in title', {"arnas0a02"}),
    ("not (kind == 'search') and 2 * parameters > 8e4", {"retrain7f3b", "retrain0a04", "attack7f3c"}),
    ("natural - robust > 0.3", {"attack7f3c"}),
    ("seed == 2 and kind != 'search'", {"retrain7f3b", "retrain0a04"}),
    ("", {"arnas7f3a", "retrain7f3b", "attack7f3c", "arnas0a01", "arnas0a02", "arnas0a03", "retrain0a04"}),
    ("1 > 2", set()),
])
def test_an_expression_selects_runs(listed: pd.DataFrame, expression: str, runs: set[str]) -> None:
    assert found(listed, expression) == runs


@pytest.mark.parametrize(("expression", "sentence"), [
    ("robst > 0.4", r"knows no name robst; the names are id, .*Did you mean robust\?"),
    ("method == arnas", 'Texts need quotes: "arnas"'),
    ('robust > "0.4"', "compares a text with a number"),
    ("method ==", "cannot be read; write texts in quotes"),
    ('method = "arnas"', "assignments \\(== means equal\\)"),
    ('open("/etc/passwd")', "function calls"),
    ("title.__class__", "attributes"),
    ("tags[0]", "subscripts"),
    ("2 ** 9 ** 9", "Pow"),
    ("[one for one in tags]", "ListComp"),
    ("lambda: 1", "Lambda"),
    ('f"{id}" == ""', "JoinedStr"),
    ("seed is True", "Is expressions"),
    ("1 / 0 > 1", "division by zero"),
    ('"a" * 999999 * 999999 == title', "cannot be evaluated"),
    ("(" * 400 + "1" + ")" * 400, "cannot be read|cannot be evaluated"),
    ("1 < " * 400 + "2", "at most 1,000 characters"),
])
def test_everything_else_is_refused_with_a_sentence(listed: pd.DataFrame, expression: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        matching(listed, expression)


def test_every_name_and_every_example_can_be_used(listed: pd.DataFrame) -> None:
    for expression in (*NAMES, *EXAMPLES):
        assert len(matching(listed, expression)) == len(listed)


def test_an_unknown_name_is_found_without_any_run(listed: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="no name robst"):
        matching(listed.iloc[:0], "robst > 1")
    assert matching(listed.iloc[:0], "robust > 1").empty


def test_marks_reach_the_index_and_its_filters(log: RunLog, ids: dict[str, str], root: Path) -> None:
    revision = log.events_revision()
    change_tags(root, ids["search"], ["baseline", "b2"])
    set_note(root, ids["failed"], "Ask for MORE memory")
    set_archived(root, ids["stopped"], True)
    log.ingest()
    assert log.events_revision() != revision
    runs = log.runs().set_index("id", drop=False)
    assert runs.loc[ids["search"], "tags"] == "b2 baseline" and runs.loc[ids["retrain"], "tags"] == ""
    assert list(runs["id"][runs["archived"]]) == [ids["stopped"]]
    assert found(runs, '"baseline" in tags') == {"arnas7f3a"} and found(runs, '"base" in tags') == set()
    assert list(runs["id"][matching_words(runs, "more MEMORY")]) == [ids["failed"]]
    (root / ids["search"] / "marks.json").unlink()
    log.ingest()
    assert log.run(ids["search"])["tags"] == ""


def test_columns_say_how_a_run_was_made(listed: pd.DataFrame, shared_log: RunLog) -> None:
    rows = listed.set_index("kind")
    assert rows.loc["attack", "protocol_title"].startswith("L∞ 0.15, 360 images")
    assert rows.loc["attack", "protocol"] == shared_log.evaluations()["protocol"].iloc[0]
    assert set(rows.loc["search", "protocol"]) == {""} and set(rows["device"]) == {"cpu"}
    assert (listed.loc[listed["status"] == "running", "duration_s"] > 0).all()

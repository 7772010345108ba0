"""Steps on the Run page: to the neighbouring runs and epochs, and to a smaller batch after a lack of memory."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from app.components.run_neighbours import neighbours
from engine.files import atomic_write_json
from engine.run.folder import read_json
from tests.app.conftest import Samples
from tests.app.pages import open_page, text_of


def test_neighbours_are_next_in_the_list_of_runs() -> None:
    assert neighbours("b", ["a", "b", "c"]) == ("a", "c")
    assert neighbours("a", ["a", "b"]) == (None, "b")
    assert neighbours("b", ["a", "b"]) == ("a", None)
    assert neighbours("x", ["a", "b"]) == (None, None)


def test_buttons_with_keys_open_the_neighbouring_runs(samples: Samples) -> None:
    test = open_page("run", id=samples.ids["failed"])
    assert (test.button(key="run_newer").proto.shortcut, test.button(key="run_older").proto.shortcut) == ("k", "j")
    test.button(key="run_older").click().run()
    assert test.query_params["id"] in (samples.ids["running"], [samples.ids["running"]])
    test.button(key="run_newer").click().run()
    assert test.query_params["id"] in (samples.ids["failed"], [samples.ids["failed"]]) and not test.exception


def test_epochs_step_by_button_and_stop_at_the_ends(samples: Samples) -> None:
    test = open_page("run", id=samples.ids["search"], tab="alphas")
    earlier, later = test.button(key="run_epoch_earlier"), test.button(key="run_epoch_later")
    assert (earlier.proto.shortcut, later.proto.shortcut) == ("h", "l") and later.disabled
    earlier.click().run()
    assert test.select_slider[0].value == 3 and "Epoch 3" in text_of(test)
    test.button(key="run_epoch_later").click().run()
    assert test.select_slider[0].value == 4 and not test.exception


def links(samples: Samples) -> Mapping[str, str]:
    """Return {label: query} of the links on the page of the run that ran out of memory."""
    test = open_page("run", id=samples.ids["failed"])
    assert not test.exception and "Resume repeats the step that did not fit" in text_of(test)
    return {link.proto.label: link.proto.query_string for link in test.get("page_link")}


def test_a_lack_of_memory_offers_half_the_batch(samples: Samples) -> None:
    assert links(samples)["Clone with half the batch"] == f"from={samples.ids['failed']}&batch_size=20"


@pytest.mark.parametrize("size", [1, "unknown"])
def test_a_batch_that_cannot_be_halved_is_not_offered(samples: Samples, size: int | str) -> None:
    path = samples.root / samples.ids["failed"] / "run.json"
    document = read_json(path)
    atomic_write_json(path, document | {"config": document["config"] | {"batch_size": size}})
    assert "Clone with half the batch" not in links(samples)


def test_another_failure_offers_no_other_batch(samples: Samples) -> None:
    for name in ("events.jsonl", "exit.json"):
        path = samples.root / samples.ids["failed"] / name
        path.write_text(path.read_text(encoding="utf-8").replace("Out of memory", "Out of disk"), encoding="utf-8")
    assert "half the batch" not in text_of(open_page("run", id=samples.ids["failed"]))

"""The Log tab of the Run page: a long log, its filter, and the whole file."""

from __future__ import annotations

import re

from app.downloads import file_at
from tests.app.conftest import Samples
from tests.app.pages import component_data, download_labels, open_page, text_of


def test_a_long_log_is_cut_found_in_full_and_downloaded_whole(samples: Samples) -> None:
    run = samples.ids["running"]
    lines = ["the first line of all", *(f"epoch {number}: loss {number / 7:.3f}" for number in range(20_000))]
    (samples.root / run / "log.txt").write_text("\n".join(lines), encoding="utf-8")
    test = open_page("run", id=run, tab="log")
    (shown,) = component_data(test, "rampart_log_tail")
    assert shown["text"].split("\n") == lines[-300:] and "The last 300 lines. The file holds all lines." in text_of(test)
    assert download_labels(test) == ["Download log.txt"]
    (address,) = re.findall(r'href="(files/[^"]*log.txt)"', text_of(test))
    file = file_at(address)
    assert file is not None and file.name == f"{run}-log.txt" and file.make() == "\n".join(lines).encode()
    test.text_input(key="run_log_filter").set_value("FIRST line").run()
    assert [data["text"] for data in component_data(test, "rampart_log_tail")] == [lines[0]]  # far before the last lines
    test.text_input(key="run_log_filter").set_value("no such text").run()
    assert component_data(test, "rampart_log_tail")[0]["text"] == "No line contains this text." and not test.exception

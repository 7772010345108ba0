"""What the pictures of the documents show: pages, their addresses, what a user does on them, and where they are cut."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import FloatRect, Page, expect

from engine.architecture.catalogue import find_genotype
from engine.log.sql_examples import EXAMPLES
from tests.browser.conftest import settle
from tests.engine.exchange.public_files import printed

PATIENCE_MS = 60_000
EDGE = 26  # pixels above the first and the last heading of a picture

# Runs of the example that ships with Rampart.
STUDY = "20261126-0830-random-digits-4495"
SEARCHES = ",".join(f"20261126-{name}" for name in ("0830-arnas-digits-290a", "0830-arnas-digits-d5b5",
                                                    "0916-arnas-digits-8f34", "0916-arnas-digits-2d96"))
WIDE, ADVRUSH, ARNAS = (f"20261126-{name}" for name in ("0830-attack-digits-d1d2", "0901-attack-digits-bed5",
                                                         "0838-attack-digits-e0ed"))


def nothing(page: Page) -> None:
    """Leave the page as it opens."""


@dataclass(frozen=True)
class Picture:
    """A picture of a part of a page.

    Attributes:
        name: the files are docs/pictures/<name>-light.png and <name>-dark.png.
        address: the page and its choices; {search}, {retrain} and {attack} stand for the runs of the command's own chain.
        height: height of the picture in pixels, if the heading `last` does not come earlier.
        first: heading with which the picture begins; "" for the top of the page.
        last: heading before which the picture ends; "" for none.
        act: what a user does on the page first.
        width: width of the browser's window in pixels.
    """

    name: str
    address: str
    height: int
    first: str = ""
    last: str = ""
    act: Callable[[Page], None] = nothing
    width: int = 1440

    def clip(self, page: Page) -> FloatRect:
        """Return the part of the page that the picture shows, in pixels."""
        width, whole = page.evaluate("[innerWidth, innerHeight]")
        top = _top(page, self.first) if self.first else 0
        bottom = min(top + self.height, whole)
        if self.last:
            bottom = min(bottom, _top(page, self.last))
        return {"x": 0, "y": top, "width": width, "height": bottom - top}


def _top(page: Page, title: str) -> float:
    """Return the y coordinate at which a picture is cut above a heading."""
    place = page.get_by_role("heading", name=title, exact=True).first
    expect(place).to_be_visible(timeout=PATIENCE_MS)
    box = place.bounding_box()
    assert box is not None  # it is visible
    return max(0.0, box["y"] - EDGE)


def select_second_waiting(page: Page) -> None:
    """Select a waiting run, so that the buttons that move it can be used."""
    page.get_by_role("table", name="Waiting runs").get_by_role("row").nth(4).click()
    expect(page.get_by_role("button", name="First", exact=True)).to_be_enabled(timeout=PATIENCE_MS)


def show_commands(page: Page) -> None:
    """Unfold the commands below the buttons of a finished run."""
    page.get_by_text("The same by command").click()
    expect(page.get_by_text("--form safetensors")).to_be_visible(timeout=PATIENCE_MS)


def tick_three_runs(page: Page) -> None:
    """Tick the first three rows of the list of runs."""
    boxes = page.get_by_role("table", name="Runs").get_by_role("checkbox")
    for number in (1, 2, 3):
        boxes.nth(number).click()
    expect(page.get_by_text("3 runs selected")).to_be_visible(timeout=PATIENCE_MS)


def run_query(page: Page) -> None:
    """Run the query in the editor."""
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("button", name="CSV")).to_be_visible(timeout=PATIENCE_MS)


def swap_an_operation(page: Page) -> None:
    """Put another operation on an edge of the robust cell, and wait for the accuracy with inherited weights."""
    page.get_by_role("figure").filter(has_text="Robust cell").locator("text[data-edge='3']").click()
    page.wait_for_url("**edge=robust.3**", timeout=PATIENCE_MS)
    settle(page)
    page.get_by_role("combobox", name="Operation").fill("average")
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Accuracy with inherited weights")).to_be_visible(timeout=PATIENCE_MS)


def import_genotype(page: Page) -> None:
    """Import a file with the published cells of ARNAS."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genotypes.py"
        path.write_text(f"ARNAS = {printed(find_genotype('ARNAS'))}\n", encoding="utf-8")
        page.set_input_files("input[type=file]", str(path))
        go = page.get_by_role("button", name="Import", exact=True)
        expect(go).to_be_enabled(timeout=PATIENCE_MS)
        go.click()
        expect(page.get_by_role("link", name="Open the run")).to_be_visible(timeout=PATIENCE_MS)


TABS = ("overview", "alphas", "genotype", "objectives", "trade-off", "samples", "system", "log", "settings", "lineage")
WIDTHS = (1440, 1024)

# Of a chain that the command launches: while its search runs, and once all its runs have ended.
WHILE_RUNNING = (
    Picture("queue", "queue", 1200, last="Slots", act=select_second_waiting),
    Picture("slots", "queue", 800, first="Slots"),
    Picture("live", "run?id={search}", 1760),
)
AFTER_CHAIN = (
    Picture("run", "run?id={search}", 1500, last="Natural versus adversarial"),
    Picture("export", "run?id={retrain}", 446, first="Take it with you", act=show_commands),
    Picture("attack", "robustness?run={attack}", 720, first="Gallery"),
    Picture("whatif", "architectures?show={search}", 1700, last="Size", act=swap_an_operation),
    *(Picture(f"tab-{tab}-{width}", f"run?id={{search}}&tab={tab}", 1800, width=width) for tab in TABS for width in WIDTHS),
)
OF_CHAIN = (*WHILE_RUNNING, *AFTER_CHAIN)
PICTURES = (
    *OF_CHAIN,
    Picture("launch", "launch?seeds=0-4&methods=dsara,pcdarts", 1200, last="Command"),
    Picture("settings", "launch?find=epsilon&open=search,retrain,attack", 900, first="Settings", last="Command"),
    Picture("studies", "studies", 1200),
    Picture("study", f"study?id={STUDY}", 1500, last="Natural against robust accuracy"),
    Picture("contrasts", f"study?id={STUDY}", 1600, first="Contrasts", last="Notes"),
    Picture("runs", "runs", 1000, act=tick_three_runs),
    Picture("filter", f"runs?group=study&sort=-adversarial&where={quote('robust > 0.7')}", 1000),
    Picture("pareto", f"pareto?selected={ADVRUSH},{ARNAS}", 1500, last="Selected networks"),
    Picture("compare", f"compare?runs={SEARCHES}", 1500, last="Parallel coordinates"),
    Picture("robustness", "robustness", 1200),
    Picture("tests", f"robustness?compare={WIDE},{ADVRUSH},{ARNAS}", 1200, first="Comparison", last="Cells side by side"),
    Picture("architectures", "architectures", 1300),
    Picture("datasets", "datasets", 1150),
    Picture("sql", f"sql?sql={quote(EXAMPLES['Mean over seeds'])}", 1240),
    Picture("import", "import", 1200, act=import_genotype),
)

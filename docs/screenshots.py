"""The pictures of the documents, made by one command from real runs: `make screenshots`, or `python -m docs.screenshots`.

The command fills a temporary runs folder with the example that ships with Rampart and with a chain of its own, starts the
dashboard over it, and photographs each page and each tab of a run in the light and in the dark theme. It takes about a quarter of
an hour on two CPU cores.
`python -m docs.screenshots NAME ...` makes only the pictures with these names. What a picture shows is in `docs/gallery.py`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image  # comes with Streamlit
from playwright.sync_api import Browser, Page, sync_playwright

from docs.gallery import AFTER_CHAIN, OF_CHAIN, PICTURES, WHILE_RUNNING, Picture
from engine import api
from engine.files import atomic_write_bytes
from engine.run.events import read_events
from engine.run.folder import RunFolder
from tests.browser import chromium
from tests.browser.conftest import ROOT, Dashboard, end_processes_of, settle, start_dashboard

FOLDER = Path(__file__).parent / "pictures"
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TALLEST = 10_000  # pixels of the browser's window
COLOURS = 256
TRIES, PAUSE_S = 8, 0.4  # a page that still changes after this many checks is live and captured as it is
EPOCHS_SHOWN = 6  # of the running search
WHOLE = "document.querySelector('[data-testid=stMain]').scrollHeight"
IN_THEME = "(theme) => getComputedStyle(document.querySelector('.stApp')).colorScheme === theme"


@dataclass(frozen=True)
class Studio:
    """A copy of the code with a runs folder of its own, so that the commands on pages are those of a new installation."""

    root: Path

    @property
    def runs(self) -> Path:
        """The runs folder."""
        return self.root / "runs"

    def rampart(self, *words: str) -> str:
        """Return what a command prints.

        Raises:
            SystemExit: the command failed.
        """
        line = [sys.executable, "-m", "engine", *words]
        done = subprocess.run(line, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"`rampart {' '.join(words)}` failed, so no further picture was made: {done.stderr.strip()}")
        return done.stdout

    def ids(self, *words: str) -> list[str]:
        """Return the ids of the runs that a launch has made."""
        return list(json.loads(self.rampart(*words, "--json"))["ids"])


@contextmanager
def studio() -> Iterator[Studio]:
    """Make a studio in a temporary folder with the example in it, and remove it with all its processes at the end."""
    with tempfile.TemporaryDirectory(prefix="rampart-") as folder:
        root = Path(folder)
        for name in ("app", "engine"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        made = Studio(root)
        made.runs.mkdir()
        try:
            made.rampart("study", "example")
            yield made
        finally:
            end_processes_of(made.runs)


@contextmanager
def browsing(runs: Path, root: Path) -> Iterator[tuple[Dashboard, Browser]]:
    """Start the dashboard and a browser, and end both afterwards."""
    server = start_dashboard(runs, checkout=root)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium.install(), args=chromium.FLAGS)
            yield server, browser
            browser.close()
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)


def photograph(browser: Browser, url: str, picture: Picture, known: Mapping[str, str]) -> None:
    """Open a page, do what the picture needs, and write it in both themes.

    Args:
        browser: the browser.
        url: address of the dashboard.
        picture: what to show.
        known: {name in braces: text that takes its place in the picture's address}.

    Raises:
        SystemExit: the page shows an error.
    """
    page = browser.new_page(viewport={"width": picture.width, "height": 1000}, color_scheme="light", bypass_csp=True)
    try:
        page.goto(f"{url}/{picture.address.format(**known)}")
        settle(page)
        picture.act(page)
        settle(page)
        page.set_viewport_size({"width": picture.width, "height": min(page.evaluate(WHOLE), TALLEST)})
        settle(page)
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            page.wait_for_function(IN_THEME, arg=theme)
            content = steady(page, picture)
            refuse_errors(page, picture)
            target = FOLDER / f"{picture.name}-{theme}.png"
            atomic_write_bytes(target, small(content))
            print(f"{target.relative_to(ROOT)}  {target.stat().st_size / 1000:.0f} kB", flush=True)
    finally:
        page.close()


def steady(page: Page, picture: Picture) -> bytes:
    """Return the picture as PNG once the page has stopped to move, or after `TRIES` looks."""
    shot = page.screenshot(clip=picture.clip(page))
    for _ in range(TRIES):
        time.sleep(PAUSE_S)
        before, shot = shot, page.screenshot(clip=picture.clip(page))
        if shot == before:
            break
    return shot


def refuse_errors(page: Page, picture: Picture) -> None:
    """Refuse a page with an exception.

    Raises:
        SystemExit: with a sentence that names the picture.
    """
    broken = page.locator('[data-testid="stException"]').count() or page.get_by_text("Traceback").count()
    if broken or page.get_by_role("heading", name="This page cannot be shown").count():
        words = " ".join(page.locator('[data-testid="stMain"]').inner_text().split())[:300]
        raise SystemExit(f"The page {picture.address} shows an error, so {picture.name} was not written: {words}")


def small(content: bytes) -> bytes:
    """Return a PNG with at most `COLOURS` colours."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    written = io.BytesIO()
    image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


def genotypes(run: RunFolder) -> int:
    """Return the number of genotypes that a search has derived so far."""
    return sum(event["event"] == "genotype" for event in read_events(run.events)[0])


def running(place: Studio, browser: Browser, url: str, names: Sequence[str]) -> dict[str, str]:
    """Launch a chain, make the pictures of its search while it runs, and return the ids of its runs once they have ended.

    Raises:
        SystemExit: a run of the chain failed.
    """
    chain = place.ids("search", "--method", "arnas", "--then", "retrain,attack", "--seed", "7")
    known = dict(zip(("search", "retrain", "attack"), chain, strict=True))
    waiting = place.ids("search", "--method", "dsara", "--seeds", "0-1", "--then", "retrain,attack")
    while genotypes(RunFolder(place.runs, chain[0])) < EPOCHS_SHOWN:
        time.sleep(1)
    for picture in WHILE_RUNNING:
        if picture.name in names:
            photograph(browser, url, picture, known)
    for run in waiting:
        place.rampart("stop", run)
    place.rampart("trash", *waiting)
    place.rampart("delete", "--all", "--yes")
    states = api.wait(chain, runs=place.runs)
    if failed := [f"{run} {state.status}: {state.cause}" for run, state in states.items() if state.status != "finished"]:
        raise SystemExit(f"The chain of the pictures must finish, but {'; '.join(failed)}.")
    return known


def main() -> None:
    """Make the pictures that the command line names, or all of them."""
    names = sys.argv[1:] or [one.name for one in PICTURES]
    if unknown := set(names) - {one.name for one in PICTURES}:
        raise SystemExit(f"There is no picture {', '.join(sorted(unknown))}; known: {', '.join(one.name for one in PICTURES)}.")
    # With this, the commands on pages begin with `rampart`.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    FOLDER.mkdir(exist_ok=True)
    with studio() as place, browsing(place.runs, place.root) as (server, browser):
        for picture in PICTURES:
            if picture.name in names and picture not in OF_CHAIN:
                photograph(browser, server.url, picture, {})
        if any(picture.name in names for picture in OF_CHAIN):
            known = running(place, browser, server.url, names)
            for picture in AFTER_CHAIN:
                if picture.name in names:
                    photograph(browser, server.url, picture, known)


if __name__ == "__main__":
    main()

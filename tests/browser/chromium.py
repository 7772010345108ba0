"""Finds the Chromium that the browser tests drive, and installs it when there is none.

`python -m tests.browser.chromium` is what `make setup` calls: an installed Chromium is taken; else, as root on Debian or
Ubuntu, apt installs it; else Playwright downloads its own. When none of these works it says so and fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Needed on machines without a GPU and inside containers; nothing may leave the loopback interface during tests.
FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


def executable() -> str | None:
    """Path of an installed Chromium or Chrome, or of Playwright's own; None when there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        path = shutil.which(name)
        # Ubuntu's chromium-browser without snap is a script that only tells people to install the snap.
        if path and _answers(path):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    # A download without the system libraries it needs is there, but does not start.
    return path if Path(path).exists() and _answers(path) else None


def install() -> str:
    """Ensure that Chromium is installed; return its path.

    Raises:
        SystemExit: with a sentence, when none can be had.
    """
    path = executable()
    if path:
        return path
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Chromium by apt (half a minute) ...", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
                       check=False, **quiet)
        path = executable()
        if path:
            return path
    print("Downloading Playwright's Chromium ...", flush=True)
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    path = executable()
    if path is None:
        raise SystemExit("The browser tests need Chromium: none is installed, apt could not install it and Playwright could "
                         "not download it. Install the package 'chromium' and run again.")
    return path


@contextmanager
def launched(parser: argparse.ArgumentParser) -> Iterator[Browser]:
    """Yield a browser for a measurement. Without Chromium, end the command with an error of its parser."""
    from playwright.sync_api import sync_playwright

    path = executable()
    if path is None:
        parser.error("Chromium is needed; `make setup` installs it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, "--disable-gpu"])
        yield browser
        browser.close()


def _answers(path: str) -> bool:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and any(word in answer.stdout for word in ("Chromium", "Chrome"))


if __name__ == "__main__":
    install()

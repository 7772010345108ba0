"""Checks of the names in a study and its runs, which pages and reports show in one line. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.errors import ConfigError, shortened
from engine.study.declaration import Study

# Characters that break a line of a report or change the order in which it is shown: control characters, bidi controls.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
RULE = "must be text in one line without control characters"


def check_names(study: Study) -> None:
    """Check the question and the names of the arms and attacks of a study.

    Raises:
        ConfigError: one of them contains a control character.
    """
    named = {"question": [study.question], "arms": [arm.name for arm in study.arms], "attacks": list(study.attacks)}
    for entry, texts in named.items():
        for text in texts:
            if UNPRINTABLE.search(text):
                raise ConfigError(problems={entry: f"{entry} of a study {RULE}, got {shortened(text)}; remove them."})


def check_run_names(run: Mapping[str, Any]) -> None:
    """Check the title, the method and the preset in run.json, which pages show as names.

    Raises:
        ConfigError: one of them contains a control character.
    """
    for name in ("title", "method", "preset"):
        if UNPRINTABLE.search(text := str(run.get(name) or "")):
            raise ConfigError(f"{name} of the run {run['id']} {RULE}, got {shortened(text)}; remove them.")

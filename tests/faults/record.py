"""The outcomes of cases, kept in a file, so that a command that was interrupted goes on where it ended."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

WRONG = "WRONG"  # the outcome of a case that must not be


class Record:
    """Outcomes of cases by part, for example "damage".

    Attributes:
        outcomes: {part: {case: {outcome: count}}}.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read the outcomes in the file `path`, if it exists. New ones are appended to it. With None, they are kept in memory."""
        self.path = path
        self.outcomes: dict[str, dict[str, Counter[str]]] = {}
        if path and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                found = json.loads(line)
                self._keep(found["part"], found["case"], Counter(found["outcome"]))

    def attempt(self, part: str, case: str, attempt: Callable[[], Counter[str]]) -> None:
        """Try a case that has no outcome yet or a wrong one, and record its outcome. An error is the outcome `WRONG`."""
        if WRONG not in self.outcomes.get(part, {}).get(case, {WRONG: 1}):
            return
        try:
            outcome = attempt()
        except Exception:  # noqa: BLE001 - the other cases are tried nevertheless
            outcome = Counter({WRONG: 1})
            traceback.print_exc()
        self._keep(part, case, outcome)
        print(f"{part}: {case}: {', '.join(f'{count} {name}' for name, count in outcome.items())}", flush=True)
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"part": part, "case": case, "outcome": outcome}) + "\n")

    def _keep(self, part: str, case: str, outcome: Counter[str]) -> None:
        self.outcomes.setdefault(part, {})[case] = outcome

    def counts(self, part: str) -> Counter[str]:
        """Return {outcome: count} of all cases of a part."""
        return sum(self.outcomes.get(part, {}).values(), Counter[str]())

    def wrong(self) -> list[str]:
        """Return the cases whose outcome is wrong."""
        return [f"{part}: {case}" for part, cases in self.outcomes.items() for case, found in cases.items() if WRONG in found]

    def table(self) -> str:
        """Return a Markdown table of the numbers of cases and outcomes."""
        rows = [f"| {part} | {len(cases)} | {', '.join(f'{count} {name}' for name, count in self.counts(part).most_common())} |"
                for part, cases in self.outcomes.items()]
        return "\n".join(["| part | cases | outcomes |", "|---|---|---|", *rows])

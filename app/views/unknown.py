"""The page shown for an unknown address, such as a mistyped one."""

from __future__ import annotations

from app.components.states import RUNS_PAGE, empty_state, heading

heading("No page has this address")
empty_state("Nothing is here", "The address may be mistyped. All pages are listed at the top.",
            link=RUNS_PAGE, link_label="Go to Runs")

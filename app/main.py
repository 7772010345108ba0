"""The entry point of the dashboard. It draws the frame of every page and routes to the pages in `views/`.

`serve.py` starts it. The environment variable RAMPART_RUNS names the runs folder.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `streamlit run` adds only the folder of this file
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from app import session, theme  # noqa: E402
from app.access import identity  # noqa: E402
from app.components.alert_list import bell  # noqa: E402
from app.components.connection import connection_notice  # noqa: E402
from app.components.downloads import handle_downloads  # noqa: E402
from app.components.live import expect_launch, live_panel  # noqa: E402
from app.components.states import first_run, heading, problem  # noqa: E402
from app.formats import escape, markdown  # noqa: E402
from app.launching import START  # noqa: E402
from engine import acts  # noqa: E402
from engine.configuring import preset_values  # noqa: E402
from engine.errors import RampartError  # noqa: E402
from engine.run.folder import run_ids  # noqa: E402
from engine.run.trash import trash_of  # noqa: E402

HERE = Path(__file__).parent
# Without an entry of ours, Streamlit hides the menu, and with it the choice of the theme.
ABOUT = ("**Rampart**, a studio for robust neural architecture search. It runs on this machine, and nothing leaves it. "
         "`rampart --help` lists the commands; the folder `docs` explains them.")
# Pages that create the first run, or that show why there is none yet.
WITHOUT_RUNS = ("launch", "studies", "study", "architectures", "import", "datasets")


def pages() -> dict[str, st.Page]:
    """Return all pages in the order of the navigation bar. To add a page, add its file to `views/` and one line here."""
    return {
        # Streamlit serves the default page only at "/". Making it a separate page lets every other page keep its own address.
        "home": st.Page(home, title="Rampart", default=True, visibility="hidden"),
        "launch": st.Page(HERE / "views/launch.py", title="Launch", url_path="launch"),
        "studies": st.Page(HERE / "views/studies.py", title="Studies", url_path="studies"),
        "study": st.Page(HERE / "views/study.py", title="Study", url_path="study", visibility="hidden"),
        "runs": st.Page(HERE / "views/runs.py", title="Runs", url_path="runs"),
        "queue": st.Page(HERE / "views/queue.py", title="Queue", url_path="queue"),
        "run": st.Page(HERE / "views/run.py", title="Run", url_path="run"),
        "architectures": st.Page(HERE / "views/architectures.py", title="Architectures", url_path="architectures"),
        "pareto": st.Page(HERE / "views/pareto.py", title="Pareto", url_path="pareto"),
        "compare": st.Page(HERE / "views/compare.py", title="Compare", url_path="compare"),
        "robustness": st.Page(HERE / "views/robustness.py", title="Robustness", url_path="robustness"),
        "datasets": st.Page(HERE / "views/datasets.py", title="Datasets", url_path="datasets"),
        "sql": st.Page(HERE / "views/sql.py", title="SQL", url_path="sql"),
        "import": st.Page(HERE / "views/imports.py", title="Import results", url_path="import"),
    }


def with_unknown(known: dict[str, st.Page]) -> dict[str, st.Page]:
    """Return the pages `known`. If the requested address names none of them, the page `views/unknown.py` is added.

    Without that page, Streamlit would open a dialog.
    """
    asked = urlsplit(st.context.url or "").path.strip("/")
    if not re.fullmatch(r"[\w-]+", asked) or asked in (page.url_path for page in known.values()):
        return known
    return known | {"unknown": st.Page(HERE / "views/unknown.py", title="Unknown page", url_path=asked, visibility="hidden")}


def home() -> None:
    """Redirect the address "/", which names no page, to the Runs page."""
    st.switch_page(HERE / "views/runs.py")


@live_panel("runs", key="welcome")
def welcome() -> None:
    """Show the welcome page. Once the runs folder contains a run, rerun the script, which then shows the other pages."""
    if has_runs():
        st.rerun()
    first_run()


def has_runs() -> bool:
    """Return True if the runs folder or its trash contains a run."""
    root = session.runs_root()
    return bool(run_ids(root)) or bool(run_ids(trash_of(root)))


@live_panel("loading", key="loading")
def loading() -> None:
    """Show how many runs have been read since the server was started, until all have been read."""
    if (state := session.hub().loading) is not None:
        done, total = state
        st.progress(done / max(1, total), f"Reading the runs: {done:,} of {total:,}. The page fills up meanwhile." if done < total
                    else "All runs have been read. Alerts and studies follow in a moment.")


def notice() -> None:
    """Show a notice below the page if the run log's index has a problem or is in use by another dashboard."""
    log = session.run_log()
    if log.trouble:
        st.warning(markdown(log.trouble))
    elif log.holder:
        st.caption(f"Another dashboard (process {log.holder}) holds the index of these runs, so this one keeps its own in "
                   "memory. Both show the same runs.")


def signed_in() -> None:
    """Show the user and a link to log out, if the dashboard has a login. Explain the role to a user who may change nothing."""
    who = identity.user()
    if who is None:
        return
    with st.container(key="rp-user"):
        st.html(f'<span class="rp-label"><b>{escape(who.name)}</b> {escape(who.role or "logged out")} · '
                '<a href="/logout" target="_self">Log out</a></span>')
    if acts.why_not("runner"):
        st.caption(f"Your role is {markdown(who.role or 'none')}: you can look at everything, and change nothing. An "
                   "administrator can give you the role runner.")


def main() -> None:
    """Show the current page in its frame. A RampartError is shown as a sentence, not as a traceback."""
    st.set_page_config(page_icon=str(HERE / "assets" / "icon.svg"), layout="wide", menu_items={"About": ABOUT})
    theme.apply()
    st.logo(HERE / "assets" / "rampart.svg", size="large")
    page = st.navigation(list(with_unknown(pages()).values()), position="top")
    st.set_page_config(page_title="Rampart" if page.title == "Rampart" else f"{page.title} · Rampart")
    connection_notice()
    handle_downloads()
    try:
        session.prepare_static()
        with st.container(key="rp-bell"):
            bell()
        signed_in()
        if page.url_path not in WITHOUT_RUNS and not has_runs():
            welcome()
            expect_launch(preset_values(START.kind, START.method, START.dataset, START.preset)["threads"])
        else:
            session.run_log()
            if session.hub().loading is not None:
                loading()
            page.run()
            notice()
    except RampartError as error:
        heading("This page cannot be shown")
        problem(str(error))


main()

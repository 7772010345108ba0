"""The page Import results. It turns files written by the code of other projects into runs, and shows what was read from them.

No code in a file is executed.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.html_table import StaticColumn, code, html_table, with_label
from app.components.import_items import Answers, answered, ask, choose_files
from app.components.import_result import result
from app.components.progress import progress_html
from app.components.states import heading, section, small_heading
from app.importing import Imports, Item
from engine.acts import require
from engine.command import program

POLL_S = 0.4  # seconds between two checks of a running import
KINDS = (
    ("Genotype", "genotypes.py, arch.json",
     "ARNAS = Genotype(accurate=[('sep_conv_3x3', 0), …], accurate_concat=[2, 3, 4, 5], …)",
     "A finished search: retrain its genotype."),
    ("Log of a search", "log.txt",
     "epoch 49 lr 1.0e-03\ngenotype = Genotype(normal=[('skip_connect', 0), …], normal_concat=range(2, 6), …)",
     "A finished search with a genotype per epoch: replay it, retrain the last genotype."),
    ("Curves of E2RNAS's search", "alphas_normal.npy and alphas_reduce.npy",
     "float array [epochs, 14, 8]: softmax weights, \"none\" first",
     "A finished search with its architecture weights per epoch."),
    ("Checkpoint", "model_best.pth.tar, weights.pt",
     "{\"state_dict\": {\"module.stem.0.weight\": tensor[192, 3, 3, 3], \"module.cells.0.…\": …}}",
     "A finished retraining: attack it. It must be a state dict of the DARTS family (DARTS, AdvRush, ARNAS). Width, depth and "
     "classes come from the tensors; prefixes and the auxiliary head are removed."),
)


def work() -> Imports | None:
    """Return the imports most recently started in this browser tab, or None if there are none. They may still be running."""
    return st.session_state.get("import.work")


def imported() -> dict[tuple[object, ...], str]:
    """Return {`Item.key` of an item: id of the new run} for all items that this browser tab has imported."""
    runs: dict[tuple[object, ...], str] = st.session_state.setdefault("import.imported", {})
    return runs


def controls() -> list[Item]:
    """Show the inputs for files, the questions about the files and the Import button. Return the items that can be imported."""
    chosen = choose_files()
    runs = session.run_log().runs()
    answers = ask(chosen.items, runs) if chosen.items else Answers()
    problem = chosen.problem or answers.problem
    items = [] if problem or not chosen.items else answered(chosen.items, answers)
    left = [item for item in items if item.key not in imported()]
    _button(items, left, problem)
    return items


def _button(items: Sequence[Item], left: Sequence[Item], problem: str) -> None:
    current = work()
    busy = current is not None and current.running
    label = f"Import {len(left)} files" if len(left) > 1 else "Import"
    if act_button(label, type="primary", key="import.go", icon=":material/upload_file:", width="stretch",
                 disabled=bool(problem) or busy or not left):
        require("runner" if all(item.files for item in left) else "admin")
        st.session_state["import.work"] = Imports(session.runs_root(), left)
        st.rerun()
    if busy:
        st.fragment(watch, run_every=POLL_S)()
    elif problem:
        st.markdown(":red[:material/block: Before you can import:]")
        st.text(problem)
    elif items and not left:
        st.caption("Already imported; the run is below. To import again, choose another file or change an answer.")
    elif len(left) < len(items):
        st.caption(f"{len(items) - len(left)} of {len(items)} files are already imported and will be skipped.")


def commands(items: Sequence[Item]) -> None:
    """Show the commands that import the chosen files in the same way as the Import button."""
    small_heading("Command")
    st.code("\n".join(f"{program()} {shlex.join(['import', *item.arguments])}" for item in items), language="bash",
            wrap_lines=True)
    if any(item.files for item in items):
        st.caption("Run it in Rampart's folder, with the uploaded file in it.")
    else:
        st.caption("Run it in Rampart's folder.")


def watch() -> None:
    """Show the progress of the running imports. If none is running any more, rerun the whole page."""
    current = work()
    if current is None or not current.running:
        st.rerun()
        return
    item, done = current.current, len(current.outcomes)
    seconds = int(time.monotonic() - current.started)
    st.html(progress_html(title="Import", done=done, total=len(current.items), unit="files",
                          detail=f"reading {item.name if item else ''}, {seconds} s"))
    st.button("Stop", key="import.stop", icon=":material/stop:", on_click=current.stop,
              help="Stops the current import and skips the rest. Runs that are already imported are kept.")


def results() -> None:
    """Show the results of the most recent imports, with refused imports first. Show nothing while imports are running."""
    current = work()
    if current is None or current.running:
        return
    section("What was read")
    _remember(current)
    for number, outcome in enumerate(sorted(current.outcomes, key=lambda one: not one.refusal)):
        result(outcome, key=f"import_{number}", unfolded=len(current.outcomes) == 1)


def _remember(current: Imports) -> None:
    new = {outcome.item.key: outcome.run for outcome in current.outcomes if outcome.run}
    if not new.keys() <= imported().keys():
        session.hub().refresh()  # so that the run log knows the new runs at once
        imported().update(new)
        st.rerun()


def what_can_be_imported() -> None:
    """Show a table of the kinds of file that can be imported. Each row gives an example and the run that the import creates."""
    section("What can be imported")
    columns: tuple[StaticColumn[tuple[str, str, str, str]], ...] = (
        StaticColumn("File", lambda kind: with_label(kind[0], kind[1], strong=True), names_row=True),
        StaticColumn("Looks like", lambda kind: code(kind[2])), StaticColumn("Becomes", lambda kind: kind[3]))
    st.html(html_table(columns, KINDS, label="Files that can be imported", look="rp-wrap rp-examples"))


def promises() -> None:
    """Show a list of the things that an import does and does not do."""
    small_heading("What an import does")
    st.html('<ul class="rp-promises"><li>A separate process reads the file as text, arrays or tensors. Nothing in it is executed.'
            "</li><li>A file that does not fit is refused with the reason, and nothing is written.</li>"
            "<li>The run is marked as imported on every page. Accuracies measured elsewhere are not imported: attack the network "
            "here to measure them.</li></ul>")


heading("Import results", "Turn files written by public code into runs: DARTS, AdvRush, ARNAS, DSARA, E2RNAS.")
left, right = st.columns([3, 2], gap="large")
with left:
    items = controls()
with right:
    with st.container(border=True):
        promises()
    if items:
        commands(items)
results()
what_can_be_imported()

"""Import: files of public code become runs, with what was understood of them; nothing in them is executed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

import streamlit as st

from app import session
from app.components.formats import escape
from app.components.import_items import Answers, answered, ask, choose_files
from app.components.import_result import result
from app.components.progress import progress_html
from app.components.states import heading, section
from app.importing import Imports, Item
from engine.command import program

LOOK_S = 0.4  # between two looks at a process at work
KINDS = (
    ("Genotype", "genotypes.py, arch.json",
     "ARNAS = Genotype(accurate=[('sep_conv_3x3', 0), …], accurate_concat=[2, 3, 4, 5], …)",
     "A finished search: retrain what it found."),
    ("Log of a search", "log.txt",
     "epoch 49 lr 1.0e-03\ngenotype = Genotype(normal=[('skip_connect', 0), …], normal_concat=range(2, 6), …)",
     "A finished search with a genotype per epoch: play it, retrain its last."),
    ("Curves of E2RNAS's search", "alphas_normal.npy and alphas_reduce.npy",
     "float array [epochs, 14, 8]: softmax weights, \"none\" first",
     "A finished search with its architecture weights per epoch."),
    ("Checkpoint", "model_best.pth.tar, weights.pt",
     "{\"state_dict\": {\"module.stem.0.weight\": tensor[192, 3, 3, 3], \"module.cells.0.…\": …}}",
     "A finished retraining: attack it. Prefixes and auxiliary heads are taken off; width, depth and classes are read off the "
     "tensors. A plain state dict of the DARTS family (DARTS, AdvRush, ARNAS)."),
)


def work() -> Imports | None:
    """What this tab imports or imported last."""
    return st.session_state.get("import.work")


def imported() -> dict[tuple[object, ...], str]:
    """Run ids of everything this tab has imported, by `Item.key`."""
    return st.session_state.setdefault("import.imported", {})


def controls() -> list[Item]:
    """Files, questions, and the button with what it waits for; returns what can be imported."""
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
    if st.button(label, type="primary", key="import.go", icon=":material/upload_file:", width="stretch",
                 disabled=bool(problem) or busy or not left):
        st.session_state["import.work"] = Imports(session.runs_root(), left)
        st.rerun()
    if busy:
        st.fragment(watch, run_every=LOOK_S)()
    elif problem:
        st.markdown(":red[:material/block: Import waits for this:]")
        st.text(problem)
    elif items and not left:
        st.caption("This is imported already; its run is below. Choose another file, or change an answer.")
    elif len(left) < len(items):
        st.caption(f"{len(items) - len(left)} of {len(items)} are imported already and are left out.")


def commands(items: Sequence[Item]) -> None:
    """The lines that do what the button does."""
    st.markdown("###### The same by command")
    st.code("\n".join(f"{program()} {shlex.join(['import', *item.arguments])}" for item in items), language="bash",
            wrap_lines=True)
    if any(item.files for item in items):
        st.caption("Run it in Rampart's folder, with the uploaded file in it.")
    else:
        st.caption("Run it in Rampart's folder.")


def watch() -> None:
    """The progress of the imports at work; draws the whole page anew once they are done."""
    current = work()
    if current is None or not current.running:
        st.rerun()
        return
    item, done = current.current, len(current.outcomes)
    seconds = int(time.monotonic() - current.started)
    st.html(progress_html(title="Import", done=done, total=len(current.items), unit="files",
                          detail=f"reading {item.name if item else ''}, {seconds} s"))
    st.button("Stop", key="import.stop", icon=":material/stop:", on_click=current.stop,
              help="Ends the reading; what is imported already stays, of the rest nothing is written.")


def results() -> None:
    """What became of the newest imports, refusals first."""
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
        session.hub().refresh()  # so that every page knows the runs
        imported().update(new)
        st.rerun()


def what_can_be_imported() -> None:
    """Each form with an example, and what it becomes."""
    section("What can be imported")
    rows = "".join(f'<tr><td><b>{escape(title)}</b><br><span class="rp-label">{escape(files)}</span></td>'
                   f'<td><code>{escape(example)}</code></td><td>{escape(becomes)}</td></tr>'
                   for title, files, example, becomes in KINDS)
    st.html('<table class="rp-table rp-wrap rp-examples"><thead><tr><th scope="col">File</th><th scope="col">Looks like</th>'
            f'<th scope="col">Becomes</th></tr></thead><tbody>{rows}</tbody></table>')


def promises() -> None:
    """What an import does and does not do."""
    st.markdown("###### What an import does")
    st.html('<ul class="rp-promises"><li>A file is read as text, arrays and tensors, in a process of its own: nothing in it is '
            "executed.</li><li>What does not fit is refused with a sentence, and nothing is written.</li>"
            "<li>The run is called imported everywhere. Accuracies that others measured are not taken over: attack the network "
            "here.</li></ul>")


heading("Import", "Files of public code (DARTS, AdvRush, ARNAS, E2RNAS) become runs like any other.")
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

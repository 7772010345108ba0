"""The accuracies of an architecture before and after the reader's changes, both with the weights of a search."""

from __future__ import annotations

import streamlit as st

from app import address, session
from app.components.html_table import Markup, StaticColumn, html_table, with_label
from app.drafts import Draft
from app.formats import dataset_title, duration, epsilon, escape, interval, percent
from app.inheriting import TASK, answer_or_task, searches_for
from app.measuring import Task
from engine.attack.statistics import wilson
from engine.whatif.question import SPLIT, Answer, Counts, Question, prepare

WORDS = "inherited weights, not a result"


def expect_question(draft: Draft) -> None:
    """Start the process that loads the weights of the chosen search, so that it is ready when the reader chooses an operation."""
    if searches := searches_for(draft.base, [draft.genotype]):
        prepare(session.runs_root(), address.chosen("weights", searches, next(iter(searches))))


def inherited(draft: Draft) -> None:
    """Show the accuracies of the unchanged and of the changed architecture with inherited weights.

    The measurement runs in a separate process and takes a few seconds. Its result is cached.
    """
    base, genotype = draft.base.genotype, draft.genotype
    searches = searches_for(draft.base, [base, genotype])
    if not searches:
        st.caption("No search that has ended here has weights for these cells, so no accuracy can be inherited. Retrain it to "
                   "measure it.")
        return
    titles = {run: f"{title} · {run}" for run, title in searches.items()}
    chosen = address.selectbox(st.container(), "Weights of", titles, name="weights", key="architectures.weights",
                               help="The accuracy is that of the supernet of this search when it computes only these operations.")
    answer = answer_or_task(Question(chosen, (base, genotype)))
    if isinstance(answer, Answer):
        _table(answer)
    elif answer.running:
        _waiting()
    elif answer.problem:
        st.html(f'<p class="rp-note">The accuracy could not be measured. {escape(answer.problem)}</p>')
        st.button("Measure again", key="architectures.again", on_click=st.session_state.pop, args=(TASK, None))


@st.fragment(run_every=0.5)
def _waiting() -> None:
    """Show the time since the measurement started. Rerun the page when the measurement has ended."""
    entry: tuple[Question, Task] | None = st.session_state.get(TASK)
    if entry is None or not entry[1].running:
        st.rerun()
        return
    st.caption(f":material/timer: Measuring with inherited weights, {duration(entry[1].seconds)} so far.")


def _table(answer: Answer) -> None:
    rows = list(zip(("Unchanged", "Changed"), answer.counts, strict=True))
    columns: tuple[StaticColumn[tuple[str, Counts]], ...] = (
        StaticColumn(WORDS.capitalize(), lambda row: row[0], names_row=True),
        StaticColumn("Natural", lambda row: _accuracy(row[1].natural_correct, row[1].images), right=True,
                     data=lambda row: {"natural_correct": row[1].natural_correct}),
        StaticColumn(f"PGD-{answer.steps}", lambda row: _accuracy(row[1].adversarial_correct, row[1].images), right=True,
                     data=lambda row: {"adversarial_correct": row[1].adversarial_correct}))
    images, data = answer.counts[0].images, dataset_title(answer.dataset)
    st.html(html_table(columns, rows, label="Accuracy with inherited weights", note=(
        f"{WORDS.capitalize()}: {images:,} images of the {SPLIT} split of {data}, batch statistics, L∞ "
        f"{epsilon(answer.epsilon)}; 95 % Wilson intervals. Nothing was trained, and accuracies near chance are common. To "
        "measure the architecture, retrain it and attack it."), facts={
            "images": images, "split": SPLIT, "dataset": answer.dataset, "epsilon": answer.epsilon, "pgd_steps": answer.steps}))


def _accuracy(correct: int, images: int) -> Markup:
    return with_label(percent(correct / images), interval(*wilson(correct, images)))

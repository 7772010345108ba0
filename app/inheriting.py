"""Accuracies with inherited weights for the Architectures page, measured in the background by one process at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import streamlit as st

from app import session
from app.measuring import Task
from engine.architecture.genotype import Genotype
from engine.report.architectures import Architecture
from engine.whatif.question import Answer, Question, answered, known, problem_of

MOST_SEARCHES = 30  # searches whose weights are offered, newest first
TASK = "architectures.inherited"  # in the session: the newest question and its task
_turn = threading.Lock()


def searches_for(base: Architecture, genotypes: Sequence[Genotype]) -> dict[str, str]:
    """Return {run id: title} of the searches whose weights all these architectures can inherit.

    The searches that found `base` come first, then the others, newest first.
    """
    runs = session.run_log().runs()
    runs = runs[(runs["kind"] == "search") & runs["status"].isin(["finished", "stopped"])]
    titles = dict(zip(runs["id"], runs["title"], strict=True))
    own = [use.run for use in base.searches if use.run in titles]
    root = session.runs_root()
    fit = (run for run in dict.fromkeys([*own, *titles]) if not any(problem_of(root, run, one) for one in genotypes))
    return {run: str(titles[run]) for run, _ in zip(fit, range(MOST_SEARCHES), strict=False)}


def answer_or_task(question: Question) -> Answer | Task:
    """Return the answer to a question, or the background task that measures the answer.

    Each browser tab has at most one task. A new question stops the task of the previous question.
    """
    root = session.runs_root()
    if (kept := known(root, question)) is not None:
        return kept
    before: tuple[Question, Task] | None = st.session_state.get(TASK)
    if before is not None and before[0] == question:
        return before[1]
    if before is not None:
        before[1].stop()

    def work(report: Callable[[str, int, int], None]) -> None:
        with _turn:
            report("", 0, 0)  # ends the work if the reader has left the question
            answered(root, question)

    task = Task(work)
    st.session_state[TASK] = (question, task)
    return task

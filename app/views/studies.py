"""The Studies page. It lists all studies with their answers, and launches new studies.

A new study answers a question that ships with Rampart, or is written by the user.
"""

from __future__ import annotations

import time

import streamlit as st

from app import address, session
from app.components.html_table import Markup, StaticColumn, html_table
from app.components.live import live_panel
from app.components.states import heading, section
from app.components.status import tag_html
from app.components.study_answer import answer_line_html, marks_html, study_chip_html
from app.components.study_editor import editor
from app.components.study_example import NOTICE, offer, removal
from app.components.study_questions import questions
from app.components.table import age_text
from app.formats import EMPTY, dataset_title, escape, markdown, plural, rounded
from app.studies import ACTIVE
from engine.study.overview import Overview

NEW = {"questions": "A question that ships with Rampart", "own": "Your own study"}
TONES = {"finished": "rp-good", "failed": "rp-bad", "stopped": "rp-warn"}


@live_panel("studies", key="studies_list")
def studies() -> None:
    """Show all studies, newest first, with their status and their answer so far."""
    everything = session.hub().studies.all()
    if not everything:
        offer()
        return
    readable = [one for one in everything if isinstance(one, Overview)]
    busy = sum(one.status in ACTIVE for one in readable)
    section(plural(len(everything), "study").replace("studys", "studies"), f"{busy} in progress" if busy else "")
    columns: tuple[StaticColumn[Overview], ...] = (
        StaticColumn("Question and answer", question_html, names_row=True, look="rp-name", data=lambda one: {
            "study": one.study.id, "question": one.study.question, "answer": one.answer.headline}),
        StaticColumn("Status", lambda one: Markup(study_chip_html(one.status)), data=lambda one: {"status": one.status}),
        StaticColumn("Cells", cells_html, data=lambda one: {"cells": len(one.results.cells), "cells_done": one.results.done}),
        StaticColumn("Time left", left_words, right=True, data=lambda one: {"time_left_s": one.left.seconds}),
        StaticColumn("Launched", lambda one: launched_words(one.study.created), right=True,
                     data=lambda one: {"created_unix_s": one.study.created}))
    st.html(html_table(columns, readable, label="Studies", look="rp-studies"))
    for sentence in everything:
        if isinstance(sentence, str):
            st.html(f'<div class="rp-problem" role="alert">{escape(sentence)}</div>')
    removal(readable)
    if not any(one.study.example for one in readable):
        offer()


def question_html(overview: Overview) -> Markup:
    """Return the question of a study as a link, with the answer below."""
    study = overview.study
    tags = "".join(tag_html(text) for text in (dataset_title(study.dataset), study.preset, study.size,
                                               "example" if study.example else "") if text)
    return Markup(f'<a href="study?id={escape(study.id)}" target="_self"><b>{escape(study.question)}</b></a>'
                  f'<div class="rp-row rp-studyanswer">{marks_html(overview)}<span>{answer_line_html(overview)}</span></div>'
                  f'<div class="rp-row rp-below">{tags}<span class="rp-label">{escape(study.id)}</span></div>')


def cells_html(overview: Overview) -> Markup:
    """Return the number of finished cells (repetitions of arms) of a study, with a bar."""
    done, total = overview.results.done, len(overview.results.cells)
    return Markup(f'<span class="rp-num">{done} of {total}</span><div class="rp-track rp-short" aria-hidden="true"><div '
                  f'class="rp-fill {TONES.get(overview.status, "")}" style="width:{100 * done / total:.0f}%"></div></div>')


def left_words(overview: Overview) -> str:
    """Return the time that a study still needs; a dash if it is not active."""
    return rounded(overview.left.seconds) if overview.status in ACTIVE and overview.left.seconds is not None else EMPTY


def launched_words(created: float) -> str:
    """Return how long ago a study was launched."""
    return f"{age_text(max(0.0, time.time() - created))} ago"


heading("Studies", "A study compares arms over several seeds and answers one question, with its statistics.")
if notice := st.session_state.pop(NOTICE, ""):
    st.success(markdown(notice), icon=":material/check:")
studies()
section("New study")
if address.segmented("New study", NEW, name="new", key="studies.new", label_visibility="collapsed") == "own":
    editor()
else:
    questions()

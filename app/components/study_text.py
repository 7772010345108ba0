"""The text of a user's own study. Before the launch, it is the only record of the study: form and text field both show this text.

The session keeps the text while the user visits other pages. The page's address keeps a compressed copy, so that the study
survives a reload of the page and can be shared as a link.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

import streamlit as st

from app import address, session
from app.components import study_draft
from app.components.study_questions import STARTED, study_of
from app.studies import as_text
from engine.data.catalogue import DATASETS
from engine.errors import RampartError
from engine.study.declaration import Study
from engine.study.folder import StudyFolder
from engine.study.questions import SIZES, recipes, sources_for

# In the session: the text, how often it was filled with another study's, the sentence about a file that could not be read,
# and (number of the form, text that it shows).
TEXT, FILLED, FILE_PROBLEM, FORM = "studies.text", "studies.filled", "studies.file_problem", "studies.form"
DRAFT = "draft"  # query parameter of the page's address
LONGEST_DRAFT = 6000  # characters in the page's address; a longer text is kept in the session only
LARGEST_TEXT = 200_000  # bytes that a draft in the page's address may unpack to
EXAMPLE = """\
question: Does a larger search space of widths help?
dataset: digits
preset: quick
search_seeds: 5          # or a list of seeds
retrainings: 2           # for each search seed
match: macs              # give all networks the size of the reference arm's
reference: Narrow
arms:
  - {name: Narrow, method: arnas}
  - name: Wide
    method: arnas
    search: {width_ratio: "1:2:4"}
contrasts: [[Wide, Narrow]]
margin: 0.01             # differences within 1 point do not matter
"""


def text() -> str:
    """Return the current text of the study in the editor. The session holds this text."""
    return str(st.session_state[TEXT])


def start() -> str:
    """Fill the editor with its initial text if needed. Return the study or question that the page's address names; "" for none.

    On the first visit, the text comes from the draft in the page's address or, without a draft, from `start_text`. On later
    visits the user's text stays, unless the page's address names another study or question, or the user has clicked a button
    that opens a copy.
    """
    asked = st.query_params.get("edit", "")
    kept = unpacked(st.query_params.get(DRAFT, "")) if TEXT not in st.session_state else ""
    if kept:
        st.session_state[STARTED], st.session_state[TEXT] = asked, kept
    elif TEXT not in st.session_state or (asked and st.session_state.get(STARTED) != asked):
        st.session_state[STARTED], st.session_state[TEXT] = asked, start_text(asked)
        st.session_state[FILLED] = st.session_state.get(FILLED, 0) + 1
    return asked


def keep() -> None:
    """Keep the text in the page's address. A text that is too long for it is kept in the session only."""
    written = packed(text())
    address.choose(**{DRAFT: written if len(written) <= LONGEST_DRAFT and text() != EXAMPLE else ""})


def packed(content: str) -> str:
    """Return a text in compressed form for the page's address."""
    return base64.urlsafe_b64encode(zlib.compress(content.encode(), 9)).decode().rstrip("=")


def unpacked(written: str) -> str:
    """Return the text that `packed` has compressed; "" if `written` does not come from `packed`."""
    try:
        content = base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))
        return zlib.decompressobj().decompress(content, LARGEST_TEXT).decode()
    except (ValueError, zlib.error):
        return ""


def start_text(asked: str) -> str:
    """Return the initial text of the editor: a stored study, the study of one of Rampart's own questions, or the example.

    If the study cannot be read, store the reason in the session and return the example.

    Args:
        asked: id of a stored study, or name of one of these questions; "" for the example.
    """
    try:
        if asked in recipes():
            size, dataset = (known if (known := st.query_params.get(name, default)) in registry else default for
                             name, default, registry in (("size", "demo", SIZES), ("dataset", "digits", DATASETS)))
            source = st.query_params.get("source") or sources_for(dataset)[0]
            return study_draft.write(study_of(asked, size, dataset, source))
        return as_text(StudyFolder(session.runs_root(), asked).read(), study_draft.ADDED) if asked else EXAMPLE
    except RampartError as refusal:
        st.session_state[FILE_PROBLEM] = str(refusal)
        return EXAMPLE


def open_file() -> None:
    """Replace the text of the study by the content of the uploaded file. If it is not text, store an error in the session."""
    file = st.session_state.get("studies.file")
    if file is None:
        return
    try:
        st.session_state[TEXT] = file.getvalue().decode("utf-8-sig")
    except UnicodeDecodeError:
        st.session_state[FILE_PROBLEM] = (f"{file.name} must be a text file in YAML or JSON and is not; export one from the page "
                                          "of a study.")


def number() -> int:
    """Return a number that is part of the keys of all widgets of the form.

    The number rises whenever the text has changed, unless `change` was called with `restart=False`. All widgets are then new and
    take their values from the text.
    """
    count, shown = st.session_state.get(FORM, (0, ""))
    if shown != text():
        count += 1
        st.session_state[FORM] = (count, text())
    return int(count)


def key(*parts: object) -> str:
    """Return the key of a widget of the form in the session.

    Args:
        parts: what identifies the widget, for example the position of an arm and "name".
    """
    return ".".join(map(str, (FORM, number(), *parts)))


def held(*parts: object) -> object:
    """Return the value of the widget whose key is `key(*parts)`; None if the session holds none."""
    return st.session_state.get(key(*parts))


def put(value: object, *parts: object) -> str:
    """Set the value that the widget with the key `key(*parts)` will show, and return this key.

    Call this before the widget is created.
    """
    name = key(*parts)
    if name not in st.session_state or st.session_state[name] != value:  # writing an equal value would undo typing
        st.session_state[name] = value
    return name


def change(make: Callable[[Study], Study], *, restart: bool = True) -> None:
    """Change the study, and write its new text.

    Args:
        make: function that takes the study and returns the changed one.
        restart: True if the form has to take the values of all widgets from the new text; False to leave them alone, because the
            user is typing into one of them.
    """
    count = number()
    before = study_draft.read(text())
    st.session_state[TEXT] = study_draft.write(study_draft.followed(before, make(before)))
    if not restart:
        st.session_state[FORM] = (count, text())

"""The inputs of the Import page: the choice of files, and the questions about the files.

In this module, a form is a kind of importable file, such as a checkpoint or a log. Each form has its own questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app import session
from app.components.source import genotype_source
from app.importing import Item, plain_name
from engine.acts import why_not
from engine.architecture.genotype import Genotype
from engine.architecture.placement import RULES, rules_for
from engine.command import ROOT
from engine.data.catalogue import DATASETS
from engine.errors import shortened
from engine.exchange.forms import CURVES, ENDINGS, FORMS, form_of

FORM_TITLES = {"genotype": "Genotype", "log": "Log of a search", "curves": "Curves of E2RNAS's search",
               "checkpoint": "Checkpoint"}
LARGEST_UPLOAD = 200  # MB; at most server.maxUploadSize in app/.streamlit/config.toml
PLACES = {"upload": "Drop files", "path": "Path on this machine"}


@dataclass(frozen=True)
class Chosen:
    """The files that the user has chosen to import.

    Attributes:
        items: one item per run to be created. They do not yet contain the user's answers to the page's questions.
        problem: one sentence that says why nothing can be imported yet, or "" if the files can be imported.
    """

    items: Sequence[Item] = ()
    problem: str = ""


@dataclass(frozen=True)
class Answers:
    """The user's answers to the questions about the files, as flags of `rampart import`.

    Attributes:
        flags: flags of `rampart import` with their values, keyed by form (kind of file).
        form: form that the user has chosen for a single file, or None if the file name determines it.
        problem: one sentence that says why nothing can be imported yet, or "" if nothing is missing.
    """

    flags: dict[str, list[str]] = field(default_factory=dict)
    form: str | None = None
    problem: str = ""


def choose_files() -> Chosen:
    """Show the control for uploading files or typing a path, and return the chosen files."""
    place = st.segmented_control("Where the files are", list(PLACES), format_func=PLACES.__getitem__, key="import.place",
                                 default="upload", required=True, label_visibility="collapsed", persist_state="session")
    if place == "path" and (reason := why_not("admin")):
        return Chosen(problem=f"A path can name any file of the server. {reason}")
    if place == "path":
        return named(st.text_input("Path of the file", key="import.path", persist_state="session",
                                   placeholder="/data/darts/eval-EXP/model_best.pth.tar", live="400ms",
                                   help="A file of any size on the machine that serves this page. For curves, give "
                                        f"{CURVES['normal']}.") or "")
    files = st.file_uploader("Files", accept_multiple_files=True, key="import.files", max_upload_size=LARGEST_UPLOAD,
                             help=f"At most {LARGEST_UPLOAD} MB each. Import larger files by their path.")
    return dropped(files or [])


def named(text: str) -> Chosen:
    """Return a `Chosen` with the file at a typed path on this machine.

    If the path is invalid, the `Chosen` contains no file but states the problem. If the text is empty, the `Chosen` contains
    neither a file nor a problem.
    """
    text = text.strip()
    if not text:
        return Chosen()
    try:
        path = Path(text).expanduser()
        if not path.is_absolute():
            raise ValueError
        status = path.stat() if path.exists() else None
    except (RuntimeError, ValueError, OSError):  # a home folder that does not exist, a NUL character or too long a name
        return Chosen(problem=f"The path must begin at the root and name a file, such as /data/log.txt, got {shortened(text)}; "
                              "give the full path.")
    # Modification time and size are part of the identity, so that a file that has changed can be imported again.
    version = (str(status.st_mtime_ns), str(status.st_size)) if status else ()
    return Chosen([Item(path.name, (str(path),), identity=(str(path), *version))])


def dropped(files: Sequence[UploadedFile]) -> Chosen:
    """Return a `Chosen` with one item to import per uploaded file.

    Exception: the curves of a search (its alphas in every epoch) consist of two files, which form one item. If one of the two is
    missing, `problem` says so.
    """
    items, curves = [], []
    for file in files:
        name = plain_name(file.name)
        if name in CURVES.values():
            curves.append((name, file))
        else:
            items.append(Item(name, (f"./{name}",), ((name, file.getvalue),), (file.file_id,)))
    if curves:
        if sorted(name for name, _ in curves) != sorted(CURVES.values()):
            return Chosen(items, f"Curves must be {' and '.join(CURVES.values())} of one search, got "
                                 f"{', '.join(name for name, _ in curves)}; drop both, one search at a time.")
        names = list(CURVES.values())
        items.append(Item(names[0], (f"./{names[0]}",), tuple((name, file.getvalue) for name, file in curves),
                          tuple(file.file_id for _, file in curves)))
    return Chosen(items)


def ask(items: Sequence[Item], runs: pd.DataFrame) -> Answers:
    """Show the questions about the chosen files and return the answers. The questions depend on the forms (kinds) of the files.

    Args:
        items: the chosen files, at least one.
        runs: table of all runs, from `RunLog.runs`. The genotypes of these runs are offered for a checkpoint.
    """
    single = items[0] if len(items) == 1 else None
    form = _form(single) if single else None
    forms = {form or form_of(item.name) for item in items}
    if None in forms:
        unknown = next(item.name for item in items if form_of(item.name) is None)
        advice = "choose what it is" if single else "import it alone and choose what it is"
        return Answers(problem=f"The ending of a file must tell what it is ({', '.join(ENDINGS)}), got {unknown}; {advice}.")
    flags: dict[str, list[str]] = {one: [] for one in FORMS}
    problem = ""
    left, right = st.columns(2)
    dataset = _dataset(left, needed="checkpoint" in forms, alone=len(forms) == 1)
    for one in FORMS:
        flags[one] += ["--dataset", dataset] if dataset else []
    if single:
        title = right.text_input("Title of the run", key="import.title", placeholder="from the file", live="400ms") or ""
        for one in FORMS:
            flags[one] += flag("title", title)
    # The field holds only one name, so it appears only if exactly one file is a genotype.
    if [form or form_of(item.name) for item in items].count("genotype") == 1:
        name = st.text_input("Name in the file", key="import.name", placeholder="for example DARTS_V2", live="400ms",
                             help="The genotype to import, if the file holds several.") or ""
        flags["genotype"] += flag("name", name)
    if "checkpoint" in forms:
        if not dataset:
            problem = "Choose the dataset that the network was trained on."
        extra, refusal = _of_checkpoint(runs)
        flags["checkpoint"] += extra
        problem = problem or refusal
    return Answers(flags, form, problem)


def flag(name: str, text: str) -> list[str]:
    """Return the arguments [--name, text], or [] if the text is empty.

    If the text begins with "-", return [--name=text] instead, so that the text is not mistaken for a flag.
    """
    text = text.strip()
    return [] if not text else [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _form(item: Item) -> str | None:
    """Show the selector of a file's form (kind of file) and return the selected form.

    Return None if the user has not selected a form. The form is then determined by the ending of the file name, if possible.
    """
    by_ending = form_of(item.name)
    options = [None, *FORMS] if by_ending else list(FORMS)
    return st.selectbox("What it is", options, index=0 if by_ending else None, key=f"import.form.{item.name}",
                        format_func=lambda form: f"{FORM_TITLES[form]}: {FORMS[form]}" if form else
                        f"{FORM_TITLES[str(by_ending)]}, by its ending", placeholder="Choose what it is")


def _dataset(column: DeltaGenerator, *, needed: bool, alone: bool) -> str | None:
    """Show the selector of the dataset and return the selected name, or None if none is selected.

    Args:
        column: container of the selector.
        needed: True if the files include a checkpoint, which requires a dataset.
        alone: True if all files are of the same kind, for example all checkpoints.
    """
    label = "Trained on" if needed and alone else "Searched or trained on"
    return column.selectbox(label, list(DATASETS), index=None, key="import.dataset", persist_state="session",
                            format_func=lambda name: DATASETS[name].title,
                            placeholder="Choose the dataset" if needed else "not known",
                            help="Required for a checkpoint: its classes and image channels must match." if needed else
                            "Optional: a genotype can be trained on any dataset.")


def _of_checkpoint(runs: pd.DataFrame) -> tuple[list[str], str]:
    """Show the questions about checkpoints and return the answers.

    The questions are about the genotype, the order of the cells in the network, and the normalisation of pixels in training.

    Returns:
        The answers as flags of `rampart import`, with their values.
        One sentence that says which answer is invalid or missing; "" if all answers are valid.
    """
    source = genotype_source(runs, key="import", preselect=False)
    flags = ["--genotype", str(source.changes.get("genotype", "")) or str(source.parent or "")]
    problem = source.problem
    if placement := _placement(source.genotype):
        flags += ["--placement", placement]
    numbers = {}
    for column, name, label in zip(st.columns(2), ("mean", "std"), ("Mean", "Standard deviation"), strict=True):
        text = column.text_input(f"{label} per channel", key=f"import.{name}", live="400ms",
                                 placeholder="none: pixels stayed in 0 to 1",
                                 help="Normalisation of pixels in 0..1 during training, one number per image channel, such as "
                                      "0.4914 0.4822 0.4465. It becomes part of the network, so that attacks work on pixels."
                                 ) or ""
        try:
            numbers[name] = [float(word) for word in text.replace(",", " ").split()]
        except ValueError:
            problem = problem or (f"{label} must be numbers separated by spaces, one per image channel, got {text!r}; correct "
                                  "it.")
    for name, values in numbers.items():
        flags += [f"--{name}", *map(repr, values)] if values else []
    return flags, problem


def _placement(genotype: Genotype | None) -> str:
    """Show the selector of a checkpoint's position rule and return the name of the selected rule.

    A position rule says which cell kind is used at which layer. Return "" if the user selects no rule. If at most one rule fits
    the genotype, show nothing and return "".
    """
    rules = [] if genotype is None else rules_for(genotype.kinds)
    if len(rules) < 2:
        return ""
    return st.selectbox("Placement of its cells", ["", *rules], key="import.placement", persist_state="session",
                        format_func=lambda name: RULES[name].title if name else "as in the genotype's run, else as published",
                        help="The order of the cell kinds, which a checkpoint does not contain."
                        "\n\n" + "\n\n".join(f"**{RULES[name].title}.** {RULES[name].text}" for name in rules))


def answered(items: Sequence[Item], answers: Answers) -> list[Item]:
    """Add the user's answers to the items, as arguments of `rampart import`, and return the new items.

    If the runs folder is not the default folder, its path is added to the arguments, too.
    """
    runs = [] if session.runs_root() == ROOT / "runs" else ["--runs", str(session.runs_root())]
    chosen = ["--as", answers.form] if answers.form else []
    return [replace(item, arguments=(*item.arguments, *chosen, *answers.flags[answers.form or str(form_of(item.name))], *runs))
            for item in items]

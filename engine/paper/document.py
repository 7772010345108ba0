"""The two files of a paper pack that list its other files: the LaTeX document and the README."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from engine.report.latex import escaped

ABOUT = {
    "methods": "what was done, in sentences made from the run log alone",
    "paper.tex": "all tables and figures in one document (`pdflatex paper.tex`)",
    "tables/": "results: LaTeX with booktabs, CSV with intervals and fingerprints at full precision",
    "cells/": "cells as PDF and SVG, genotypes as JSON, and as DOT for Graphviz",
    "curves/": "accuracy and loss as PDF, SVG and CSV; means over epochs, no results",
    "settings/": "all settings of every run, and what differs from the published ones",
    "commands.sh": "the command of every run",
    "hashes.json": "code, data, splits, packages and files of every run",
}


def latex_methods(sentences: Sequence[str]) -> bytes:
    """Return the methods paragraph as LaTeX, one sentence per line."""
    return ("\n".join(map(escaped, sentences)) + "\n").encode()


def document(title: str, names: Sequence[str]) -> bytes:
    """Return a LaTeX document that includes the methods, tables and figures of a pack.

    Args:
        title: title of the document.
        names: names of the pack's files.
    """
    tables = [name for name in names if name.startswith("tables/") and name.endswith(".tex")]
    figures = [name for name in names if name.endswith(".pdf")]
    lines = [r"\documentclass{article}", r"\usepackage[landscape,margin=15mm]{geometry}", r"\usepackage{booktabs,graphicx}",
             r"\extrafloats{100}", rf"\title{{{escaped(title)}}}", r"\date{}",
             r"\begin{document}", r"\maketitle", r"\sloppy", r"\section*{Methods}", r"\input{methods.tex}", r"\section*{Tables}",
             *(rf"\input{{{name}}}" for name in tables), r"\clearpage", r"\section*{Figures}"]
    for name in figures:
        lines += [rf"\noindent\includegraphics{{{name}}}\par\noindent{{\footnotesize {escaped(name)}}}\par",
                  r"\bigskip"]
    return "\n".join([*lines, r"\end{document}", ""]).encode()


def readme(title: str, runs: Sequence[str], files: Mapping[str, bytes]) -> bytes:
    """Return the README of a pack, which describes the files, lists the runs, and gives the SHA-256 of every file."""
    lines = [f"# {' '.join(title.split())}", "", "A paper pack written by Rampart.", "",
             *(f"* `{name}`: {text}" for name, text in ABOUT.items() if any(one.startswith(name) for one in files)), "",
             "## Runs", "", *(f"* {run}" for run in runs), "", "## Hashes", "",
             *(f"    {hashlib.sha256(content).hexdigest()}  {name}" for name, content in sorted(files.items())), ""]
    return "\n".join(lines).encode()

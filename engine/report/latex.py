"""A robustness table as a LaTeX table with booktabs rules, to paste into a paper.

The document needs `\\usepackage{booktabs}` and nothing else. Every text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.report.marks import best_run, comparison_text, doubts, letters_of, seeds_text
from engine.report.robustness import Distinctions, NetworkRow, RobustnessTable, SeedGroup
from engine.report.words import (
    count_text,
    fingerprints_text,
    interval_text,
    ledger_text,
    percent_text,
    printed_label,
    protocol_text,
)

_SPECIAL = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
            "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
            "|": r"\textbar{}", '"': "{''}", "'": "{'}", "`": "{`}", "[": "{[}", "]": "{]}", "*": "{*}",
            "\u00a0": "~", "\u2013": r"\textendash{}", "\u2014": r"\textemdash{}", "\u00b7": r"$\cdot$",
            "\u221e": r"$\infty$", "\u00d7": r"$\times$", "\u03b5": r"$\varepsilon$", "\u03bb": r"$\lambda$",
            "\u2212": "$-$", "\u00b1": r"$\pm$"}
DAGGER = r"$^{\dagger}$"
MISSING = "--"


def escaped(text: str) -> str:
    """Escape a text so that LaTeX prints the text literally in a cell, a caption or a paragraph.

    Line breaks become spaces. Characters for which LaTeX needs further packages become question marks. Latin letters with accents
    are kept.
    """
    plain = re.sub(r"\s*[\r\n]\s*", " ", text)
    safe = "".join(_SPECIAL.get(one, one if " " <= one <= "~" or "\u00c0" <= one <= "\u017f" else "?") for one in plain)
    return re.sub(r"-(?=-)", "-{}", safe)  # two hyphens would become a dash


def to_latex(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> bytes:
    """Return a robustness table as LaTeX.

    In each compared column, the accuracy of the best network is bold if paired tests tell this network apart from all others.
    Superscript letters show the paired comparison: networks that share a letter cannot be told apart. A dagger marks a network
    with doubtful results (its badge is not green).

    Args:
        table: the table.
        compared: paired comparisons of the networks, one for each column in which they are compared.
        openings: number of times that the test split was opened.
    """
    bold = {one.column: best_run(table, one) for one in compared}
    lines = [
        r"% Needs \usepackage{booktabs} in the preamble.",
        *([f"% {escaped(fingerprints_text(table))}"] if table.fingerprints else []), r"\begin{table}[t]",
        r"  \centering\footnotesize\setlength{\tabcolsep}{4pt}",
        f"  \\caption{{{_caption(table, compared, openings)}}}", f"  \\label{{tab:robustness-{_label(table.protocol)}}}",
        f"  \\begin{{tabular}}{{l{'r' * (len(table.columns) + 2)}}}", r"    \toprule", *_head(table), r"    \midrule"]
    for number, group in enumerate(table.groups):
        if number and (len(group.rows) > 1 or len(table.groups[number - 1].rows) > 1):
            lines.append(r"    \addlinespace")
        lines += [_network(table, row, compared, bold) for row in group.all_rows]
        lines += [_mean(table, group)] if len(group.rows) > 1 else []
    lines += [r"    \bottomrule", r"  \end{tabular}", *_notes(table), r"\end{table}", ""]
    return "\n".join(lines).encode()


def _caption(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> str:
    sentences = ["Accuracy in per cent, with 95 % Wilson intervals.", protocol_text(table), seeds_text(table),
                 comparison_text(table, compared), ledger_text(openings)]
    return escaped(" ".join(filter(None, sentences)))


def _head(table: RobustnessTable) -> list[str]:
    titles = ["Network", *(column.title for column in table.columns), "Parameters", "MACs"]
    images = ["", *(f"{column.images:,} images" if column.images else "" for column in table.columns), "", ""]
    return [_line([escaped(title) for title in titles]), _line([_small(escaped(one)) if one else "" for one in images])]


def _network(table: RobustnessTable, row: NetworkRow, compared: Sequence[Distinctions], bold: dict[str, str | None]) -> str:
    mark = DAGGER if row.badge.colour != "green" else ""
    figures = [_figure(row, column.name, letters_of(row, column.name, compared), bold.get(column.name) == row.run)
               for column in table.columns]
    sizes = [MISSING if size is None else escaped(count_text(size)) for size in (row.parameters, row.macs)]
    return _line([f"{escaped(printed_label(row))}{mark}", *figures, *sizes])


def _figure(row: NetworkRow, column: str, letters: str, bold: bool) -> str:
    measured = row.results.get(column)
    if measured is None:
        return MISSING
    figure = percent_text(measured.accuracy)
    if bold:
        figure = rf"\textbf{{{figure}}}"
    superscript = rf"$^{{\mathrm{{{letters}}}}}$" if letters else ""
    return f"{figure}{superscript} {_small('(' + interval_text(measured).replace(' to ', '--') + ')')}"


def _mean(table: RobustnessTable, group: SeedGroup) -> str:
    figures = []
    for column in table.columns:
        mean, spread = group.means.get(column.name), group.spreads.get(column.name)
        if mean is None or spread is None:
            figures.append(MISSING)
        else:
            figures.append(percent_text(mean) + " " + _small(rf"$\pm$ {percent_text(spread)}"))
    title = rf"\quad \emph{{{escaped(group.title)}, mean of {len(group.rows)} networks}}"
    return _line([title, *figures, "", ""])


def _notes(table: RobustnessTable) -> list[str]:
    notes = [f"  {{\\footnotesize {DAGGER}{escaped(note)}\\par}}" for note in doubts(table)]
    return [r"  \par\smallskip", *notes] if notes else []


def _small(text: str) -> str:
    return f"{{\\scriptsize {text}}}"


def _line(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "", text)

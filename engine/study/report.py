"""The report of a study as a file, in several formats. It has the question, the answer, and tables of the arms and contrasts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import ConfigError
from engine.registry import unknown_name
from engine.report import latex, markdown
from engine.report.words import count_text, plural_text
from engine.study.answer import Answer, conditions_text, endpoint_text
from engine.study.contrasts import Contrast, p_text, points_text
from engine.study.declaration import Study
from engine.study.means import Mean, intervals_text, mean_of
from engine.study.measures import further_results
from engine.study.parsing import exported
from engine.study.results import ArmResult, Results
from engine.study.sizes import ratio_text

CONTRAST_HEADERS = ("Contrast", "Search seeds", "Difference, points", "Welch interval", "Bootstrap interval", "p", "Adjusted p",
                    "MACs")
CONTRAST_WORDS = ("Contrasts: first minus second arm, in points, with 95 % intervals that are not adjusted. p is from the "
                  "permutation test, adjusted by Holm over all contrasts. MACs: mean of the first arm divided by that of the "
                  "second.")
MISSING = "\u2013"
BETWEEN = re.compile(r"(?<=\d) to (?=\d)")  # in an interval of two unsigned numbers
HEADERS = ("Arm", "Search seeds", "Endpoint", "Natural", "Parameters", "MACs", "Search time")


def seconds_text(seconds: float | None) -> str:
    """Format a duration for a table, for example as "4.2 min" or "1.3 h"; a dash if it is unknown."""
    if seconds is None:
        return MISSING
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def headers(results: Results) -> list[str]:
    """Return the column titles of `rows`: `HEADERS`, each further attack and, with a reference arm, the MACs ratio."""
    ratio = [f"MACs against {results.study.reference}"] if results.study.reference else []
    return [*HEADERS[:4], *further_results(results.study), *HEADERS[4:-1], *ratio, HEADERS[-1]]


def rows(results: Results) -> list[list[str]]:
    """Return the table of the arms: one row of texts per arm, with the columns that `headers` lists."""
    return [_row(results, arm) for arm in results.arms.values()]


def arm_means(results: Results, arm: ArmResult) -> list[Mean | None]:
    """Return the means that the table of the arms shows for one arm: endpoint, natural accuracy, and each further attack."""
    return [mean_of(arm.measured(name)) for name in ("endpoint", "natural", *further_results(results.study))]


def table_intervals(results: Results) -> str:
    """Return a text that names the kinds of interval in the table of the arms."""
    return intervals_text(mean for arm in results.arms.values() for mean in arm_means(results, arm))


def margin_text(study: Study) -> str:
    """Return a sentence on the smallest difference that was declared to matter, with a leading space; "" if there is none."""
    return "" if study.margin is None else f" Declared margin: {points_text(study.margin)} points."


def _row(results: Results, arm: ArmResult) -> list[str]:
    means = arm_means(results, arm)
    sizes = [arm.mean("parameters"), arm.mean("macs")]
    ratios = [results.arm_ratio(arm)] if results.study.reference else []
    return [arm.name, str(len(arm.units)), *(str(mean or MISSING) for mean in means),
            *(MISSING if size is None else count_text(size) for size in sizes),
            *(MISSING if ratio is None else ratio_text(ratio) for ratio in ratios), seconds_text(arm.mean("search_s"))]


def contrast_rows(contrasts: Sequence[Contrast]) -> list[list[str]]:
    """Return the table of the contrasts (declared comparisons of two arms): one row of texts per contrast.

    The column titles are `CONTRAST_HEADERS`. Differences are in percentage points.
    """
    return [_contrast_row(one) for one in contrasts]


def _contrast_row(contrast: Contrast) -> list[str]:
    def points(*fractions: float) -> str:
        return " to ".join(points_text(fraction, plus=True) for fraction in fractions)

    has_results = contrast.difference is not None
    return [f"{contrast.first} minus {contrast.second}", f"{contrast.units[0]} and {contrast.units[1]}",
            MISSING if contrast.difference is None else points(contrast.difference),
            *(MISSING if interval is None else points(*interval) for interval in (contrast.interval, contrast.bootstrap)),
            *(p_text(p) if has_results else MISSING for p in (contrast.p, contrast.adjusted_p)),
            MISSING if contrast.macs_ratio is None else ratio_text(contrast.macs_ratio)]


def to_markdown(results: Results, answer: Answer) -> bytes:
    """Return the report in Markdown."""
    lines = [f"# {markdown.escaped(results.study.question)}", "", f"**{markdown.escaped(_headline(answer))}**", "",
             markdown.escaped(f"{_table_words(results)} {_progress(results)}"), "",
             *_markdown_table(headers(results), rows(results))]
    if answer.contrasts:
        lines += ["", markdown.escaped(CONTRAST_WORDS + margin_text(results.study)), "",
                  *_markdown_table(CONTRAST_HEADERS, contrast_rows(answer.contrasts))]
    lines += ["", *(f"* {markdown.escaped(text)}" for text in (*_sentences(answer), *answer.notes)), ""]
    return "\n".join(lines).encode()


def _markdown_table(titles: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(map(markdown.escaped, titles))} |", f"| --- |{' ---: |' * (len(titles) - 1)}",
            *(f"| {' | '.join(map(markdown.escaped, row))} |" for row in body)]


def to_latex(results: Results, answer: Answer) -> bytes:
    """Return the report as LaTeX with booktabs rules: a table of the arms and, if there are contrasts, a table of the contrasts.

    The captions are short. The answer, the progress of the study and the notes follow below the tables.
    """
    label = results.study.id.rsplit("-", 1)[-1]
    lines = [r"% Needs \usepackage{booktabs} in the preamble.",
             *_latex_table(f"{results.study.question} {_table_words(results)}", f"study-{label}", headers(results), rows(results),
                           (_headline(answer), _progress(results), *(() if answer.contrasts else _sentences(answer)),
                            *answer.notes))]
    if answer.contrasts:
        caption = f"{results.study.question} {CONTRAST_WORDS}{margin_text(results.study)}"
        lines += _latex_table(caption, f"study-{label}-contrasts", CONTRAST_HEADERS, contrast_rows(answer.contrasts),
                              _sentences(answer))
    return "\n".join((*lines, "")).encode()


def _latex_table(caption: str, label: str, titles: Sequence[str], body: Sequence[Sequence[str]],
                 notes: Sequence[str]) -> list[str]:
    """Return a table as lines of LaTeX, with notes below it. In the intervals of accuracies, "to" becomes an en dash."""
    def line(cells: Sequence[str]) -> str:
        return "    " + " & ".join(BETWEEN.sub("--", latex.escaped(cell)) for cell in cells) + r" \\"

    below = [f"  {{\\footnotesize {latex.escaped(note)}\\par}}" for note in notes]
    return [r"\begin{table}[t]", r"  \centering\footnotesize\setlength{\tabcolsep}{4pt}",
            f"  \\caption{{{latex.escaped(caption)}}}", f"  \\label{{tab:{label}}}",
            f"  \\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}", r"    \toprule", line(titles), r"    \midrule",
            *map(line, body), r"    \bottomrule", r"  \end{tabular}", *([r"  \par\smallskip", *below] if below else []),
            r"\end{table}"]


def to_json(results: Results, answer: Answer) -> bytes:
    """Return the report as JSON: the study, the answer, and each cell (repetition of an arm) with its runs and its result."""
    return (json.dumps(as_json(results, answer), ensure_ascii=False) + "\n").encode()


def as_json(results: Results, answer: Answer) -> dict[str, Any]:
    """Return the content of the JSON report as a dict."""
    study = results.study
    arms: dict[str, dict[str, Any]] = {}
    for name, arm in results.arms.items():
        means = {part: mean_of(arm.measured(part)) for part in ("endpoint", "natural")}
        arms[name] = {part: asdict(mean) if mean else None for part, mean in means.items()}
        arms[name] |= {part: arm.mean(part) for part in ("parameters", "macs", "search_s")}
        arms[name] |= {"macs_ratio": results.arm_ratio(arm), "latency_s": results.latency(arm)}
    return {
        "id": study.id, "created": study.created, "study": exported(study), "endpoint": endpoint_text(study),
        "protocol": results.protocol, "latency_device": results.latency_place, "done": results.done,
        "cells_total": len(results.cells), "arms": arms,
        "answer": {"headline": answer.headline, "provisional": answer.provisional, "claims": answer.claims,
                   "contrasts": [asdict(one) | {"sentence": text}
                                 for one, text in zip(answer.contrasts, answer.sentences)],
                   "correlations": [asdict(one) | {"sentence": text}
                                    for one, text in zip(answer.correlations, answer.sentences)],
                   "notes": list(answer.notes)},
        "cells": [_cell_json(results, state) for state in results.cells]}


def _cell_json(results: Results, state: Any) -> dict[str, Any]:
    result = results.of(state.cell)
    measured = None if result is None else {
        "endpoint": asdict(result.endpoint), "natural": asdict(result.natural) if result.natural else None,
        "measures": dict(result.measures), "parameters": result.parameters, "macs": result.macs,
        "size_ratio": results.size_ratio(result),
        "genotype": result.genotype.to_dict() if result.genotype else None, "badge": asdict(result.badge)}
    return {**asdict(state.cell), "status": state.status, "steps": [asdict(step) for step in state.steps], "result": measured}


def _headline(answer: Answer) -> str:
    return f"Provisional: {answer.headline}" if answer.provisional else answer.headline


def _sentences(answer: Answer) -> tuple[str, ...]:
    """Return the sentences of an answer that differ from its headline."""
    return tuple(text for text in answer.sentences if text != answer.headline)


def _table_words(results: Results) -> str:
    """Return the caption of the table of the arms. It names the accuracies and the kinds of interval that the table shows."""
    return (f"Means over search seeds in per cent, with 95 % intervals ({table_intervals(results)}). Endpoint: "
            f"{endpoint_text(results.study)} ({conditions_text(results)}).")


def _progress(results: Results) -> str:
    """Return sentences on the dataset, the seeds and the protocol of a study, and on its progress."""
    study = results.study
    started = time.strftime("%Y-%m-%d", time.gmtime(study.created))
    return (f"Dataset {study.dataset}, preset {study.preset}, {plural_text(len(study.search_seeds), 'search seed')} with "
            f"{plural_text(study.retrainings, 'retraining')} each, protocol {results.protocol or 'not known yet'}. "
            f"{results.done} of {len(results.cells)} cells have their result. Study {study.id}, launched on {started}.")


@dataclass(frozen=True)
class Format:
    """A file format of a report.

    Attributes:
        title: name on a button.
        suffix: file name extension, with the dot.
        mime: media type.
        write: function that returns the content of the file from the results and the answer.
    """

    title: str
    suffix: str
    mime: str
    write: Callable[[Results, Answer], bytes]


FORMATS = {
    "markdown": Format("Markdown", ".md", "text/markdown", to_markdown),
    "latex": Format("LaTeX", ".tex", "application/x-tex", to_latex),
    "json": Format("JSON", ".json", "application/json", to_json),
}


def export(results: Results, answer: Answer, form: str) -> bytes:
    """Return the content of a study's report in the file format named `form`.

    Raises:
        ConfigError: the format is unknown.
    """
    if form not in FORMATS:
        raise ConfigError(unknown_name("report format", form, FORMATS))
    return FORMATS[form].write(results, answer)

"""The report of a study as a file in several formats: the question, the answer, a table of the arms and the comparisons."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy import stats

from engine.errors import ConfigError
from engine.registry import unknown_name
from engine.report import latex, markdown
from engine.report.words import count_text, percent_text
from engine.study.answer import Answer, endpoint_text
from engine.study.contrasts import Contrast
from engine.study.measures import further_results
from engine.study.parsing import exported
from engine.study.results import ArmResult, Results

CONTRAST_HEADERS = ("Contrast", "Search seeds", "Difference, points", "Welch interval", "Bootstrap interval", "p", "Adjusted p")
HEADERS = ("Arm", "Search seeds", "Endpoint", "Natural", "Parameters", "MACs", "Search time")


@dataclass(frozen=True)
class Mean:
    """The mean of an arm over its search seeds.

    Attributes:
        value: the mean, a fraction in 0..1.
        low, high: ends of the 95 % confidence interval from the t distribution; None with fewer than two search seeds, or if all
            have the same value.
        units: number of search seeds.
    """

    value: float
    low: float | None
    high: float | None
    units: int

    def __str__(self) -> str:
        """Return the mean in per cent with its interval, for example "61.2 (58.0 to 64.4)"."""
        interval = "" if self.low is None or self.high is None else f" ({percent_text(self.low)} to {percent_text(self.high)})"
        return f"{percent_text(self.value)}{interval}"


def mean_of(units: Sequence[Sequence[float]], level: float = 0.95) -> Mean | None:
    """Return the mean over search seeds with its interval, or None if there is no search seed.

    Args:
        units: one entry per search seed, with the value of each of its retrainings. The mean of an entry counts as one
            observation.
        level: confidence level in 0..1.
    """
    values = [fmean(unit) for unit in units if unit]
    if not values:
        return None
    if len(values) < 2 or np.ptp(values) < 1e-12:  # equal values say nothing about the spread
        return Mean(fmean(values), None, None, len(values))
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Mean(fmean(values), max(0.0, fmean(values) - half), min(1.0, fmean(values) + half), len(values))


def seconds_text(seconds: float | None) -> str:
    """Return a duration for a table, for example "4.2 min" or "1.3 h"; "–" if it is unknown."""
    if seconds is None:
        return "–"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def headers(results: Results) -> list[str]:
    """Return the titles of the columns of `rows`: `HEADERS` with a column for each further attack."""
    return [*HEADERS[:4], *further_results(results.study), *HEADERS[4:]]


def rows(results: Results) -> list[list[str]]:
    """Return the table of the arms: one row of texts per arm, with the columns that `headers` lists."""
    return [_row(arm, further_results(results.study)) for arm in results.arms.values()]


def _row(arm: ArmResult, further: Sequence[str]) -> list[str]:
    means = [mean_of(units) for units in (arm.units, arm.natural_units, *map(arm.units_of, further))]
    sizes = [arm.mean("parameters"), arm.mean("macs")]
    return [arm.name, str(len(arm.units)), *(str(mean or "–") for mean in means),
            *("–" if size is None else count_text(size) for size in sizes), seconds_text(arm.mean("search_s"))]


def to_markdown(results: Results, answer: Answer) -> bytes:
    """Return the report in Markdown."""
    lines = [f"# {markdown.escaped(results.study.question)}", "", f"**{markdown.escaped(_headline(answer))}**", "",
             markdown.escaped(_conditions(results)), "", *_markdown_table(headers(results), rows(results))]
    if answer.contrasts:
        lines += ["", *_markdown_table(CONTRAST_HEADERS, map(_contrast_row, answer.contrasts))]
    lines += ["", *(f"* {markdown.escaped(text)}" for text in (*_sentences(answer), *answer.notes)), ""]
    return "\n".join(lines).encode()


def _markdown_table(titles: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"| --- |{' ---: |' * (len(titles) - 1)}",
            *(f"| {' | '.join(map(markdown.escaped, row))} |" for row in body)]


def _contrast_row(contrast: Contrast) -> list[str]:
    """Return the numbers of a contrast as texts, under `CONTRAST_HEADERS`. Differences are in points."""
    def points(*fractions: float) -> str:
        return " to ".join(f"{100 * fraction:+.1f}" for fraction in fractions)

    return [f"{contrast.first} minus {contrast.second}", f"{contrast.units[0]} and {contrast.units[1]}",
            "–" if contrast.difference is None else points(contrast.difference),
            *("–" if interval is None else points(*interval) for interval in (contrast.interval, contrast.bootstrap)),
            f"{contrast.p:.2g}", f"{contrast.adjusted_p:.2g}"]


def to_latex(results: Results, answer: Answer) -> bytes:
    """Return the report as a LaTeX table with booktabs rules.

    The caption holds the question, the answer, the endpoint (the compared accuracy), the data and the progress of the study.
    """
    caption = " ".join((results.study.question, _headline(answer), _conditions(results), *_sentences(answer), *answer.notes))
    return _latex_table(caption, "study", results, [headers(results), *rows(results)])


def contrasts_latex(results: Results, answer: Answer) -> bytes:
    """Return the contrasts (declared comparisons of two arms) as a LaTeX table with booktabs rules."""
    caption = ("Differences of mean accuracy between arms in percentage points. Both intervals are at 95 % and not adjusted. The "
               f"permutation test is over search seeds, and p is adjusted by Holm over all contrasts. {_conditions(results)}")
    return _latex_table(caption, "contrasts", results, [CONTRAST_HEADERS, *map(_contrast_row, answer.contrasts)])


def _latex_table(caption: str, name: str, results: Results, lines: Sequence[Sequence[str]]) -> bytes:
    """Return a LaTeX table. The first of `lines` is the head; the first column is left-aligned."""
    head, *body = [" & ".join(map(latex.escaped, line)) + r" \\" for line in lines]
    label = results.study.id.rsplit("-", 1)[-1]
    return "\n".join([
        r"% Needs \usepackage{booktabs} in the preamble.", r"\begin{table}[t]",
        r"  \centering\footnotesize\setlength{\tabcolsep}{4pt}", f"  \\caption{{{latex.escaped(caption)}}}",
        f"  \\label{{tab:{name}-{label}}}", f"  \\begin{{tabular}}{{l{'r' * (len(lines[0]) - 1)}}}", r"    \toprule",
        f"    {head}", r"    \midrule", *(f"    {line}" for line in body), r"    \bottomrule", r"  \end{tabular}",
        r"\end{table}", ""]).encode()


def to_json(results: Results, answer: Answer) -> bytes:
    """Return the report as JSON: the study, the answer, and each cell (repetition of an arm) with its runs and its result."""
    return (json.dumps(as_json(results, answer), ensure_ascii=False) + "\n").encode()


def as_json(results: Results, answer: Answer) -> dict[str, Any]:
    """Return the content of the JSON report as a dict."""
    study = results.study
    arms: dict[str, dict[str, Any]] = {}
    for name, arm in results.arms.items():
        means = {"endpoint": mean_of(arm.units), "natural": mean_of(arm.natural_units)}
        arms[name] = {part: asdict(mean) if mean else None for part, mean in means.items()}
        arms[name] |= {part: arm.mean(part) for part in ("parameters", "macs", "search_s")}
    return {
        "id": study.id, "created": study.created, "study": exported(study), "endpoint": endpoint_text(study),
        "protocol": results.protocol, "done": results.done, "cells_total": len(results.cells), "arms": arms,
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
    """Return the sentences that say more than the headline."""
    return tuple(text for text in answer.sentences if text != answer.headline)


def _conditions(results: Results) -> str:
    """Return a text that says which accuracies the table shows, for which dataset, and how far the study has come."""
    study = results.study
    started = time.strftime("%Y-%m-%d", time.gmtime(study.created))
    return (f"Means over search seeds in per cent, with 95 % t intervals; endpoint: {endpoint_text(study)}. Dataset "
            f"{study.dataset}, preset {study.preset}, {len(study.search_seeds)} search seeds with {study.retrainings} "
            f"{'retraining' if study.retrainings == 1 else 'retrainings'} each, protocol {results.protocol or 'not known yet'}. "
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

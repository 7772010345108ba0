"""The matrix of a study: one row per arm, one column per search seed and retraining. Entries link to their runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from app.charts.study_data import cells_frame
from app.components.downloads import data_files, menu_html
from app.components.study_answer import STATUSES
from app.formats import capitalised, escape, missing, moment, percent, plural
from app.theme import KIND_TITLES
from engine.report.words import interval_text, measured_text
from engine.study.answer import conditions_text, endpoint_text
from engine.study.declaration import Cell, Study
from engine.study.overview import Overview
from engine.study.planning import CellState, Step
from engine.study.results import CellResult, Results
from engine.study.sizes import ratio_text

STRONGEST = 34  # tint of the highest value, in per cent
MOST_CAUSES = 5


def matrix_html(overview: Overview, progress: Mapping[str, float | None]) -> str:
    """Return the matrix as an HTML table, with the menu that exports its cells.

    Args:
        overview: the study.
        progress: {run id: fraction of the run that is done, 0..1, or None}.
    """
    results, study = overview.results, overview.study
    cells = {state.cell: state for state in results.cells}
    places = [(seed, index) for seed in study.search_seeds for index in range(study.retrainings)]
    tints = tints_of(results)
    rows = "".join(
        f'<tr><th scope="row">{escape(arm.name)}</th>' + "".join(
            f"<td>{_cell(results, cells.get(Cell(arm.name, *place)), progress, tints)}</td>" for place in places) + "</tr>"
        for arm in study.arms)
    caption = f"<caption>{escape(caption_words(results))}</caption>" if any(arm.cells for arm in results.arms.values()) else ""
    name = f"{study.id}-cells"
    export = menu_html(data_files(name, partial(cells_frame, results)), key=name)
    return (f'<div class="rp-scroll"><table class="rp-table rp-matrix" aria-label="Cells of the study">{caption}{_head(study)}'
            f"<tbody>{rows}</tbody></table></div>{export}")


def caption_words(results: Results) -> str:
    """Return a text that says which accuracy the cells show, and which intervals."""
    words = f"{capitalised(endpoint_text(results.study))}, {conditions_text(results)}, with 95 % Wilson intervals."
    return f"{words} MACs relative to {results.study.reference}." if results.study.reference else words


def _head(study: Study) -> str:
    """Return the heading of the matrix: the search seeds and, below, the retrainings if there are several per search seed."""
    span = f' colspan="{study.retrainings}"' if study.retrainings > 1 else ""
    down = ' rowspan="2"' if span else ""
    seeds = "".join(f'<th scope="col"{span}>Seed {seed}</th>' for seed in study.search_seeds)
    below = "".join(f'<th scope="col" class="rp-sub">Retraining {index + 1}</th>' for _ in study.search_seeds
                    for index in range(study.retrainings)) if span else ""
    return f'<thead><tr><th scope="col"{down}>Arm</th>{seeds}</tr>{f"<tr>{below}</tr>" if below else ""}</thead>'


def tints_of(results: Results) -> dict[Cell, float]:
    """Return {cell: strength of its tint in per cent}: 0 for the lowest accuracy and `STRONGEST` for the highest."""
    values = {cell.cell: cell.endpoint.accuracy for arm in results.arms.values() for cell in arm.cells}
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    return {cell: STRONGEST * (value - low) / (high - low) if high > low else 0.0 for cell, value in values.items()}


def _cell(results: Results, state: CellState | None, progress: Mapping[str, float | None], tints: Mapping[Cell, float]) -> str:
    """Return one entry of the matrix as HTML; "" if the arm does not have this search seed.

    The entry shows the accuracy or the state of a cell (one repetition of an arm), and links to a run of the cell.
    """
    if state is None:
        return ""
    glyph, tone = STATUSES.get(state.status, ("?", "muted"))
    step = newest(state)
    result = results.of(state.cell)
    words = percent(result.endpoint.accuracy) if result else state_words(state, progress)
    interval = f'<span class="rp-label rp-num">{escape(interval_text(result.endpoint))}</span>' if result else ""
    inside = (f'<span><span class="rp-tone-{tone}" aria-hidden="true">{glyph}</span> <span class="rp-num">{escape(words)}</span>'
              f"</span>{interval}{_size(results, result)}{_reused(state)}")
    spoken = measured_text(result.endpoint) if result else words
    look = f'style="background: color-mix(in srgb, var(--rp-natural) {tints.get(state.cell, 0):.0f}%, transparent)"'
    hint = escape(cause_of(state) or (measured_words(results, result) if result else f"{state.status}: {step.run}") if step
                  else "No run yet")
    if step is None:
        return f'<span class="rp-matrixcell" data-status="{state.status}" title="{hint}">{inside}</span>'
    return (f'<a class="rp-matrixcell" data-status="{state.status}" href="run?id={escape(step.run)}" target="_self" {look} '
            f'title="{hint}" aria-label="{escape(f"{state.cell.arm}, seed {state.cell.search_seed}: {state.status}, {spoken}")}">'
            f"{inside}</a>")


def _size(results: Results, result: CellResult | None) -> str:
    """Return a line of HTML that compares the MACs of a cell's network with the MACs of the reference arm.

    The line is "" for the reference arm itself, and if the MACs are unknown. A cell is one repetition of an arm.
    """
    ratio = results.size_ratio(result) if result and result.cell.arm != results.study.reference else None
    return "" if ratio is None else f'<span class="rp-label">{ratio_text(ratio)} MACs</span>'


def measured_words(results: Results, result: CellResult) -> str:
    """Return the result of a cell (one repetition of an arm) as several lines of text.

    The lines give the accuracies with their intervals, the MACs relative to the reference arm, the reliability and the run's id.
    """
    natural, ratio = result.natural, results.size_ratio(result)
    parts = [measured_text(result.endpoint), f"natural {measured_text(natural)}" if natural else "",
             f"{ratio:.2f} times the MACs of {results.study.reference}" if ratio else "",
             f"reliability {result.badge.colour}: {' '.join(result.badge.reasons)}", result.run]
    return "\n".join(filter(None, parts))


def _reused(state: CellState) -> str:
    """Return a line of HTML with the date of a reused run (a run not launched for this study); "" if no run was reused."""
    reused = [step for step in state.steps if step.reused]
    if not reused:
        return ""
    kinds = "" if len(reused) == len(state.steps) else f"{', '.join(step.kind for step in reused)} "
    return f'<span class="rp-label">↺ {kinds}reused, {moment(reused[-1].created)[:10]}</span>'


def newest(state: CellState) -> Step | None:
    """Return the step to which a cell of the matrix links; None if the cell has no run yet.

    It is the first step whose run has failed, was stopped or is running. If there is none, it is the last step that has a run.
    """
    existing = [step for step in state.steps if step.run]
    telling = [step for step in existing if step.status in ("failed", "stopped", "running", "stopping")]
    return telling[0] if telling else existing[-1] if existing else None


def state_words(state: CellState, progress: Mapping[str, float | None]) -> str:
    """Return the state of a cell without a result in words, for example "Search 40 %" or "Retrain failed".

    If such a cell has finished, its result was left out, and the text says so.
    """
    step = newest(state)
    if state.status == "finished":
        return "left out"
    if state.status == "running" and step is not None:
        share = progress.get(step.run)
        return f"{KIND_TITLES[step.kind]} {'starts' if missing(share) else percent(share, 0)}"
    if state.status in ("failed", "stopped"):
        kind = next((one.kind for one in state.steps if one.status in ("failed", "refused", "stopped")), state.steps[-1].kind)
        return f"{KIND_TITLES[kind]} {state.status}"
    return "waiting"


def cause_of(state: CellState) -> str:
    """Return why a cell (one repetition of an arm) failed or was stopped; "" if neither happened."""
    return next((step.cause for step in state.steps if step.cause and step.status in ("failed", "stopped", "refused")), "")


def causes_html(results: Results) -> str:
    """Return an HTML list of the failed cells (repetitions of arms) and the causes; "" if no cell has failed."""
    failed = [state for state in results.cells if state.status == "failed"]
    if not failed:
        return ""
    items = "".join(f"<li>{_cause_html(state)}</li>" for state in failed[:MOST_CAUSES])
    more = f"<li>and {plural(len(failed) - MOST_CAUSES, 'more cell')}</li>" if len(failed) > MOST_CAUSES else ""
    return (f'<div class="rp-problem rp-below" role="alert"><b>{plural(len(failed), "cell")} failed</b>'
            f'<ul class="rp-sentences">{items}{more}</ul></div>')


def _cause_html(state: CellState) -> str:
    step, name = newest(state), escape(f"{state.cell.arm}, seed {state.cell.search_seed}")
    where = f'<a href="run?id={escape(step.run)}" target="_self">{name}</a>' if step else name
    return f"{where}: {escape(cause_of(state) or 'The cause is unknown; see the log of the run.')}"

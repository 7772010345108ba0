"""The results of a study: charts and a table of the arms, how often searches chose each operation, and comparisons of arms.

It also has notes on the results, and buttons that download files.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import address, session
from app.charts.data import votes_frame
from app.charts.study import front_figure, strip_figure, strip_height, votes_figure, votes_height
from app.charts.study_data import arms_frame, cost_columns, mean_columns, networks_frame, study_columns
from app.components.downloads import download_buttons
from app.components.html_table import Markup, StaticColumn, html_table, with_label
from app.components.live_plot import live_plot
from app.components.paper_pack import paper_file
from app.components.states import section, small_heading
from app.downloads import File, named
from app.formats import EMPTY, capitalised, count, duration, escape, percent, plural
from app.studies import as_text
from app.theme import cell_title
from engine.command import line_of
from engine.report.latency import milliseconds
from engine.report.words import signed_text
from engine.study.answer import conditions_text, endpoint_text
from engine.study.contrasts import Contrast, Interval, p_text, points_text
from engine.study.means import mean_of
from engine.study.measures import further_results
from engine.study.overview import Overview
from engine.study.report import FORMATS, export, margin_text, table_intervals
from engine.study.results import ArmResult, Results
from engine.study.sizes import ratio_text
from engine.study.votes import CellVotes, vote_map

VERDICTS = {"better": "first is better", "worse": "second is better", "equal": "equal within the margin",
            "undecided": "cannot be told apart", "demonstration": "no claim"}


def arms_charts(overview: Overview) -> None:
    """Draw the endpoint (the compared accuracy) of each arm and, in a second chart, the endpoint against the natural accuracy.

    Leave out the second chart if the endpoint is the natural accuracy, or if no natural accuracy was measured.
    """
    results, title = overview.results, capitalised(endpoint_text(overview.study))
    study_id = overview.study.id
    bars = "; bars: retrainings" if overview.study.retrainings > 1 else ""
    section(title, f"{conditions_text(results)}; filled: mean over the search seeds with its 95 % interval; circles: search "
            f"seeds{bars}")
    live_plot(strip_figure(results.arms, "Accuracy, test split"), key=f"study_strip_{study_id}",
              height=strip_height(len(results.arms)), label=f"{title} of each arm", data=partial(networks_frame, results),
              file=f"{study_id}-networks")
    if overview.study.endpoint != "natural" and any(any(arm.measured("natural")) for arm in results.arms.values()):
        section("Natural against robust accuracy", "means over the search seeds with 95 % intervals; dotted: the front")
        live_plot(front_figure(results.arms, "Robust accuracy"), key=f"study_front_{study_id}", height=420,
                  label="Natural accuracy against the endpoint of each arm", data=partial(arms_frame, results),
                  file=f"{study_id}-means")


def arms_table(results: Results) -> None:
    """Show a table with the accuracies, network sizes and search time of each arm."""
    section("Arms", "means over the networks of an arm; accuracies over its search seeds, with 95 % intervals")
    titles = {"Endpoint": "endpoint", "Natural": "natural", **{name: name for name in further_results(results.study)}}
    columns: tuple[StaticColumn[ArmResult], ...] = (
        StaticColumn("Arm", lambda arm: arm.name, names_row=True, look="rp-name"),
        StaticColumn("Search seeds", lambda arm: len(arm.units), right=True, data=lambda arm: {"search_seeds": len(arm.units)}),
        *(StaticColumn(title, partial(mean_html, name), right=True, data=partial(mean_data, name))
          for title, name in titles.items()),
        StaticColumn("Parameters", lambda arm: count(arm.mean("parameters")), right=True, data=cost_columns),
        StaticColumn("MACs", lambda arm: count(arm.mean("macs")), right=True, data=cost_columns),
        StaticColumn("Search time", lambda arm: duration(arm.mean("search_s")), right=True, data=cost_columns))
    ratio: StaticColumn[ArmResult] = StaticColumn(f"MACs against {results.study.reference}", partial(ratio_words, results),
                                                  right=True, data=lambda arm: {"macs_ratio": results.arm_ratio(arm)})
    latency: StaticColumn[ArmResult] = StaticColumn("Latency", partial(latency_words, results), right=True, data=lambda arm: {
        "latency_s": results.latency(arm), "latency_device": results.latency_place})
    shown = [*columns[:-1], *([ratio] if results.study.reference else []), *([latency] if results.latency_place else []),
             columns[-1]]
    st.html(html_table(shown, results.arms.values(), label="Arms", note=arms_note(results), facts=study_columns(results)))


def arms_note(results: Results) -> str:
    """Return the caption of the table of the arms: the endpoint, the intervals, and the meaning of the MACs ratio."""
    note = f"Endpoint: {endpoint_text(results.study)}, {conditions_text(results)}. Intervals: {table_intervals(results)}"
    ratio = (f" MACs against {results.study.reference}: ratio of the means; below, the range over networks with equal seeds."
             if results.study.reference else "")
    return f"{note}.{ratio}{latency_note(results)}"


def latency_words(results: Results, arm: ArmResult) -> str:
    """Return the mean latency of an arm as text; a dash if it is unknown."""
    seconds = results.latency(arm)
    return EMPTY if seconds is None else milliseconds(seconds)


def latency_note(results: Results) -> str:
    """Return a note on the latencies in the table of the arms, with a leading space; "" if no latency was measured."""
    place = results.latency_place
    cells = [cell for arm in results.arms.values() for cell in arm.cells]
    without = sum(not cell.latencies or cell.latencies[min(cell.latencies)].place != place for cell in cells)
    left_out = (f"; {plural(without, 'network')} of older runs or other devices {'is' if without == 1 else 'are'} left out"
                if without else "")
    return f" Latency: 1 image on {place}{left_out}." if place else ""


def mean_html(name: str, arm: ArmResult) -> str:
    """Return the mean of an accuracy with its interval on a second line.

    Args:
        name: name of the accuracy (`ArmResult.measured`).
        arm: results of the arm.
    """
    mean = mean_of(arm.measured(name))
    return EMPTY if mean is None else with_label(f"{100 * mean.value:.1f} %", mean.marked_ends)


def mean_data(name: str, arm: ArmResult) -> dict[str, object]:
    """Return the mean of an accuracy with its interval, as columns of an exported file. See `mean_html`."""
    return mean_columns(name, mean_of(arm.measured(name)))


def ratio_words(results: Results, arm: ArmResult) -> str:
    """Return the MACs of an arm divided by the MACs of the reference arm, as text; a dash if unknown.

    A second line gives the smallest and the largest ratio of two networks with equal seeds, unless both ratios are equal.
    """
    ratio, ratios = results.arm_ratio(arm), results.arm_ratios(arm)
    if ratio is None:
        return EMPTY
    is_range = ratios and max(ratios) - min(ratios) >= 0.005
    return with_label(ratio_text(ratio), f"{min(ratios):.2f} to {max(ratios):.2f}" if is_range else "")


def votes(overview: Overview) -> None:
    """Draw how often each operation won on each edge, counted over the search seeds of one arm. A selector chooses the arm."""
    arms = {arm.name: result.genotypes for arm in overview.study.arms
            if arm.method and (result := overview.results.arms[arm.name]).genotypes}
    if not arms:
        return
    section("Votes of the search seeds", "how often each operation won on each edge; a frame marks the most frequent one")
    names = {name: f"{name}: {plural(len(genotypes), 'genotype')}" for name, genotypes in arms.items()}
    left, _ = st.columns([2, 3])
    name = address.selectbox(left, "Arm", names, name="arm", key="study.arm")
    every = vote_map(arms[name])
    for column, (kind, cell) in zip(st.columns(len(every)), every.items(), strict=True):
        with column:
            st.html(f'<p class="rp-note"><b>{escape(cell_title(kind))}</b><br>{escape(agreement_words(cell))}</p>')
            live_plot(votes_figure(cell, len(arms[name])), key=f"study_votes_{kind}", height=votes_height(cell),
                      label=f"Votes on the edges of the {cell_title(kind).lower()}", file=named("votes", name, kind),
                      data=partial(votes_frame, cell, len(arms[name]), kind))


def agreement_words(votes: CellVotes) -> str:
    """Return a text that says how far the search seeds agree on a cell."""
    if votes.agreement is None or votes.beyond_chance is None:
        return "Agreement needs two search seeds."
    shares = [percent(share, 0).replace(" ", "\u00a0") for share in (votes.agreement, votes.chance)]
    return (f"Two seeds agree on {shares[0]} of the edges; random cells on {shares[1]} (agreement beyond chance "
            f"{signed_text(votes.beyond_chance, 2)}).")


def contrasts(overview: Overview) -> None:
    """Show every contrast (declared comparison of two arms) in words, and a table with the numbers."""
    answer = overview.answer
    if not answer.contrasts:
        return
    section("Contrasts", f"{plural(len(answer.contrasts), 'contrast')}, declared before the launch")
    st.html(f'<ul class="rp-sentences">{"".join(f"<li>{escape(text)}</li>" for text in answer.sentences)}</ul>')
    st.html(html_table(contrast_columns(answer.contrasts), answer.contrasts, label="Contrasts", facts=study_columns(
        overview.results), note=(
        "Differences in points, first minus second arm. The unit is the search seed; its retrainings are averaged. The Welch and "
        "the hierarchical bootstrap interval are at 95 % and not adjusted; p is from the permutation test, adjusted by Holm over "
        "all contrasts." + margin_text(overview.study))))


def contrast_columns(results: Sequence[Contrast]) -> list[StaticColumn[Contrast]]:
    """Return the columns of the table of contrasts (declared comparisons of two arms)."""
    columns: list[StaticColumn[Contrast]] = [
        StaticColumn("Contrast", lambda one: with_label(one.first, f"minus {one.second}"), names_row=True, look="rp-name",
                     data=lambda one: {"first": one.first, "second": one.second}),
        StaticColumn("Search seeds", lambda one: f"{one.units[0]} and {one.units[1]}", right=True,
                     data=lambda one: {"first_search_seeds": one.units[0], "second_search_seeds": one.units[1]}),
        StaticColumn("Difference", lambda one: points(one.difference), right=True,
                     data=lambda one: {"difference": one.difference}),
        StaticColumn("Welch interval", lambda one: interval_words(one.interval), right=True,
                     data=partial(interval_data, "welch", "interval")),
        StaticColumn("Bootstrap interval", lambda one: interval_words(one.bootstrap), right=True,
                     data=partial(interval_data, "bootstrap", "bootstrap")),
        StaticColumn("p", p_html, right=True, data=lambda one: {"p": one.p, "p_is_exact": one.exact}),
        StaticColumn("Adjusted p", lambda one: EMPTY if one.difference is None else p_words(one.adjusted_p), right=True,
                     data=lambda one: {"adjusted_p": one.adjusted_p}),
        StaticColumn("Verdict", lambda one: EMPTY if one.difference is None else VERDICTS[one.verdict])]
    if any(one.equivalence_p is not None for one in results):
        columns.insert(-1, StaticColumn("Equivalence p", lambda one: p_words(one.equivalence_p), right=True,
                                        data=lambda one: {"equivalence_p": one.equivalence_p}))
    if any(one.macs_ratio is not None for one in results):
        columns.insert(-1, StaticColumn("MACs", lambda one: ratio_text(one.macs_ratio) if one.macs_ratio else EMPTY,
                                        right=True, data=lambda one: {"macs_ratio": one.macs_ratio}))
    return columns


def interval_data(name: str, attribute: str, contrast: Contrast) -> dict[str, object]:
    """Return an interval of a contrast as columns of an exported file, as fractions.

    Args:
        name: prefix of the two columns <name>_low and <name>_high.
        attribute: attribute of the contrast that holds the interval.
        contrast: the contrast.
    """
    low, high = getattr(contrast, attribute) or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def points(fraction: float | None) -> str:
    """Return a difference of accuracies in percentage points, with its sign."""
    return EMPTY if fraction is None else points_text(fraction, plus=True)


def interval_words(interval: Interval | None) -> str:
    """Return an interval of a difference in percentage points."""
    return EMPTY if interval is None else f"{points(interval[0])} to {points(interval[1])}"


def p_words(p: float | None) -> str:
    """Return a p-value with two digits, or "< 0.001"; a dash if it is None."""
    return EMPTY if p is None else p_text(p)


def p_html(contrast: Contrast) -> str | Markup:
    """Return the p-value of the permutation test, with "exact" or "Monte Carlo" on a second line."""
    if contrast.difference is None:
        return EMPTY
    return with_label(p_words(contrast.p), "exact" if contrast.exact else "Monte Carlo")


def notes(overview: Overview) -> None:
    """Show notes on missing results, extensions, reused runs and doubtful accuracies."""
    if overview.answer.notes:
        section("Notes")
        st.html(f'<ul class="rp-sentences">{"".join(f"<li>{escape(text)}</li>" for text in overview.answer.notes)}</ul>')


def files(overview: Overview) -> None:
    """Show the buttons that download the report and the study, and the commands that do the same."""
    study_id = overview.study.id
    section("Files", "the report, and the study itself to launch elsewhere")
    reports = [File(form.title, f"{study_id}{form.suffix}", form.mime, partial(export, overview.results, overview.answer, name))
               for name, form in FORMATS.items()]
    declared = File("The study (YAML)", f"{study_id}.yaml", "application/yaml", as_text(overview.study).encode,
                    "Arms, seeds and contrasts, without results.")
    download_buttons([*reports, declared, paper_file([study_id])], key="study.report")
    small_heading("The same by command", 3)
    actions = [["show", study_id], ["report", study_id, "--form", "markdown"]]
    actions += [] if overview.study.example else [["extend", study_id, "--seeds", "5"]]
    st.code("\n".join(line_of(["study", *words], session.runs_root()) for words in actions), language="bash", wrap_lines=True)

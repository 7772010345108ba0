"""The part of the Pareto page that compares search methods at equal numbers of runs.

The reader chooses a number of runs. The charts show the front that this number of networks of each method attains, and the
hypervolume of this front.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import address
from app.charts.attainment import attainment_figure, volume_figure
from app.charts.categories import looks_of
from app.charts.data import attainment_frame, volume_frame
from app.components.live_plot import live_plot
from app.components.states import section
from app.formats import plural
from app.fronts import Front
from engine.report.pareto import Measure

MOST_GROUPS = 6
FEWEST_RUNS = 2
REFERENCE = "The reference point is fixed: 0 % in both accuracies."


def by_runs(front: Front) -> None:
    """Show which fronts and hypervolumes methods attain with equal numbers of runs.

    Networks with the same title count as runs of one method. If the page's objectives are not two accuracies, or if no method has
    enough networks, show only a sentence that says so.
    """
    section("Methods at equal numbers of runs", "one run is one network of a method with the same settings")
    pair = accuracies(front.objectives)
    if pair is None:
        st.caption(f"Choose two accuracies as axes, and no third objective. {REFERENCE} Sizes and times have no such point.")
        return
    groups = groups_of(front, pair)
    large = {title: points for title, points in groups.items() if len(points) >= FEWEST_RUNS}
    if not large:
        st.caption(f"Appears when a method has {FEWEST_RUNS} attacked networks under this protocol.")
        return
    shown = dict(sorted(large.items(), key=lambda one: -len(one[1]))[:MOST_GROUPS])
    looks = looks_of((row.title for row in front.rows if row.title in large), len(large))
    most = min(len(points) for points in shown.values())
    left, _ = st.columns([1, 3])
    options = {str(number): plural(number, "run") for number in range(most, 0, -1)}
    runs = int(address.selectbox(left, "Number of runs", options, name="runs", key="pareto.runs",
                                 help="At most as many as the method with the fewest networks has."))
    left, right = st.columns(2, gap="large")
    with left:
        live_plot(attainment_figure(shown, looks, *pair, runs), key=f"pareto_attainment_{runs}", height=400,
                  label=f"Fronts that {plural(runs, 'run')} of each method attain", file=f"attained-fronts-{runs}-runs",
                  data=partial(attainment_frame, shown, *pair, runs))
    with right:
        live_plot(volume_figure(shown, looks, runs), key="pareto_volume", height=400, label="Hypervolume over the number of runs",
                  file="hypervolume", data=partial(volume_frame, shown, *pair))
    st.caption(words(front, large, shown, runs))


def accuracies(objectives: Sequence[Measure]) -> tuple[Measure, Measure] | None:
    """Return the two objectives if they are two accuracies, else None."""
    if len(objectives) == 2 and all(one.is_accuracy for one in objectives):
        return objectives[0], objectives[1]
    return None


def groups_of(front: Front, pair: tuple[Measure, Measure]) -> dict[str, list[tuple[float, float]]]:
    """Return {title: the two accuracies of each network with this title}."""
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in front.rows:
        values = front.values[row.run]
        groups[row.title].append((values[pair[0].name].value, values[pair[1].name].value))
    return dict(groups)


def words(front: Front, large: dict[str, list[tuple[float, float]]], shown: dict[str, list[tuple[float, float]]],
          runs: int) -> str:
    """Return the explanation below the two charts of fronts and hypervolumes.

    Args:
        front: all networks of the page.
        large: {title of a method: accuracies of its networks} for all methods with enough networks.
        shown: the entries of `large` that the charts show.
        runs: number of runs of each method for which the fronts are drawn.
    """
    left_out = len({row.title for row in front.rows}) - len(large)
    parts = [f"Left: the front that {plural(runs, 'run')}, drawn at random with replacement from the measured ones, attain in "
             "half of all draws (line), and in 10 to 90 % (band).",
             f"Right: the area between the front and the reference point, with its expected value and 10 to 90 % of draws. "
             f"{REFERENCE}"]
    if left_out:
        parts.append(f"{plural(left_out, 'method')} with a single network {'is' if left_out == 1 else 'are'} left out.")
    if len(shown) < len(large):
        parts.append(f"The {MOST_GROUPS} methods with the most networks are shown.")
    return " ".join(parts)

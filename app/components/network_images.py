"""Charts and gallery for one attacked network, made from the outcome of each attack on each image."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from app import evaluations
from app.charts.data import classes_frame, falls_frame
from app.charts.outcomes import classes_figure, confusion_figure, upset_figure, upset_height
from app.components.gallery import gallery
from app.components.live_plot import live_plot
from app.components.states import section
from app.formats import markdown
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.errors import RunLogError
from engine.report.outcomes import attacks_of, by_class, confusion, falls, has_predictions
from engine.report.robustness import NetworkRow, RobustnessTable

OLDER = ("This run was made by an older version, which recorded neither predictions nor images. Attack the network again to see "
         "them.")


def images(row: NetworkRow, table: RobustnessTable) -> None:
    """Show the charts and the gallery of a network, or a note if its outcomes per image are not available."""
    try:
        outcomes = evaluations.outcomes(row.run)
    except RunLogError as error:
        st.caption(markdown(error) if row.complete else "No outcome per image is recorded yet.")
        return
    if outcomes.empty or not attacks_of(outcomes):
        return
    if not row.complete:
        st.caption("This evaluation is not complete: everything below covers only the attacks and images measured so far.")
    by_attack(row, outcomes)
    classes(row, outcomes)
    if has_predictions(outcomes):
        scale = float(table.fields.get("epsilon") or 0) if table.fields.get("norm") == "Linf" else 0.0
        gallery(row.run, outcomes, {column.name: column.title for column in table.columns}, scale)
    else:
        st.caption(OLDER)


def by_attack(row: NetworkRow, outcomes: pd.DataFrame) -> None:
    """Draw the UpSet plot that counts the images broken by each combination of attacks.

    If there is only one attack, draw nothing.
    """
    attacks = attacks_of(outcomes)
    combinations = falls(outcomes)
    if len(attacks) < 2 or not combinations:
        return
    section("Which images fall to which attacks", "images that are classified correctly without an attack")
    titles = {name: ATTACKS[name].header if name in ATTACKS else name for name in attacks}
    live_plot(upset_figure(combinations, titles), key=f"robustness_upset_{row.run}", height=upset_height(len(titles)),
              label="Number of images that fall to each combination of attacks", file=f"{row.run}-attack-combinations",
              data=partial(falls_frame, combinations, attacks))
    total = sum(number for _, number in combinations)
    st.caption(f"Each column is one combination: the images that fall to exactly the marked attacks, of {total:,} that every "
               "attack covers. In brackets, all images that fall to an attack.")


def classes(row: NetworkRow, outcomes: pd.DataFrame) -> None:
    """Draw the accuracies of each class, and the confusion matrix in the worst case over all attacks."""
    measured = by_class(outcomes)
    natural = outcomes[outcomes["attack"] == NATURAL]
    covered = sum(one.worst.images for one in measured if one.worst)
    left, right = st.columns(2, gap="large")
    with left:
        section("Accuracy of each class")
        live_plot(classes_figure(measured), key=f"robustness_classes_{row.run}", height=360, file=f"{row.run}-classes",
                  data=partial(classes_frame, measured),
                  label="Natural and worst-case accuracy of each class with 95 % intervals")
        st.caption(f"Natural on {len(natural):,} images, worst case on the {covered:,} that every attack covers; bars are 95 % "
                   "Wilson intervals. Classes differ in their number of images, which the tooltip gives.")
    if has_predictions(outcomes):
        with right:
            section("Confusion in the worst case")
            live_plot(confusion_figure(confusion(outcomes), "the worst attack"), key=f"robustness_confusion_{row.run}",
                      height=360, label="Number of images by class and prediction under the worst attack",
                      file=f"{row.run}-outcomes-per-image", data=lambda: outcomes)
            st.caption(f"Numbers of images, {covered:,} in all. The worst attack on an image is the one with the smallest "
                       "margin.")

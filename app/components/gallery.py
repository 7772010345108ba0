"""The gallery of the images that an attack run stored.

For each image it shows the natural image, the amplified difference, the adversarial image and the predictions.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from app import address, evaluations
from app.components.states import section
from app.drawing.pictures import Bytes, bytes_of, data_uri, difference
from app.formats import epsilon, escape, markdown, missing, percent, plural
from engine.attack.catalogue import ATTACKS, WORST
from engine.errors import RunLogError
from engine.report.outcomes import BROKEN, WITHSTANDS, WRONG, attacks_of, of_attack, stage_of
from engine.report.samples import Pixels, Samples

ONLY = "only"
PER_PAGE = 12


def gallery(run: str, outcomes: pd.DataFrame, titles: Mapping[str, str], scale: float) -> None:
    """Show the gallery of an attack run with its filters. The page's address holds the reader's choices.

    Args:
        run: id of the attack run.
        outcomes: table from `RunLog.outcomes`, with predictions.
        titles: {name of an attack: its title}. An attack without a title is shown by its name.
        scale: pixel change that is drawn in full colour; 0 for the largest change of each image.
    """
    section("Gallery", "natural image, change, adversarial image")
    try:
        samples = evaluations.samples(run)
    except RunLogError as error:
        st.caption(markdown(error))
        return
    attack, entries = filtered(titles, outcomes, samples)
    if entries.empty:
        st.caption("No stored image matches these filters.")
        return
    page = shown_page(len(entries))
    part = entries.iloc[page * PER_PAGE:(page + 1) * PER_PAGE]
    st.html(f'<div class="rp-gallery">{"".join(cards(part, outcomes, samples, attack, scale))}</div>')
    st.caption(caption(len(entries), len(samples.images), scale, "confidence" in outcomes))


def filtered(titles: Mapping[str, str], outcomes: pd.DataFrame, samples: Samples) -> tuple[str, pd.DataFrame]:
    """Show the filters and apply the reader's choices.

    Returns:
        Name of the selected attack.
        The stored images that match, as rows of the table from `engine.report.outcomes.of_attack`. Images whose logit margin is
            near 0 come first.
    """
    attacks = {name: titles.get(name, name) for name in (WORST, *attacks_of(outcomes))}
    place = st.columns(3)
    attack = address.selectbox(place[0], "Attack", attacks, name="attack", key="robustness.attack", also=first_page)
    entries = of_attack(outcomes, attack)
    entries = entries[entries.index.isin(samples.images)]
    kinds = outcome_titles(entries, attacks[attack] if attack != WORST else "one attack")
    outcome = address.selectbox(place[1], "Outcome", kinds, name="outcome", key="robustness.outcome", also=first_page)
    labels = {"all": "All classes"} | {str(label): f"Class {label}" for label in sorted(entries["label"].unique())}
    label = address.selectbox(place[2], "Class", labels, name="label", key="robustness.label", also=first_page)
    if outcome == ONLY:
        entries = entries[entries["only"]]
    elif outcome != "all":
        entries = entries[entries["outcome"] == outcome]
    if label != "all":
        entries = entries[entries["label"] == int(label)]
    return attack, entries.sort_values("margin", key=abs, kind="stable")


def outcome_titles(entries: pd.DataFrame, attack: str) -> dict[str, str]:
    """Return {outcome: title with the number of stored images}. Outcomes without images come last.

    Args:
        entries: one row per stored image, from `of_attack`.
        attack: title of the attack.
    """
    words = {BROKEN: f"Broken by {'an attack' if attack == 'one attack' else attack}", WITHSTANDS: "Withstands",
             WRONG: "Wrong without an attack", ONLY: f"Only {attack} breaks it", "all": "All"}
    counts = {**entries["outcome"].value_counts(), ONLY: int(entries["only"].sum()), "all": len(entries)}
    return {name: f"{words[name]} ({counts.get(name, 0):,})" for name in sorted(words, key=lambda name: not counts.get(name))}


def first_page() -> None:
    """Go back to the first page of the gallery."""
    address.choose(gallery="")


def shown_page(entries: int) -> int:
    """Return the number of the page that is shown, counted from 0.

    If there are several pages, also show buttons for going to the previous and the next page.

    Args:
        entries: number of images in the gallery.
    """
    pages = -(-entries // PER_PAGE)
    page = int(address.chosen("gallery", {str(number) for number in range(1, pages + 1)}, "1")) - 1
    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center"):
            for label, target in (("Previous", page - 1), ("Next", page + 1)):
                st.button(label, key=f"robustness.page.{label}", disabled=not 0 <= target < pages, on_click=address.choose,
                          kwargs={"gallery": str(target + 1)})
            st.html(f'<span class="rp-label">Page {page + 1} of {pages}</span>')
    return page


def cards(entries: pd.DataFrame, outcomes: pd.DataFrame, samples: Samples, attack: str, scale: float) -> list[str]:
    """Return one card (an HTML figure) per image.

    Args:
        entries: outcome of the attack on each image, from `engine.report.outcomes.of_attack`.
        outcomes: table from `RunLog.outcomes`, with predictions.
        samples: stored images.
        attack: name of the attack, or "worst-case".
        scale: pixel change that is drawn in full colour; 0 for the largest change of each image.
    """
    stages = {image: stage_of(outcomes, str(row["by"]), int(image)) for image, row in entries.iterrows()}
    return [card(row, samples, stages[image], scale, stages[image] != attack) for image, row in entries.iterrows()]


def card(row: pd.Series, samples: Samples, stage: str, scale: float, name_attack: bool) -> str:
    """Return the card of an image as an HTML figure.

    It shows the natural image, the change and the adversarial image. Below are the predictions with their confidence, the
    distance of the adversarial image and the number of iterations.

    Args:
        row: row of the table from `engine.report.outcomes.of_attack`. Its `name` attribute is the number of the image.
        samples: stored images.
        stage: name of the attack that made the adversarial image. For a suite such as AutoAttack, the name of one of its parts.
        scale: pixel change that is drawn in full colour; 0 for the largest change of the image.
        name_attack: True to show the title of the attack `stage`.
    """
    verdict = verdict_text(row)
    name = stage.rpartition("/")[2]
    by = f"{ATTACKS[name].title if name in ATTACKS else name}, " if name_attack and row["outcome"] == BROKEN else ""
    margin = f"{row['margin']:+.2g}".replace("-", "−")
    numbers = (f"{by}{plural(int(row['iterations']), 'step')} · L∞ {row['linf']:.3g} · L2 {row['l2']:.2f} · "
               f"margin {margin}")
    return shot(pictures(*samples.pair(int(row.name), stage), scale), f"class {row['label']}: {verdict}", int(row.name), numbers)


def pictures(natural: Pixels, adversarial: Pixels | None, scale: float) -> dict[str, Bytes]:
    """Return up to three pictures [H, W, 3] of an image, keyed by "natural", "change" and "adversarial".

    Without an adversarial image, return only the picture "natural".

    Args:
        natural, adversarial: images [C, H, W] in 0..1.
        scale: pixel change that is drawn in full colour; 0 for the largest change of the image.
    """
    if adversarial is None:
        return {"natural": bytes_of(natural)}
    full = scale or float(abs(adversarial - natural).max())
    return {"natural": bytes_of(natural), "change": difference(natural, adversarial, full), "adversarial": bytes_of(adversarial)}


def shot(shown: Mapping[str, Bytes], title: str, image: int, note: str) -> str:
    """Return pictures side by side as an HTML figure, with a title, the image's number and a note below."""
    images = "".join(f'<img src="{data_uri(picture)}" alt="{word} image {image}" title="{word}">'
                     for word, picture in shown.items())
    return (f'<figure class="rp-shot"><div>{images}</div><figcaption><b>{escape(title)}<span class="rp-label">image {image}'
            f'</span></b><span class="rp-label">{escape(note)}</span></figcaption></figure>')


def verdict_text(row: pd.Series) -> str:
    """Return the predictions of an image with their confidence, for example "predicted 3 (99 %) → 8 (64 %)".

    An unknown confidence is left out. Runs of older versions recorded none. `row` is as for `card`.
    """
    natural = f"{row['natural_prediction']}{_in_brackets(row['natural_confidence'])}"
    confidence = row["confidence"]
    if row["outcome"] == BROKEN:
        return f"predicted {natural} → {row['prediction']}{_in_brackets(confidence)}"
    if row["outcome"] == WRONG:
        return f"predicted {natural} without an attack"
    change = "" if missing(confidence) else f" ({share(row['natural_confidence'])} → {share(confidence)})"
    return f"stays {row['prediction']}{change}"


def change_text(scale: float) -> str:
    """Return a sentence that explains the colours in the picture of the adversarial change.

    `scale` is the change of a pixel that is drawn in full colour; 0 stands for the largest change of each image.
    """
    full = (f"amplified {1 / scale:.3g} times: full colour at {epsilon(scale)}, the radius of the ball" if scale else
            "amplified to full colour at the largest change of the image")
    return f"Change: blue where a pixel became darker, orange where it became brighter, {full}."


def _in_brackets(confidence: float) -> str:
    return "" if missing(confidence) else f" ({share(confidence)})"


def share(confidence: float) -> str:
    """Return a confidence in whole per cent. Only a confidence of exactly 1 is "100 %"."""
    return ">99 %" if 0.995 <= confidence < 1 else percent(confidence, 0)


def caption(entries: int, stored: int, scale: float, confidence: bool) -> str:
    """Return a caption that explains the pictures and numbers of the gallery.

    Args:
        entries: number of images in the gallery.
        stored: number of images that the run stored.
        scale: change of a pixel that is drawn in full colour; 0 for the largest change of each image.
        confidence: True if the run recorded confidences.
    """
    brackets = ("In brackets, the confidence: the softmax probability of the predicted class. " if confidence else
                "This run was made by an older version, which did not record the confidence of predictions. ")
    return (f"{plural(entries, 'image')} of the {stored:,} test images that this run stored, the closest decisions first. "
            f"{change_text(scale)} {brackets}"
            "Margin: logit of the class minus the largest other logit; below 0 the prediction is wrong.")

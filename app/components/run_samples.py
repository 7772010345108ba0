"""The Samples tab of the Run page: stored images, natural and attacked, with the amplified change between them.

An attack run stores images of the test split, which the gallery shows. A search or retraining stores images of its first batch,
with the predictions of its newest network.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import evaluations, session
from app.components.gallery import change_text, gallery, pictures, share, shot
from app.components.states import empty_state, section
from app.formats import escape
from engine.attack.catalogue import ATTACKS, NATURAL, WORST
from engine.errors import RunLogError
from engine.insight.sentences import sentence
from engine.report.outcomes import has_predictions
from engine.report.robustness import WORST_TITLE
from engine.report.samples import Samples

MOST = 16  # images that are shown at once


def samples(run_id: str) -> None:
    """Show the stored images of a run, or say why there are none."""
    log = session.run_log()
    run = log.run(run_id)
    if not evaluations.changed(evaluations.result_file(run_id, evaluations.SAMPLES)):
        section("Samples")
        _nothing(run, log.state(run_id).is_over)
    elif run["kind"] == "attack":
        _attacked(run)
    else:
        _first_batch(run)


def _nothing(run: dict[str, Any], is_over: bool) -> None:
    if is_over:
        empty_state("No images stored", "This run ended before it stored images, or was made by an older version.")
    else:
        when = "when its attacks have ended" if run["kind"] == "attack" else "after its first step"
        empty_state("No images yet", f"The run stores some images {when}.")


def _attacked(run: dict[str, Any]) -> None:
    """Show the gallery of an attack run. Without the outcomes of its images, show the images alone."""
    try:
        outcomes = evaluations.outcomes(run["id"])
    except RunLogError:
        _pairs(run, evaluations.samples(run["id"]))
        return
    if has_predictions(outcomes):
        titles = {WORST: WORST_TITLE} | {name: attack.header for name, attack in ATTACKS.items()}
        gallery(run["id"], outcomes, titles, scale_of(run))
    else:
        _pairs(run, evaluations.samples(run["id"]))


def _first_batch(run: dict[str, Any]) -> None:
    section("First batch", "training images, not augmented, as the newest network sees them")
    if words := sentence(session.run_log(), run["id"], "samples"):
        st.html(f'<p class="rp-note">{escape(words)}</p>')
    _pairs(run, evaluations.samples(run["id"]))


def _pairs(run: dict[str, Any], stored: Samples) -> None:
    """Show each stored image and, if the run attacks images, the adversarial image that its first attack made from it."""
    attack = next((name for name in stored.pixels if name != NATURAL), "")
    scale = scale_of(run)
    cards = [_card(stored, place, attack, scale) for place in range(min(MOST, len(stored.images)))]
    st.html(f'<div class="rp-gallery rp-below">{"".join(cards)}</div>')
    if not attack:
        st.caption("The method attacks no images.")
        return
    title = stored.attack or (ATTACKS[attack].title if attack in ATTACKS else attack)
    st.caption(f"Natural image, change, and adversarial image under {title}. {change_text(scale)}"
               + (" In brackets, the softmax probability of the predicted class." if stored.predictions else ""))


def scale_of(run: dict[str, Any]) -> float:
    """Return the radius of a run's attack in the L-infinity norm; 0 if the attack has another norm or the run has no attack."""
    config = run["config"]
    return float(config.get("epsilon") or 0) if config.get("norm", "Linf") == "Linf" else 0.0


def _card(stored: Samples, place: int, attack: str, scale: float) -> str:
    """Return an image as an HTML figure, with its class and, if they are known, the predictions."""
    image = stored.images[place]
    natural, adversarial = stored.pixels[NATURAL][place], stored.pixels[attack][place] if attack else None
    title = f"class {stored.labels[place]}" if stored.labels else ""
    told = [_prediction(stored, name, place) for name in (NATURAL, attack) if name in stored.predictions]
    return shot(pictures(natural, adversarial, scale), title, image, f"predicted {' → '.join(told)}" if told else "")


def _prediction(stored: Samples, name: str, place: int) -> str:
    """Return a prediction with its confidence, for example "3 (99 %)"."""
    prediction, confidences = stored.predictions[name][place], stored.confidences.get(name)
    return f"{prediction} ({share(confidences[place])})" if confidences else str(prediction)

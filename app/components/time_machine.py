"""The genotypes of a search, epoch by epoch: a player whose pictures are all in the browser, so that playing needs no rerun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app import address
from app.assets import asset

_component = st.components.v2.component("rampart_time_machine", html='<div class="rp-machine"></div>',
                                        js=asset("cells.js", "time_machine.js"), isolate_styles=False)


@dataclass(frozen=True)
class Frame:
    """The content of the player for one epoch.

    Attributes:
        epoch: the epoch.
        html: picture of the cells. Its texts must be escaped already.
        words: sentence about the epoch.
    """

    epoch: int
    html: str
    words: str


def time_machine(frames: Sequence[Frame], run_id: str, *, name: str, key: str) -> None:
    """Show a player of epochs. The page's address keeps the epoch that the reader chooses. Until then, the newest is shown.

    Args:
        frames: at least one frame, in the order of the epochs. Equal pictures are sent once.
        run_id: id of the run. Another run starts at its own newest epoch.
        name: query parameter that holds the chosen epoch.
        key: key of the player, unique on the page.
    """
    pictures = list(dict.fromkeys(frame.html for frame in frames))
    numbers = {html: number for number, html in enumerate(pictures)}
    held = address.chosen(name, [str(frame.epoch) for frame in frames])

    def store() -> None:
        epoch = (st.session_state[key].get("chosen") or {}).get("epoch")
        address.choose(**{name: "" if epoch is None else str(epoch)})

    _component(data={"run": run_id, "held": int(held) if held else None, "frames": pictures,
                     "epochs": [{"epoch": frame.epoch, "frame": numbers[frame.html], "words": frame.words} for frame in frames]},
               key=key, on_chosen_change=store)

"""Export of a supernet's flat vectors under the names of the public DARTS family: the inverse of `load_darts_state_dict`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from engine.space import darts_names
from engine.space.darts_names import ALPHAS, BETAS, Place, family_shape
from engine.space.layout import Layout
from engine.space.supernet import Supernet


def darts_state_dict(supernet: Supernet, weights: Tensor, buffers: Tensor | None = None,
                     alphas: Tensor | None = None) -> dict[str, Tensor]:
    """Return copies of all tensors under the family's names, with alphas as `alphas_<kind>` and betas as `betas_<kind>`."""
    state = _export(supernet.layout, weights, darts_names.weight_places(supernet.cells, supernet.primitives))
    if buffers is not None:
        state |= _export(supernet.buffers, buffers, darts_names.buffer_places(supernet.cells, supernet.primitives))
    if alphas is not None:
        state |= {ALPHAS + kind: view.detach().clone() for kind, view in supernet.alpha_views(alphas).items()}
        state |= {BETAS + kind: view.detach().clone() for kind, view in supernet.beta_views(alphas).items()}
    return state


def _export(layout: Layout, flat: Tensor, places: Iterator[Place]) -> dict[str, Tensor]:
    views = layout.views(flat.detach())
    return {place.name: views[place.entry][place.at].reshape(family_shape(place, views)).clone() for place in places}

"""A toy page."""

from __future__ import annotations

from app.components.states import heading

heading("Toy page")

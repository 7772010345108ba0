"""Refusal of second derivatives, which the compiled kernels do not compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from engine.errors import ConfigError

PLAIN = "use a plain back end, such as Supernet(..., backend=\"merged\")"
OFF = "switch the kernels off with RAMPART_KERNELS=off"


def refuse_second_derivative(what: str, advice: str) -> Callable[..., NoReturn]:
    """Return a function that raises ConfigError, as the `backward` of an autograd function that computes first derivatives.

    With torch's `once_differentiable`, a second derivative could silently lack the terms that go through the first.

    Args:
        what: what was differentiated, for example "cell".
        advice: what to do instead.
    """
    def backward(ctx: Any, *_: Any) -> NoReturn:
        raise ConfigError(f"A compiled {what} must be differentiated once, got a second derivative; {advice}.")

    return backward

"""Name -> thing. Duplicates are refused; an unknown name is answered with the known ones and the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

from engine.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """A named collection of one kind of thing (methods, datasets, attacks, ...).

    Example:
        DATASETS: Registry[Dataset] = Registry("dataset")
        DATASETS.add("digits", digits)
        DATASETS["digits"]
    """

    def __init__(self, noun: str) -> None:
        """noun: what one entry is called in messages, for example "dataset"."""
        self.noun = noun
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Registers `entry` under `name` and returns it.

        Raises:
            ValueError: the name is taken (a mistake in our own code, hence no ConfigError).
        """
        if name in self._entries:
            raise ValueError(f"{self.noun} {name!r} is registered already")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise ConfigError(unknown_name(self.noun, name, self._entries))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """All (name, entry) pairs in the order of registration."""
        return list(self._entries.items())


def unknown_name(noun: str, name: object, known: object) -> str:
    """The sentence for a name that is not among `known` (an iterable of strings): lists them and the nearest."""
    names = sorted(str(k) for k in known)  # type: ignore[attr-defined]
    nearest = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"There is no {noun} {str(name)!r}; known are: {', '.join(names) or 'none'}.{hint}"

"""Registries of named entries. Looking up an unknown name raises an error that lists the known names."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

from engine.errors import ConfigError, shortened

T = TypeVar("T")
LONGEST_NAME = 100  # letters of an unknown name that a message repeats
LONGEST_LIST = 700  # characters of the known names in an error message that suggests one of them


class Registry(Generic[T]):
    """A collection of entries of one kind, such as methods, datasets or attacks. Entries are looked up by name.

    Example:
        DATASETS: Registry[Dataset] = Registry("dataset")
        DATASETS.add("digits", digits)
        DATASETS["digits"]
    """

    def __init__(self, noun: str) -> None:
        """Create an empty registry. Error messages call an entry `noun`, for example "dataset"."""
        self.noun = noun
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name` and return the entry.

        Raises:
            ValueError: the name is taken. This is not a ConfigError, because the mistake is in the code and not in the input.
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
        """Return all (name, entry) pairs in the order of registration."""
        return list(self._entries.items())


def unknown_name(noun: str, name: object, known: object) -> str:
    """Return the error message for an unknown name. It lists the known names and suggests the most similar one.

    If there is a suggestion, a long list of names is cut short.

    Args:
        noun: word for the named thing, for example "dataset".
        name: the unknown name.
        known: iterable of the known names.
    """
    names = sorted(str(k) for k in known)  # type: ignore[attr-defined]
    nearest = get_close_matches(str(name)[:LONGEST_NAME], names, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    listed = ", ".join(names) or "none"
    if nearest and len(listed) > LONGEST_LIST:
        shown = names[:listed[:LONGEST_LIST].count(", ")]
        listed = f"{', '.join(shown)} and {len(names) - len(shown)} others"
    return f"There is no {noun} {shortened(str(name), LONGEST_NAME)}; known are: {listed}.{hint}"

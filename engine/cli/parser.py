"""Subclasses of argparse's classes, with the error messages and the help layout that all verbs of the command line use."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import Any, NoReturn

from engine.architecture.placement import RULES
from engine.cli.verb_texts import TEXTS
from engine.errors import ConfigError

WIDEST = 100


class Layout(argparse.HelpFormatter):
    """A help formatter of at most 100 columns that never breaks lines at hyphens, so that options can be copied."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=min(WIDEST, shutil.get_terminal_size().columns - 2))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in self._split_lines(text, width - len(indent)))


class Parser(argparse.ArgumentParser):
    """An argument parser for one verb. If the arguments are wrong, it raises ConfigError."""

    def __init__(self, verb: str, text: str = "", **options: Any) -> None:
        super().__init__(prog=f"rampart {verb}", description=text, allow_abbrev=False, formatter_class=Layout, **options)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}; see `{self.prog} --help`.")


class Switch(argparse.Action):
    """An argparse action for a pair of options such as --flip and --no-flip, which take no value.

    Each occurrence of one of the options appends True (--flip) or False (--no-flip) to a list.
    """

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        earlier = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*earlier, option_string == self.option_strings[0]])


def add_arrangement(parser: Parser, default_text: str, default: str | None = None) -> None:
    """Add the options --placement and --width-ratio, which set the positions and the widths of the cells.

    Args:
        parser: parser to which the options are added.
        default_text: description of the default, for the help.
        default: value if the option is not given.
    """
    parser.add_argument("--placement", choices=list(RULES), default=default,
                        help=f"position rule of the cells (default: {default_text})")
    parser.add_argument("--width-ratio", metavar="A:B:C", default=default,
                        help=f"widths of the three thirds, like 1:2:4 (default: {default_text})")


def verb_parser(verb: str) -> Parser:
    """Return a parser for a verb, with the options --runs and --json."""
    parser = Parser(verb, TEXTS[verb])
    parser.add_argument("--runs", metavar="DIR", default=None, help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser

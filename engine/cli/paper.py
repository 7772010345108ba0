"""The verb `paper`, which writes a paper pack: an archive with the tables and figures of a study or of runs."""

from __future__ import annotations

import json
from pathlib import Path

from engine.cli.parser import Parser
from engine.errors import ConfigError
from engine.files import atomic_write_bytes
from engine.requests import runs_root


def paper(parser: Parser, arguments: list[str]) -> int:
    """Run the verb `paper` and return the exit code.

    Args:
        parser: parser with the options that all verbs have.
        arguments: words after the verb.

    Raises:
        RampartError: a study or run does not exist or cannot be read, or the file cannot be written.
    """
    from engine.paper.pack import paper_pack

    parser.add_argument("what", nargs="+", help="id of a study or its end, or ids of runs; the runs that they follow and those "
                        "that follow them are added")
    parser.add_argument("--out", metavar="FILE.zip", type=Path, help="the file to write (default: named after the first id, in "
                        "the current folder)")
    options = parser.parse_args(arguments)
    content = paper_pack(runs_root(options.runs), options.what)
    out = options.out or Path(f"{options.what[0]}-paper.zip")
    try:
        atomic_write_bytes(out, content)
    except OSError as problem:
        raise ConfigError(f"The paper pack could not be written to {out} ({problem.strerror or problem}); choose another --out."
                          ) from None
    print(json.dumps({"file": str(out)}) if options.json else out)
    return 0

"""The verbs of the command line: the table `VERBS` of the functions that run them, and `main`, which runs one.

The functions are grouped by subject: in `run_verbs`, `network_verbs`, `machine_verbs`, `alerts`, `marks`, `stores`
and `users`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from engine import __version__
from engine.cli import alerts, machine_verbs, marks, network_verbs, run_verbs, stores, users
from engine.cli.verb_texts import TEXTS
from engine.command import NAME
from engine.errors import ConfigError, RampartError
from engine.registry import unknown_name

# {verb: function that gets the verb and the words after it, and returns the exit code}
VERBS: dict[str, Callable[[str, list[str]], int]] = {
    "ui": machine_verbs.ui,
    "search": run_verbs.launch,
    "retrain": run_verbs.launch,
    "attack": run_verbs.launch,
    "estimate": run_verbs.estimate,
    "sweep": run_verbs.sweep,
    "transfer": run_verbs.transfer,
    "study": run_verbs.study,
    "queue": run_verbs.queue,
    "stop": run_verbs.stop,
    "resume": run_verbs.resume,
    "runs": run_verbs.runs,
    "alerts": alerts.alerts,
    **marks.VERBS,
    "describe": network_verbs.describe,
    "export": network_verbs.export,
    "paper": network_verbs.paper,
    "table": network_verbs.robustness_table,
    "compare": network_verbs.compare,
    "report": network_verbs.report,
    "transplant": network_verbs.transplant,
    "whatif": network_verbs.whatif,
    "import": network_verbs.import_file,
    "dataset": machine_verbs.dataset,
    "sql": machine_verbs.sql,
    "store": stores.store,
    "user": users.user,
    "audit": users.audit_lines,
    "doctor": machine_verbs.doctor,
    "reindex": machine_verbs.reindex,
    "schema": machine_verbs.schema,
    "presets": machine_verbs.presets,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the command line and return the exit code.

    The exit codes are:

    * 0: the command succeeded.
    * 1: a run that the command waited for failed or was stopped, `doctor` found a problem, `estimate` printed a warning, or one
      of the `alerts` is an error.
    * 2: the command was rejected, or refused for some of the named runs, with a message on stderr.
    * 130: the user interrupted a wait.

    Args:
        arguments: words after `rampart`; None for the arguments of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(usage())
            return 0
        verb = arguments[0]
        if verb == "--version":
            print(f"{NAME} {__version__}")
            return 0
        if verb not in VERBS:
            raise ConfigError(unknown_name("command", verb, VERBS))
        return VERBS[verb](verb, arguments[1:])
    except RampartError as problem:
        print(problem, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:  # a folder that cannot be written, or a full disk
        where = problem.filename or "a file in it"
        print(f"The runs folder must be readable and writable, and {where} is not ({problem.strerror or problem}); free some "
              "space, change its permissions or choose another folder (--runs DIR).", file=sys.stderr)
        return 2


def usage() -> str:
    """Return the help text of the command line, with one line for each verb."""
    lines = [f"  {name:<12}{TEXTS[name]}" for name in VERBS]
    return "\n".join(["usage: rampart VERB [options]", "", *lines, "", "`rampart VERB --help` lists the options of a verb."])

"""The command `rampart ui` (or `python -m app`), which starts the dashboard on this machine and prints its address."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `rampart ui` starts this folder by its path
    sys.path.insert(0, str(ROOT))

from app.webhook import VARIABLE, checked  # noqa: E402
from engine.errors import ConfigError  # noqa: E402

# Makes the libraries return freed memory to the system. With 1,000 runs, DuckDB's own allocator otherwise keeps about 80 MB after
# the first query of all runs and, with one arena for each thread, 15 MB more. Arrow's own allocator keeps 25 to 40 MB, of which 3
# are in use. In the arenas that the C library makes for each thread, about 15 MB are unused. These variables must be set before
# the process starts.
ALLOCATORS = {"DUCKDB_JE_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0,narenas:1", "ARROW_DEFAULT_MEMORY_POOL": "system",
              "MALLOC_ARENA_MAX": "1"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _refuse(f"{message[:1].upper()}{message[1:]}; see `{self.prog} --help`.")


def main() -> None:
    """Print the address and replace this process with Streamlit's server.

    Raises:
        SystemExit: with code 2 if an option is invalid, or if the address or port cannot be used.
    """
    parser = _Parser(prog="rampart ui", allow_abbrev=False,
                     description="Start the dashboard in the browser, on this machine only.")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default: 8501)")
    parser.add_argument("--address", default="127.0.0.1",
                        help="address to listen on (default: 127.0.0.1); use 0.0.0.0 only in a container")
    parser.add_argument("--runs", metavar="DIR", help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    parser.add_argument("--webhook", metavar="URL", default=os.environ.get(VARIABLE), help=(
        "address to which new warnings and errors are posted as JSON (default: $RAMPART_WEBHOOK); see docs/alerts.md"))
    options = parser.parse_args()
    if options.runs == "":
        parser.error("argument --runs: must name a folder, got ''")
    if not 1 <= options.port <= 65535:
        parser.error(f"argument --port: must be in 1..65535, got {options.port}")
    if options.webhook:
        try:
            os.environ[VARIABLE] = checked(options.webhook)
        except ConfigError as problem:
            _refuse(str(problem))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.address, options.port))
        except OSError as problem:
            _refuse(f"The dashboard cannot use port {options.port} of {options.address} ({problem}); if it is running already, "
                    f"open http://127.0.0.1:{options.port}, else choose another port with "
                    f"'rampart ui --port {options.port + 1}'.")
    if options.runs:
        os.environ["RAMPART_RUNS"] = options.runs
    os.environ.update({name: value for name, value in ALLOCATORS.items() if name not in os.environ})
    print(f"Rampart: http://127.0.0.1:{options.port} (Ctrl-C stops the dashboard; runs continue)", flush=True)
    # Streamlit prints a greeting with other addresses to stdout; its warnings and errors go to stderr.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # -P keeps Python from importing a folder named `app` or `engine` in the working folder instead of ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "streamlit", "run", str(Path(__file__).resolve().with_name("serve.py")),
                              "--server.port", str(options.port), "--server.address", options.address,
                              "--server.headless", "true", "--logger.level", "warning"])


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()

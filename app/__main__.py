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

from app.access import settings, token  # noqa: E402
from app.access.hosts import WILDCARDS  # noqa: E402
from app.webhook import VARIABLE, checked  # noqa: E402
from engine import requests  # noqa: E402
from engine.errors import RampartError  # noqa: E402

# These make the libraries return freed memory to the system. With 1,000 runs, DuckDB's own allocator otherwise keeps about 80 MB
# after the first query of all runs and, with one arena for each thread, 15 MB more. Arrow's own allocator keeps 25 to 40 MB, of
# which 3 are in use. The variables must be set before the process starts.
ALLOCATORS = {"DUCKDB_JE_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0,narenas:1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _refuse(f"{message[:1].upper()}{message[1:]}; see `{self.prog} --help`.")


def main() -> None:
    """Print the address and replace this process with Streamlit's server.

    Raises:
        SystemExit: with code 2 if an option is invalid, or if the address or port cannot be used.
    """
    options = _options()
    _check_port(options.address, options.port)
    try:
        link = _prepare(options)
    except RampartError as problem:
        _refuse(str(problem))
    os.environ.update({name: value for name, value in ALLOCATORS.items() if name not in os.environ})
    print(f"Rampart: {link} (Ctrl-C stops the dashboard; runs continue)", flush=True)
    # Streamlit prints a greeting with other addresses to stdout; its warnings and errors go to stderr.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # -P keeps Python from importing a folder named `app` or `engine` in the working folder instead of ours.
    server, pages = (str(Path(__file__).resolve().with_name(name)) for name in ("streamlit_server.py", "serve.py"))
    os.execv(sys.executable, [sys.executable, "-OO", "-P", server, "run", pages, "--server.port", str(options.port),
                              "--server.address", options.address, "--server.headless", "true", "--logger.level", "warning"])


def _options() -> argparse.Namespace:
    """Return the options of the command line. If an option is not valid, or two exclude each other, exit with a message."""
    parser = _Parser(prog="rampart ui", allow_abbrev=False,
                     description="Start the dashboard in the browser, on this machine only.")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default: 8501)")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--runs", metavar="DIR", help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    _add_access(parser)
    parser.add_argument("--launcher", metavar="NAME", help=(
        "what starts the runs: local, which is this machine, or another of docs/scale.md. The choice is remembered in the runs "
        "folder (default: as before, at first local)"))
    parser.add_argument("--launcher-set", metavar="NAME=VALUE", action="append", default=[], help=(
        "setting of the launcher, such as partition=gpu; may be given several times"))
    parser.add_argument("--webhook", metavar="URL", default=os.environ.get(VARIABLE), help=(
        "address to which new warnings and errors are posted as JSON (default: $RAMPART_WEBHOOK); see docs/alerts.md"))
    options = parser.parse_args()
    if options.runs == "":
        parser.error("argument --runs: must name a folder, got ''")
    if not 1 <= options.port <= 65535:
        parser.error(f"argument --port: must be in 1..65535, got {options.port}")
    if options.launcher_set and not options.launcher:
        parser.error("--launcher-set needs --launcher NAME")
    if options.no_token and options.login:
        parser.error("--no-token and --login exclude each other")
    return options


def _add_access(parser: argparse.ArgumentParser) -> None:
    """Add the options for access to the dashboard: --no-token, --login and --allowed-host."""
    parser.add_argument("--no-token", action="store_true", help=(
        "let every user of this machine read and drive the dashboard, as RAMPART_ACCESS=open does; for machines of one user"))
    parser.add_argument("--login", action="store_true", help=(
        "ask for name and password instead of the token, as at every address that other machines can reach; see docs/deploy.md"))
    parser.add_argument("--allowed-host", metavar="NAME", action="append", default=[], help=(
        "further name under which the dashboard may be opened, for example that of a reverse proxy; may be given several times "
        "(default: $RAMPART_ALLOWED_HOSTS, names separated by commas)"))


def _prepare(options: argparse.Namespace) -> str:
    """Set the environment variables of the server, and return the link that opens the dashboard.

    Raises:
        RampartError: an option or environment variable is not valid, or the token cannot be used.
    """
    if options.webhook:
        os.environ[VARIABLE] = checked(options.webhook)
    if options.runs:
        os.environ["RAMPART_RUNS"] = options.runs
    if options.allowed_host:
        os.environ[settings.HOSTS] = ",".join(options.allowed_host)
    if options.no_token:
        os.environ[settings.MODE] = "open"
    if options.login:
        os.environ[settings.MODE] = "login"
    settings.hosts(options.address)
    runs, mode = requests.runs_root(), settings.mode(options.address)
    shown = "127.0.0.1" if options.address in WILDCARDS else options.address
    link = f"http://{f'[{shown}]' if ':' in shown else shown}:{options.port}"
    if mode == "login":
        settings.check_users(runs)
    if options.launcher:
        from engine import queueing  # imports pandas, which this process needs for nothing else

        queueing.choose_launcher(runs, options.launcher, queueing.settings_of(options.launcher_set))
    return f"{link}/?token={token.token_of(runs)}" if mode == "token" else link


def _check_port(address: str, port: int) -> None:
    """Exit with a message if the dashboard cannot use a port, for example because the port is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as problem:
            _refuse(f"The dashboard cannot use port {port} of {address} ({problem}); if it is running already, "
                    f"open http://127.0.0.1:{port}, else choose another port with 'rampart ui --port {port + 1}'.")


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()

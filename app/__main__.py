"""`python -m app [--port N]`: starts the dashboard on the loopback interface and says where in one line."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path


def main() -> None:
    """Replaces this process by Streamlit's server; stdout stays free for the one line that matters.

    Raises:
        SystemExit: with a sentence, when the port is taken.
    """
    parser = argparse.ArgumentParser(prog="python -m app", description="Start Rampart's dashboard on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8501, help="default 8501")
    port = parser.parse_args().port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise SystemExit(f"Port {port} is in use, perhaps by a dashboard that runs already: open http://127.0.0.1:{port}, "
                             f"or choose another with 'python -m app --port {port + 1}'.") from None
    print(f"Rampart: http://127.0.0.1:{port} (Ctrl-C ends the dashboard; runs go on)", flush=True)
    os.chdir(Path(__file__).resolve().parent.parent)
    # Streamlit greets with several lines and addresses of its own; warnings and errors go to stderr and stay.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port),
                              "--server.address", "127.0.0.1", "--server.headless", "true", "--logger.level", "warning"])


if __name__ == "__main__":
    main()

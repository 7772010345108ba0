"""`python -m app [--port N]`: start the dashboard on the loopback interface and print its address."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path


def main() -> None:
    """Print the address and replace this process by Streamlit's server.

    Raises:
        SystemExit: the port is taken.
    """
    parser = argparse.ArgumentParser(prog="python -m app", description="Start Rampart's dashboard on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8501, help="default 8501")
    port = parser.parse_args().port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise SystemExit(f"Port {port} is in use, perhaps by another dashboard: open http://127.0.0.1:{port}, "
                             f"or choose another port with 'python -m app --port {port + 1}'.") from None
    print(f"Rampart: http://127.0.0.1:{port} (Ctrl-C stops the dashboard; runs continue)", flush=True)
    os.chdir(Path(__file__).resolve().parent.parent)
    # Streamlit prints a greeting with other addresses to stdout; its warnings and errors go to stderr.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port),
                              "--server.address", "127.0.0.1", "--server.headless", "true", "--logger.level", "warning"])


if __name__ == "__main__":
    main()

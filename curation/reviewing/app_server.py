"""FiftyOne's web server as one process of ours, which ends with us however we end.

FiftyOne would start it through a second process that imports fiftyone too, and gives up after a
minute: on a busy machine the two imports take longer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from mild_bench.errors import BadInput, MissingPart

ADDRESS = "127.0.0.1"
PATIENCE = 300.0  # seconds; 10 to 20 are usual
# The pipe closes when its writer ends, even by kill -9.
SERVE = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
runpy.run_path("main.py", run_name="__main__")
"""


def check_port(port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        BadInput: it is taken, or no port.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"port: expected a free one in 1..65535, got {port}; pass another with --port"
            ) from error


@contextlib.contextmanager
def app_server(port: int, log: Path) -> Iterator[str]:
    """Serve the App while the block runs; yields its address. ``log`` gets what it says.

    Raises:
        MissingPart: FiftyOne is not installed.
        BadInput: the server ended or did not answer.
    """
    arguments = ["--port", str(port), "--address", ADDRESS]
    with log.open("wb") as said:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments],
            cwd=_home(),
            env={**os.environ, "FIFTYONE_DISABLE_SERVICES": "1"},
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        address = f"http://{ADDRESS}:{port}"
        _wait(server, address, log)
        yield address
    finally:
        server.kill()  # it holds nothing: all is in the database
        server.wait()


def _home() -> Path:
    spec = importlib.util.find_spec("fiftyone")
    for place in (spec.submodule_search_locations or []) if spec else []:
        return Path(place) / "server"
    raise MissingPart("fiftyone: expected the package, found none; 'uv pip install fiftyone'")


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        if _answers(address):
            return
        time.sleep(0.2)
    raise BadInput(f"the App does not answer at {address}; its reason is at the end of {log}")


def _answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/fiftyone", timeout=10):
            return True
    except (URLError, ConnectionError, TimeoutError):
        return False

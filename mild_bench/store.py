"""Files that survive a kill: atomic writes, canonical JSON, hashes, paths that stay inside."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mild_bench.errors import BadInput


def canonical_json(value: Any) -> bytes:
    """Return the one JSON spelling of ``value``: sorted keys, no NaN, a final newline."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def number_or_none(value: float) -> float | None:
    """Return ``value``, or None where JSON has no spelling for it (NaN, infinities)."""
    return float(value) if math.isfinite(value) else None


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either its old content or all of the new.

    Raises:
        BadInput: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as canonical JSON, atomically."""
    write_bytes(path, canonical_json(value))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BadInput: no such file, or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: expected a JSON file, got {error}") from error


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes ``path`` when the block ends without an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield scratch
        if path.exists():
            shutil.rmtree(path)
        scratch.chmod(0o755)
        scratch.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> BadInput:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    mend = "free some space and run the same command again" if full else "name a place to write to"
    return BadInput(
        f"{path}: could not be written ({error.strerror}); what was finished before is kept: {mend}"
    )


def sweep_parts(folder: Path) -> None:
    """Remove what a killed run left half-written directly under ``folder``."""
    for part in folder.glob(".*.part"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, name: str) -> Path:
    """Return ``folder / name``, refusing a name that leads out of the folder.

    Raises:
        BadInput: absolute, ``..``, a drive, or a link that points outside.
    """
    pure = PurePosixPath(name)
    bad = pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or not pure.parts
    path = folder / name
    if bad or not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(
            f"{folder}: the name {name!r} leads out of its folder; "
            "allowed are relative names without '..': do not use this bundle"
        )
    return path

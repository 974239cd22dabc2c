"""Which database and folders FiftyOne uses for a workspace; to be settled before its import."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mild_bench.curation.reviewing.mongod import start_mongod, stop_mongod
from mild_bench.errors import BadInput

FOLDER = ".fiftyone"
PATIENCE_MS = 5000


def database_folder(workspace: Path) -> Path:
    """Return where a workspace's database lives: MILD_BENCH_DATABASE_DIR, else inside it."""
    chosen = os.environ.get("MILD_BENCH_DATABASE_DIR")
    return (Path(chosen) if chosen else workspace / FOLDER).resolve()


def use_database(workspace: Path) -> None:
    """Point FiftyOne to the workspace's database, and all that it keeps to the same folder.

    A server named by FIFTYONE_DATABASE_URI is used as it is. FiftyOne reads these settings once:
    a process that opens a second workspace keeps it in the database of the first.

    Raises:
        MissingPart: no database program here.
        BadInput: the folder cannot be used, or the server named does not answer.
    """
    folder = database_folder(workspace)
    if not os.environ.get("FIFTYONE_DATABASE_URI"):
        mongod = start_mongod(folder)
        # FiftyOne's own clean-up at exit needs the database; what is registered first runs last.
        atexit.register(stop_mongod, mongod)
        os.environ["FIFTYONE_DATABASE_URI"] = mongod.uri
    _ping(os.environ["FIFTYONE_DATABASE_URI"])
    settings = {
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
        "FIFTYONE_CONFIG_PATH": str(folder / "config.json"),
        "FIFTYONE_APP_CONFIG_PATH": str(folder / "app_config.json"),
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "downloads"),
        "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    for variable, value in settings.items():
        os.environ.setdefault(variable, value)


@contextlib.contextmanager
def database_answers() -> Iterator[None]:
    """Turn the loss of the database, while the block works with it, into one clear line.

    Raises:
        BadInput: the database does not answer any more.
    """
    from pymongo.errors import PyMongoError

    try:
        yield
    except PyMongoError as error:
        raise BadInput(
            f"the database at {os.environ['FIFTYONE_DATABASE_URI']} does not answer any more "
            f"({type(error).__name__}); what it holds is kept: run the same command again"
        ) from error


def _ping(uri: str) -> None:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=PATIENCE_MS) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise BadInput(
            f"FIFTYONE_DATABASE_URI: expected a MongoDB server that answers, got {uri!r} "
            f"({type(error).__name__}); unset it to use a database of the workspace's own"
        ) from error

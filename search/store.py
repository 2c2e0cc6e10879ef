"""Every measurement that was made, in one append-only SQLite file that survives being killed at any moment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eqnet.errors import RunError
from eqnet.formats import LayerFormat
from eqnet.subnet import Subnet

APPLICATION = 0x65716E74
"""SQLite's application id of a store: "eqnt" in ASCII."""
VERSION = 1

_SCHEMA = """
CREATE TABLE fingerprint (value TEXT NOT NULL);
CREATE TABLE measurements (
    number INTEGER PRIMARY KEY,
    subnet TEXT NOT NULL UNIQUE,
    divergence REAL NOT NULL,
    loss REAL NOT NULL,
    accuracy REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Measurement:
    """What a subnet is worth on the samples that a search measures on.

    Attributes:
        divergence: of its outputs from those of the supernet in floating point, in nats.
        loss: the task's, mean over the samples.
        accuracy: the task's metric, mean over the samples.
    """

    divergence: float
    loss: float
    accuracy: float


class Store:
    """Measurements by subnet, of one fingerprint: a model, its data and how it is measured.

    Each measurement is one durable transaction. ``open`` makes a store; it is a context manager.
    """

    def __init__(self, database: sqlite3.Connection, path: str | Path) -> None:
        self._database, self._path = database, path

    @classmethod
    def open(cls, path: str | Path, fingerprint: str) -> Store:
        """Opens the file, or makes it; ``:memory:`` keeps nothing.

        Raises:
            RunError: the file is corrupt, not a store, of a newer version or of another fingerprint, or it cannot
                be written.
        """
        with _explained(path):
            database = sqlite3.connect(path, isolation_level=None)
            try:
                _prepare(database, path, fingerprint)
            except BaseException:
                database.close()
                raise
        return cls(database, path)

    def get(self, subnet: Mapping[str, LayerFormat]) -> Measurement | None:
        """The measurement of ``subnet``; None if it was not measured."""
        query = "SELECT divergence, loss, accuracy FROM measurements WHERE subnet = ?"
        with _explained(self._path):
            row = self._database.execute(query, (_key(subnet),)).fetchone()
        return Measurement(*row) if row is not None else None

    def add(self, subnet: Mapping[str, LayerFormat], measurement: Measurement) -> None:
        """Keeps a measurement; one that is there already stays."""
        values = (_key(subnet), measurement.divergence, measurement.loss, measurement.accuracy)
        with _explained(self._path):
            self._database.execute(
                "INSERT OR IGNORE INTO measurements (subnet, divergence, loss, accuracy) VALUES (?, ?, ?, ?)", values
            )

    def all(self) -> list[tuple[Subnet, Measurement]]:
        """Everything, in the order in which it was measured."""
        query = "SELECT subnet, divergence, loss, accuracy FROM measurements ORDER BY number"
        with _explained(self._path):
            rows = self._database.execute(query).fetchall()
        return [(Subnet.from_json(json.loads(text)), Measurement(*values)) for text, *values in rows]

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _prepare(database: sqlite3.Connection, path: str | Path, fingerprint: str) -> None:
    # WAL: a measurement is one append and one sync, and a killed writer leaves no half of one.
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if not application and not tables:
        database.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        )
        database.execute("INSERT INTO fingerprint VALUES (?)", (fingerprint,))
        return
    if application != APPLICATION:
        raise RunError(f"{path}: is a database of another program; choose another folder, or remove the file")
    if version > VERSION:
        raise RunError(f"{path}: was written by a newer eqnet (layout {version}, not {VERSION}); update eqnet")
    found = database.execute("SELECT value FROM fingerprint").fetchone()
    if found is None:  # killed between the two statements above
        database.execute("INSERT INTO fingerprint VALUES (?)", (fingerprint,))
    elif found[0] != fingerprint:
        raise RunError(
            f"{path}: holds measurements of another model, data or space; choose another folder, or start over with "
            "--fresh"
        )


def _key(subnet: Mapping[str, LayerFormat]) -> str:
    return json.dumps({name: fmt.to_json() for name, fmt in sorted(subnet.items())}, separators=(",", ":"))


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as e:  # of the machine
        raise RunError(
            f"{path}: measurements cannot be kept there ({e}); free some space or choose another folder"
        ) from e
    except sqlite3.DatabaseError as e:  # of what the file holds
        raise RunError(f"{path}: cannot be used as a store of measurements ({e}); start over with --fresh") from e

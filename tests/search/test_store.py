"""The store of measurements: durable, and refused when it is not what it should be."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eqnet.errors import RunError
from eqnet.formats import Format, LayerFormat
from eqnet.search.store import Measurement, Store
from eqnet.subnet import Subnet

ONE = Subnet({"a": LayerFormat(Format(4), Format(8, False)), "b": LayerFormat(Format(2))})
OTHER = Subnet({"a": LayerFormat(Format(3), Format(8, False)), "b": LayerFormat(Format(2))})
VALUE = Measurement(divergence=0.1, loss=1 / 3, accuracy=0.9)


def test_keeps_values_bit_for_bit_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store.open(path, "x") as store:
        assert store.get(ONE) is None
        store.add(OTHER, VALUE)
        store.add(ONE, Measurement(1e-300, 2.0, 0.0))
    with Store.open(path, "x") as store:
        assert store.get(OTHER) == VALUE
        assert store.all() == [(OTHER, VALUE), (ONE, Measurement(1e-300, 2.0, 0.0))]


def test_order_of_layers_does_not_matter_and_the_first_value_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.sqlite", "x") as store:
        store.add(ONE, VALUE)
        store.add(ONE, Measurement(9.0, 9.0, 0.0))
        assert store.get(Subnet(dict(reversed(list(ONE.items()))))) == VALUE


def test_survives_sigkill_after_every_add(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    program = f"""
import time
from eqnet.formats import Format, LayerFormat
from eqnet.search.store import Measurement, Store
store = Store.open({str(path)!r}, "x")
for i in range(100000):
    fmt = LayerFormat(Format(2 + i % 7), Format(8, False))
    store.add({{f"layer {{i}}": fmt}}, Measurement(float(i), 0.0, 0.0))
    print(i, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last >= 20:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    with Store.open(path, "x") as store:
        values = [measurement.divergence for _, measurement in store.all()]
    assert len(values) > last
    assert values == [float(i) for i in range(len(values))]


def _foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE photographs (name TEXT)")
    database.close()


def _newer(path: Path) -> None:
    Store.open(path, "x").close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"these are no measurements" * 100), "cannot be used as a store"),
        (_foreign_database, "another program"),
        (_newer, "newer eqnet"),
        (lambda path: Store.open(path, "another model").close(), "another model, data or space"),
    ],
    ids=["corrupt", "foreign", "newer", "other-fingerprint"],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, make, message: str) -> None:
    path = tmp_path / "store.sqlite"
    make(path)
    with pytest.raises(RunError, match=message) as raised:
        Store.open(path, "x")
    assert str(path) in str(raised.value)


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere"):
        Store.open(tmp_path / "nowhere" / "store.sqlite", "x")

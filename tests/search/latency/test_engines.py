"""What is said of latencies that cannot be measured."""

from __future__ import annotations

from importlib import metadata

import pytest

from eqnet import BudgetError
from eqnet.errors import MissingPackageError
from eqnet.export.targets import load_target
from eqnet.search.budget import Budget
from eqnet.search.latency.engines import TIMED, check_engine
from eqnet.search.latency.onnxruntime import onnxruntime

BUDGETS = [Budget.parse("4bit"), Budget.parse("5ms")]
MORE = {**TIMED, "onnxruntime": onnxruntime("onnxruntime", lambda *_: None)}


def test_targets_that_can_be_timed_pass() -> None:
    check_engine(BUDGETS, load_target("eqnet"))
    check_engine(BUDGETS, load_target("onnxruntime"), MORE)
    check_engine(BUDGETS[:1], load_target("tensorrt"))
    check_engine(BUDGETS[:1], None)


def test_others_are_refused_with_those_that_can_be() -> None:
    with pytest.raises(BudgetError) as refused:
        check_engine(BUDGETS, load_target("tensorrt"), MORE)
    assert str(refused.value) == (
        "budget '5ms': latency is measured with the engine that is to run the network, and that of the target "
        "'tensorrt' cannot be measured here; search for the target eqnet or onnxruntime: --target eqnet"
    )
    with pytest.raises(BudgetError, match=r"no target was given; search for the target eqnet: --target eqnet"):
        check_engine(BUDGETS, None)


def test_an_engine_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(package: str) -> str:
        if package == "onnxruntime":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without)
    with pytest.raises(MissingPackageError, match=r"'onnxruntime' needs onnxruntime; run: pip install 'eqnet\[onnx\]'"):
        check_engine(BUDGETS, load_target("onnxruntime"), MORE)


def test_machines_are_told_by_threads_and_versions() -> None:
    own, other = (MORE[name].machine(2) for name in ("eqnet", "onnxruntime"))
    assert f", 2 threads, eqnet {metadata.version('eqnet')}, torch " in own
    assert f", 2 threads, onnxruntime {metadata.version('onnxruntime')}, eqnet " in other
    assert MORE["eqnet"].machine(1).replace("1 thread,", "2 threads,") == own

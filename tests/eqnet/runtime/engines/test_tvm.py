"""Libraries that TVM compiled, in its runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import eqnet.runtime
from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.runtime.engines import elf
from eqnet.runtime.engines.tvm import LibraryRecord
from tests.eqnet.runtime.engines.files import LIBRARY, WEIGHT, X, compiled

ROUNDING = 1e-5
"""Sums of 32 products of numbers below 10 in float32."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("tvm") / "x.so", LIBRARY)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("tvm") / "foreign.so", batch=7)


def test_library_runs_on_tensors_wherever_they_lie(library: Path) -> None:
    runner = eqnet.runtime.open(library)
    x = torch.from_numpy(X)
    assert np.abs(runner(x).numpy() - X @ WEIGHT).max() < ROUNDING
    assert np.abs(runner(x[1:4]).numpy() - X[1:4] @ WEIGHT).max() < ROUNDING
    turned = torch.from_numpy(np.asfortranarray(X))
    assert np.abs(runner(turned).numpy() - X @ WEIGHT).max() < ROUNDING
    odd = torch.zeros(1 + x.numel())[1:].view_as(x).copy_(x)
    assert odd.data_ptr() % 64
    assert np.abs(runner(odd).numpy() - X @ WEIGHT).max() < ROUNDING


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell which cores may be used")
def test_the_process_keeps_all_its_cores(library: Path) -> None:
    code = (
        "import os, sys, torch, eqnet.runtime; before = os.sched_getaffinity(0); "
        "run = eqnet.runtime.open(sys.argv[1], threads=2); run(torch.zeros(3, 32)); "
        "assert os.sched_getaffinity(0) == before"
    )
    subprocess.run([sys.executable, "-c", code, str(library)], check=True)


def test_runner_says_what_it_takes_and_what_it_is(library: Path, foreign: Path) -> None:
    runner = eqnet.runtime.open(library, threads=2)
    assert runner.kind == "tvm"
    assert [str(spec) for spec in runner.inputs] == ["x: float32 [N, 32]"]
    assert runner.record is not None
    assert [*runner.record.layers] == ["fc"]
    assert str(runner).startswith("TVM ")
    assert runner.layers(torch.from_numpy(X)) == {}
    unknown = eqnet.runtime.open(foreign)
    assert (unknown.record, unknown.inputs) == (None, ())
    assert str(unknown).endswith("; the file carries no quantization record")
    assert np.abs(unknown(torch.from_numpy(X)).numpy() - X @ WEIGHT).max() < ROUNDING
    with pytest.raises(InputError, match=r"foreign\.so: does not run on float32 \[3, 32\]: "):
        unknown(torch.zeros(3, 32))


def test_other_inputs_are_refused_with_the_expected_ones(library: Path) -> None:
    runner = eqnet.runtime.open(library)
    for xs in ((torch.zeros(2, 31),), (torch.zeros(2, 32).double(),), (torch.zeros(2, 32),) * 2):
        with pytest.raises(InputError, match=r"x\.so: takes x: float32 \[N, 32\]; given float"):
            runner(*xs)


def test_record_is_read_without_loading_the_library(library: Path, tmp_path: Path) -> None:
    other = bytearray(library.read_bytes())
    other[18:20] = (0xB7).to_bytes(2, "little")  # e_machine of AArch64
    (tmp_path / "arm.so").write_bytes(other)
    record = LibraryRecord.read(tmp_path / "arm.so")
    assert (record.machine, record.version, record.kernels) == ("aarch64", "9.8.7", "tir")
    with pytest.raises(RunError, match=r"arm\.so: is for aarch64; this machine is \w+: export it anew"):
        eqnet.runtime.open(tmp_path / "arm.so")


@pytest.mark.parametrize("size", [0, 3, 40, 5000], ids=str)
def test_part_of_a_library_is_refused_by_name(library: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "cut.so").write_bytes(library.read_bytes()[:size])
    with pytest.raises(RunError, match=r"cut\.so: is no .*export it again"):
        eqnet.runtime.open(tmp_path / "cut.so")


def test_library_without_a_relax_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.c").write_text(
        'const char before[] = "a"; const char eqnet_record[] = "[1]"; int f() {return 0;}'
    )
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "plain.c", "-o", tmp_path / "plain.so"], check=True)
    assert elf.read(tmp_path / "plain.so", "before").text == b"a"
    assert elf.read(tmp_path / "plain.so", "eqnet_record").text == b"[1]"
    assert elf.read(tmp_path / "plain.so", "eqnet").text is None
    with pytest.raises(RunError, match=r"plain\.so: its eqnet_record lacks version, record, inputs or kernels"):
        eqnet.runtime.open(tmp_path / "plain.so")
    (tmp_path / "plain.c").write_text("int f;")
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "plain.c", "-o", tmp_path / "none.so"], check=True)
    with pytest.raises(RunError, match=r"none\.so: TVM finds no Relax program with a function 'main' in it"):
        eqnet.runtime.open(tmp_path / "none.so")


def test_missing_package_is_named_with_what_installs_it(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(MissingPackageError, match=r"x\.so: .*pip install 'eqnet\[tvm\]'"):
        eqnet.runtime.open(library)


def test_only_the_runtime_is_loaded(library: Path) -> None:
    code = (
        "import os, sys, torch, eqnet.runtime\n"
        f"assert eqnet.runtime.open({str(library)!r})(torch.zeros(2, 32)).shape == (2, 5)\n"
        "loaded = [line.split('/')[-1].strip() for line in open('/proc/self/maps') if 'libtvm' in line]\n"
        "assert 'libtvm_runtime.so' in loaded and not any('compiler' in name for name in loaded), loaded\n"
        "assert 'TVM_USE_RUNTIME_LIB' not in os.environ"
    )
    if sys.platform != "linux":
        pytest.skip("only Linux tells what a process has loaded")
    subprocess.run([sys.executable, "-c", code], check=True)

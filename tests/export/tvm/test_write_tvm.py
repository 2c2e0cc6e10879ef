"""Libraries with eqnet's own kernels, as TVM's runtime runs them."""

from __future__ import annotations

import ctypes
import json
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.export.tvm import TvmOptions, TvmReport, write_tvm
from eqnet.packed.layers import PackedLinear
from eqnet.packed.model import PackedModel
from eqnet.packed.record import Record
from eqnet.runtime import compile
from eqnet.runtime import open as open_artifact
from tests.eqnet.runtime.networks import Formats, packed
from tests.export.tvm.libraries import defined_symbols, load, run
from tests.export.tvm.test_serialized import chain

tvm = pytest.importorskip("tvm", reason="needs pip install 'eqnet[tvm]'")

KERNELS = 600_000
"""Bytes of the kernels of convolutions, for all instruction sets of one processor."""

ROUNDING = 1e-6
"""Relative to sums of absolute products: float32 where the definition has float64."""

OPTIONS = TvmOptions(kernels="eqnet")
FORMATS = ("uint3:group5 × uint8:tensor", "int8:channel × uint8:tensor")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[PackedModel, TvmReport]]:
    """Two networks of one kind, each with its library."""
    folder = tmp_path_factory.mktemp("whole")
    made = {}
    for formats, name in zip(FORMATS, ("three bits.so", "eight-bits.so"), strict=True):
        model, x = chain(formats)
        made[formats] = model, write_tvm(model, folder / name, x, options=OPTIONS)
    return made


def test_libraries_compute_what_programs_do_for_any_number_of_samples(whole: dict[str, Any]) -> None:
    mains = [(model, load(report.path)) for model, report in whole.values()]  # both at once in one process
    for samples in (1, 5):
        x = torch.randn(samples, 3, 6, 8, generator=torch.Generator().manual_seed(samples))
        for model, main in mains:
            assert run(main, x).equal(compile(model, x)(x))


def test_several_threads_may_call_a_library_at_once(whole: dict[str, Any]) -> None:
    model, report = whole[FORMATS[0]]
    x = torch.randn(4, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    expected, found = compile(model, x)(x), list[Tensor]()
    opened = open_artifact(report.path)
    callers = [threading.Thread(target=lambda: found.extend(opened(x) for _ in range(20))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 80
    assert all(y.equal(expected) for y in found)


def test_libraries_are_as_small_as_their_weights_and_the_kernels(whole: dict[str, Any]) -> None:
    for model, report in whole.values():
        weights = {id(layer.codes): layer.weight for layer in model.layers.values()}.values()
        assert report.weight_bytes == sum(weight.nbytes for weight in weights)
        assert report.path.stat().st_size == report.nbytes < report.weight_bytes + KERNELS
        assert (report.whole, report.kernels) == (True, "eqnet")
        assert report.difference is not None


def test_libraries_say_what_they_are(whole: dict[str, Any]) -> None:
    _, report = whole[FORMATS[0]]
    text = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(ctypes.CDLL(str(report.path)), "eqnet_record")))
    said = json.loads(text)
    assert said["kernels"] == "eqnet"
    assert said["inputs"] == [{"name": "x", "shape": [None, 3, 6, 8], "dtype": "float32"}]
    assert Record.from_json(said["record"]) == Record({})


def test_libraries_show_nothing_of_the_kernels(whole: dict[str, Any]) -> None:
    _, report = whole[FORMATS[0]]
    shown = defined_symbols(report.path)
    assert {"eqnet_record", "__tvm_ffi_eqnet_program", "__tvm_ffi__library_bin"} <= shown
    assert all(name == "eqnet_record" or name.startswith("__tvm_ffi_") for name in shown)


def test_the_file_is_one_that_others_may_read(whole: dict[str, Any]) -> None:
    _, report = whole[FORMATS[0]]
    assert stat.S_IMODE(report.path.stat().st_mode) == 0o644
    assert sorted(path.name for path in report.path.parent.iterdir()) == [
        "eight-bits.so", "eight_bits_loader.py", "three bits.so", "three_bits_loader.py",
    ]  # fmt: skip


def test_loaders_need_neither_eqnet_nor_torch(whole: dict[str, Any]) -> None:
    model, report = whole[FORMATS[1]]
    assert report.loader.name == "eight_bits_loader.py"
    script = (
        "import sys; sys.modules['torch'] = sys.modules['eqnet'] = None\n"
        "import numpy as np, eight_bits_loader as loader\n"
        "y = loader.model(np.full((2, 3, 6, 8), 0.5, np.float32))\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(type(y).__name__, 'tvm_compiler' in maps, 'tvm_runtime' in maps, *y.ravel())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=report.loader.parent, capture_output=True, text=True, check=True
    )
    kind, compiler, runtime, *values = ran.stdout.split()
    x = torch.full((2, 3, 6, 8), 0.5)
    assert (kind, compiler, runtime) == ("ndarray", "False", "True")
    torch.testing.assert_close(torch.tensor([*map(float, values)]), compile(model, x)(x).ravel(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 6, 9), (1, 4, 6, 8), (3, 6, 8)], ids=str)
def test_inputs_of_another_shape_are_refused(whole: dict[str, Any], shape: tuple[int, ...]) -> None:
    main = load(whole[FORMATS[0]][1].path)
    with pytest.raises((RuntimeError, ValueError, TypeError), match=r"R\.Tensor\(\(n, 3, 6, 8\)"):
        run(main, torch.zeros(shape))


class Products(nn.Module):
    """Linear layers that are no program: one reads floating point, one codes, one is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 33), nn.Linear(33, 33, bias=False)
        self.the_last_one = nn.Linear(33, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(self.first(x))
        return torch.softmax(self.the_last_one(torch.tanh(self.second(self.second(y)))), -1)


def test_models_that_are_no_program_call_the_kernels_layer_by_layer(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    model = packed(Products(), Formats.parse("uint3:group5 × uint8:tensor"), generator)
    for name in ("first", "the_last_one"):
        layer = model.layers[name]
        layer.input_format = layer.input_scale = layer.input_zero_point = None
    x = torch.randn(2, 4, 7, generator=generator)
    report = write_tvm(model, tmp_path / "model.so", x, options=OPTIONS)
    assert not report.whole
    assert "__tvm_ffi_eqnet_linear" in defined_symbols(report.path)
    main = load(report.path)
    for shape in ((2, 4, 7), (5, 4, 7)):
        x = torch.randn(shape, generator=generator)
        torch.testing.assert_close(run(main, x).double(), _products(model, x), rtol=0, atol=1e-5)


def _products(model: PackedModel, x: Tensor) -> Tensor:
    """The definition in float64."""

    def layer(name: str, x: Tensor) -> Tensor:
        packed: Any = model.layers[name]
        assert isinstance(packed, PackedLinear)
        if packed.input_format is not None:
            scale, zero, fmt = packed.input_scale.double(), packed.input_zero_point, packed.input_format
            x = (((x / scale).round() + zero).clamp(fmt.qmin, fmt.qmax) - zero) * scale
        y = x @ packed.weight.dequantize().double().T
        return y if packed.bias is None else y + packed.bias

    y = torch.sigmoid(layer("first", x.double()))
    return torch.softmax(layer("the_last_one", torch.tanh(layer("second", layer("second", y)))), -1)


def test_unknown_kernels_are_refused() -> None:
    with pytest.raises(InputError, match="kernels 'cuda' are unknown; choose tir or eqnet"):
        TvmOptions(kernels="cuda")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("riscv64-linux-gnu-g++-99", r"is missing; on Debian: apt-get install g\+\+-99-riscv64-linux-gnu"),
        ("/no/such/c++ -O2", r"is missing; on Debian: apt-get install g\+\+$"),
        ("false", "false does not say what it compiles for"),
    ],
)
def test_compilers_that_are_none_are_refused(tmp_path: Path, command: str, message: str) -> None:
    model, x = chain(FORMATS[0])
    with pytest.raises(InputError, match=message):
        write_tvm(model, tmp_path / "model.so", x, options=TvmOptions("eqnet", cc=command))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("llvm", r'target llvm: TVM knows none like it .*; write one like {"kind": "llvm"}'),
        ('{"kind": "nvidia"}', r'Target kind "nvidia" is not defined'),
        ('{"kind": "opencl"}', r"links libraries for \S+; give a target of the kind llvm"),
        (
            '{"kind": "llvm", "mtriple": "riscv64-linux-gnu"}',
            r"links libraries for \S+; give a target of the kind llvm",
        ),
        ('{"kind": "llvm", "mcpu": "abacus"}', "there is no processor 'abacus' of"),
    ],
)
def test_unknown_targets_are_refused(tmp_path: Path, target: str, message: str) -> None:
    model, x = chain(FORMATS[0])
    with pytest.raises(InputError, match=message):
        write_tvm(model, tmp_path / "model.so", x, options=TvmOptions("eqnet", target))


def test_paths_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    model, x = chain(FORMATS[0])
    with pytest.raises(RunError, match="is a folder; give the name of a file"):
        write_tvm(model, tmp_path, x, options=OPTIONS)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"model\.so: cannot be written"):
        write_tvm(model, tmp_path / "file" / "model.so", x, options=OPTIONS)


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain(FORMATS[0])
    monkeypatch.delitem(sys.modules, "eqnet.export.tvm.writing", raising=False)
    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(MissingPackageError, match=r"needs tvm: pip install 'eqnet\[tvm\]'"):
        write_tvm(model, tmp_path / "model.so", x, options=OPTIONS)


def test_tvm_without_its_compiler_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain(FORMATS[0])
    monkeypatch.setattr(tvm.base, "_RUNTIME_ONLY", True)
    with pytest.raises(RunError, match="this process has loaded TVM without its compiler"):
        write_tvm(model, tmp_path / "model.so", x, options=OPTIONS)


def test_a_library_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eqnet.export.tvm import modules

    model, x = chain(FORMATS[0])
    other, _ = chain(FORMATS[1])
    serialized = modules.serialized_program
    monkeypatch.setattr(modules, "serialized_program", lambda packed, x: serialized(other, x))
    with pytest.raises(RunError, match=r"model\.so: its results are off by \d+\.\d% of the model's"):
        write_tvm(model, tmp_path / "model.so", x, options=OPTIONS)
    assert not [*tmp_path.iterdir()]

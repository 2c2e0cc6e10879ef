"""Libraries for ARM, which this processor cannot run: an emulator does, with a small program in place of TVM."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from eqnet.export.tvm import TvmOptions, write_tvm
from eqnet.export.tvm.kernels import objects
from eqnet.runtime import compile
from tests.eqnet.runtime.networks import Formats, packed
from tests.export.tvm.test_serialized import chain

COMPILER, EMULATOR, ROOT = "aarch64-linux-gnu-g++", "qemu-aarch64", "/usr/aarch64-linux-gnu"

pytestmark = pytest.mark.skipif(
    not shutil.which(COMPILER) or not shutil.which(EMULATOR), reason=f"needs {COMPILER} and {EMULATOR}"
)
tvm_ffi = pytest.importorskip("tvm_ffi", reason="needs pip install 'eqnet[tvm]'")

ROUNDING = 1e-5
"""Of results of about 6: the same sums, but means and products in float32 that vectors take in another order."""


Call = Callable[[Path, str, torch.Tensor, tuple[int, ...]], "torch.Tensor | str"]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Calls a function of a library in the emulator: its result for an input, or what it says."""
    program, given, computed = (tmp_path / name for name in ("call_library", "given", "computed"))
    headers = [
        f"-I{path}" for path in (tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path())
    ]
    source = Path(__file__).with_name("call_library.c")
    subprocess.run(
        [COMPILER.replace("g++", "gcc"), "-rdynamic", *headers, str(source), "-o", str(program), "-ldl"], check=True
    )

    def run(library: Path, function: str, x: torch.Tensor, result: tuple[int, ...]) -> torch.Tensor | str:
        given.write_bytes(x.numpy().tobytes())
        sizes, result_sizes = ("x".join(map(str, shape)) for shape in (x.shape, result))
        command = [
            EMULATOR,
            "-cpu",
            "max",
            "-L",
            ROOT,
            program,
            library,
            function,
            given,
            sizes,
            computed,
            result_sizes,
        ]
        ran = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert ran.returncode == (1 if ran.stdout else 0), ran.stderr
        return ran.stdout or torch.frombuffer(bytearray(computed.read_bytes()), dtype=torch.float32).view(result)

    return run


def test_eqnets_kernels_compute_the_same_on_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    options = tuple("-O0" if option == "-O3" else option for option in objects._OPTIONS)
    monkeypatch.setattr(objects, "_OPTIONS", options)  # compiles several times as fast
    model, x = chain("uint3:group5 × uint8:tensor")
    report = write_tvm(model, tmp_path / "model.so", x, options=TvmOptions("eqnet", cc=COMPILER))
    assert (report.machine, report.difference) == ("aarch64-linux-gnu", None)
    y = call(report.path, "__tvm_ffi_eqnet_program", x, (3, 5))
    torch.testing.assert_close(y, compile(model, x)(x), rtol=0, atol=ROUNDING)

    # What TVM would check first: the kernels check it again.
    refused = {
        (3, 2, 9, 8): "ValueError: expected an input of 3 channels; found [3, 2, 9, 8]\n",
        (2, 3, 6, 8): "ValueError: inputs [2, 3, 6, 8] do not give results [3, 5]\n",
        (144, 3): "ValueError: a pooling of 2x2 of an image of 1x1\n",
        (432,): "ValueError: expected float32 of 2 or 4 dimensions; found [432]\n",
    }
    for shape, message in refused.items():
        assert call(report.path, "__tvm_ffi_eqnet_program", torch.zeros(shape), (3, 5)) == message


def test_what_tvm_compiles_for_arm_runs_there(tmp_path: Path, call: Call) -> None:
    formats = Formats.parse("uint3:group5 × uint8:tensor")
    model = packed(nn.Sequential(nn.Conv2d(3, 16, 1)), formats, torch.Generator().manual_seed(3))
    example = torch.zeros(1, 3, 5, 6)
    report = write_tvm(model, tmp_path / "model.so", example, options=TvmOptions("tir", cc=COMPILER))
    images = torch.randn(2, 5, 6, 16, generator=torch.Generator().manual_seed(1))
    channels_first = call(report.path, "__tvm_ffi_output", images, (2, 16, 5, 6))
    assert isinstance(channels_first, torch.Tensor)
    assert channels_first.equal(images.permute(0, 3, 1, 2))

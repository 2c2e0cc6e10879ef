"""Libraries for ARM, which this processor cannot run: an emulator does, with a small program in place of TVM."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from eqnet.export.tvm import TvmOptions, write_tvm
from eqnet.export.tvm.kernels import objects
from eqnet.runtime import compile
from tests.export.tvm.test_serialized import chain

COMPILER, EMULATOR, ROOT = "aarch64-linux-gnu-g++", "qemu-aarch64", "/usr/aarch64-linux-gnu"

pytestmark = pytest.mark.skipif(
    not shutil.which(COMPILER) or not shutil.which(EMULATOR), reason=f"needs {COMPILER} and {EMULATOR}"
)
tvm_ffi = pytest.importorskip("tvm_ffi", reason="needs pip install 'eqnet[tvm]'")

ROUNDING = 1e-5
"""Of results of about 6: the same sums, but means and products in float32 that vectors take in another order."""


def test_libraries_for_arm_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = tuple("-O0" if option == "-O3" else option for option in objects._OPTIONS)
    monkeypatch.setattr(objects, "_OPTIONS", options)  # compiles several times as fast
    model, x = chain("uint3:group5 × uint8:tensor")
    report = write_tvm(model, tmp_path / "model.so", x, options=TvmOptions("eqnet", cc=COMPILER))
    assert (report.machine, report.difference) == ("aarch64-linux-gnu", None)

    headers = [
        f"-I{path}" for path in (tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path())
    ]
    source, program = Path(__file__).with_name("call_library.c"), tmp_path / "call_library"
    subprocess.run(
        [COMPILER.replace("g++", "gcc"), "-rdynamic", *headers, str(source), "-o", str(program), "-ldl"], check=True
    )
    given, computed = tmp_path / "x", tmp_path / "y"
    given.write_bytes(x.numpy().tobytes())
    emulator = [EMULATOR, "-cpu", "max", "-L", ROOT, str(program), str(report.path), "__tvm_ffi_eqnet_program"]

    def call(sizes: str, result: str) -> subprocess.CompletedProcess[str]:
        command = [*emulator, str(given), sizes, str(computed), result]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    ran = call("3x3x6x8", "3x5")
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    y = torch.frombuffer(bytearray(computed.read_bytes()), dtype=torch.float32).view(3, 5)
    torch.testing.assert_close(y, compile(model, x)(x), rtol=0, atol=ROUNDING)

    # What TVM would check first: the kernels check it again.
    refused = {
        ("3x2x9x8", "3x5"): "ValueError: expected an input of 3 channels; found [3, 2, 9, 8]\n",
        ("2x3x6x8", "3x5"): "ValueError: inputs [2, 3, 6, 8] do not give results [3, 5]\n",
        ("144x3", "3x5"): "ValueError: a pooling of 2x2 of an image of 1x1\n",
        ("432", "3x5"): "ValueError: expected float32 of 2 or 4 dimensions; found [432]\n",
    }
    for (sizes, result), message in refused.items():
        ran = call(sizes, result)
        assert ran.returncode == 1
        assert ran.stdout.startswith(message)

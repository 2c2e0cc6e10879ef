"""CUDA that TVM writes of packed models: what can be known of it without a GPU.

Blocks and threads are loops of the functions before TVM makes CUDA of them. Run one after the other on the CPU, they
compute what the GPU does: the same indices, tiles, bounds and unpacking.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eqnet
from eqnet import Choices
from eqnet.errors import InputError, RunError
from eqnet.export.tvm.cuda import write_cuda
from eqnet.packed.model import PackedModel

tvm = pytest.importorskip("tvm", reason="needs pip install 'eqnet[tvm]'")

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc on PATH")

TOLERANCE = 2e-5
"""Of results up to about 10: sums of some dozen products in float32, in another order."""

CUDA_MACHINE = 190
"""In the header of ELF files for GPUs."""

ARCHITECTURES = ("sm_75", "sm_120")


class Attention(nn.Module):
    """Weight-only layers around one head of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.norm = nn.Embedding(30, 40), nn.LayerNorm(40)
        self.mix, self.head = nn.Linear(40, 70), nn.Linear(70, 9, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.mix(self.norm(self.tokens(input_ids)))
        weights = torch.softmax(x @ x.transpose(1, 2) / 8, -1)
        result: Tensor = self.head(F.gelu(weights @ x))
        return result


class Convolutions(nn.Module):
    """Layers whose inputs are quantized: grouped, strided and transposed convolutions, and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.grouped = nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=4, bias=False)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.relu(self.grouped(F.relu(self.norm(self.first(x))))))
        result: Tensor = self.head(x.mean((2, 3)))
        return result


def _tokens(samples: int, length: int) -> Tensor:
    return torch.randint(0, 30, (samples, length), generator=torch.Generator().manual_seed(samples))


def _images(samples: int) -> Tensor:
    return torch.randn(samples, 3, 9, 7, generator=torch.Generator().manual_seed(samples))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "attention": (Attention, _tokens(2, 5), "w=3:group16:asym a=float edge=none"),
    "convolutions": (Convolutions, _images(2), "w=5:channel:sym a=8:asym edge=none"),
}


@cache
def _model(name: str) -> tuple[PackedModel, Tensor]:
    torch.manual_seed(0)
    make, x, choices = MODELS[name]
    supernet = eqnet.elasticize(make().eval(), Choices.parse(choices), x)
    supernet.calibrate([x])
    return eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets))), x


def _one_after_the_other(module: Any) -> Any:
    """``module`` with loops in the place of blocks and threads."""
    import tvm_ffi

    loops = 0

    def serial(loop: Any) -> Any:
        nonlocal loops
        if loop.kind != tvm.tirx.ForKind.THREAD_BINDING:
            return loop
        loops += 1
        return tvm.tirx.For(loop.loop_var, loop.min, loop.extent, tvm.tirx.ForKind.SERIAL, loop.body)

    for name, function in list(module.functions_items()):
        if isinstance(function, tvm.tirx.PrimFunc):
            module[name] = function.with_body(tvm_ffi.structural_map(function.body, (tvm.tirx.For, serial)))
    assert loops > 0
    return module


@cache
def _emulated(name: str) -> Any:
    from eqnet.export.tvm.cuda.module import cuda_module, cuda_target, gpu_loops
    from eqnet.export.tvm.importer import compiled, scheduled

    packed, x = _model(name)
    target = cuda_target("sm_75")
    module = scheduled(cuda_module(packed, x, target), target, gpu_loops())
    return tvm.relax.VirtualMachine(compiled(_one_after_the_other(module), tvm.target.Target("llvm")), tvm.cpu())


@pytest.mark.parametrize(
    ("name", "x"),
    [
        pytest.param("attention", _tokens(1, 1), id="a row, by the kernel for few"),
        pytest.param("attention", _tokens(1, 4), id="as many as that kernel takes at a time"),
        pytest.param("attention", _tokens(5, 7), id="rows that are no multiple of a tile"),
        pytest.param("convolutions", _images(1), id="one image"),
        pytest.param("convolutions", _images(5), id="several images"),
    ],
)
def test_kernels_compute_what_the_packed_model_does(name: str, x: Tensor) -> None:
    packed, _ = _model(name)
    result = torch.from_numpy(_emulated(name)["main"](tvm.runtime.tensor(x.numpy())).numpy().copy())
    torch.testing.assert_close(result, packed(x), rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one model."""
    packed, x = _model("attention")
    path = tmp_path_factory.mktemp("cuda") / "model"
    stages: list[tuple[int, int]] = []
    report = write_cuda(packed, path, x, ARCHITECTURES, lambda stage, done, total: stages.append((done, total)))
    assert report.architectures == ARCHITECTURES
    assert report.nbytes == sum(file.stat().st_size for file in path.iterdir())
    assert stages == [(done, 5) for done in range(6)]
    return path


@needs_nvcc
def test_there_is_a_cubin_for_each_architecture(written: Path) -> None:
    for name in ARCHITECTURES:
        header = (written / f"kernels.{name}.cubin").read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", header, 18)[0] == CUDA_MACHINE
    assert (written / "kernels.fatbin").read_bytes()[:4] == bytes.fromhex("50ed55ba")


@needs_nvcc
def test_kernels_unpack_bits_and_can_be_launched(written: Path) -> None:
    source = (written / "kernels.cu").read_text()
    kernels = source.split('extern "C" __global__ void ')[1:]
    bodies = {kernel[: kernel.index("(", 24)]: kernel for kernel in kernels if ") {" in kernel.splitlines()[0]}
    few_and_many = [body for name, body in bodies.items() if "product" in name]
    assert len(few_and_many) == 4  # two layers
    for body in few_and_many:  # planes of two bits and of one
        assert re.search(r"\(uchar\)3\b", body)
        assert re.search(r"\(uchar\)1\b", body)
    for name, body in bodies.items():
        threads = int(re.search(r"__launch_bounds__\((\d+)\)", name)[1])  # type: ignore[index]
        assert threads <= 1024
        shared = re.findall(r"__shared__ alignas\(\d+\) float \w+\[(\d+)\]", body)
        assert sum(map(int, shared)) * 4 <= 48 << 10


@needs_nvcc
def test_the_library_holds_packed_weights_and_its_record(written: Path) -> None:
    packed, _ = _model("attention")
    library = (written / "model.so").read_bytes()
    record = re.search(rb'\{"version".*?"kernels":"cuda"\}', library)
    assert record is not None
    said = json.loads(record[0])
    assert said["record"] == json.loads(json.dumps(packed.record.to_json()))
    assert [spec["name"] for spec in said["inputs"]] == ["input_ids"]
    weight = packed.layers["head"].weight.dequantize().numpy().tobytes()
    assert weight[:64] not in library
    ast.parse((written / "load.py").read_text())


def test_a_missing_nvcc_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    packed, x = _model("attention")
    with pytest.raises(InputError, match=r"nvcc is missing.*install the CUDA toolkit"):
        write_cuda(packed, tmp_path / "model", x)


@pytest.mark.parametrize("names", [(), ("sm_60",), ("sm_80", "ampere")], ids=["none", "too old", "a name"])
def test_architectures_that_there_are_not_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    packed, x = _model("attention")
    with pytest.raises(InputError, match="sm_80"):
        write_cuda(packed, tmp_path / "model", x, names)


@needs_nvcc
def test_a_file_in_the_place_of_the_folder_is_left(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    packed, x = _model("attention")
    with pytest.raises(RunError, match="is a file; CUDA is written to a folder"):
        write_cuda(packed, tmp_path / "model", x)
    assert (tmp_path / "model").read_text() == "mine"


@needs_nvcc
def test_source_that_nvcc_cannot_compile_is_reported(tmp_path: Path) -> None:
    from eqnet.export.tvm.cuda.nvcc import Nvcc

    source = tmp_path / "kernels.cu"
    source.write_text("__global__ void kernel() { undeclared(); }")
    with pytest.raises(RunError, match=r"nvcc cannot compile for sm_80: (.|\n)*undeclared"):
        Nvcc.find().cubin(source, "sm_80", tmp_path / "kernels.cubin")

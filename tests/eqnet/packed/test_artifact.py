"""What is written is what is read, by eqnet and by the safetensors library, in the bytes of the tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from eqnet import InputError, RunError
from eqnet.packed.artifact import Artifact, write_artifact
from eqnet.packed.mapping import release
from eqnet.packed.record import type_name

CONFIG = {"model_type": "résnet", "eps": 1e-05, "quantization_config": {"layers": {"fc": "uint3:group32"}}}
HEADERS = 65536  # config.json and the safetensors header of an ordinary model together stay below


def all_types(generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors of every size of element, in an order that would leave gaps, and of awkward shapes."""
    return {
        "fc.codes": torch.randint(0, 256, (1001,), dtype=torch.uint8, generator=generator),
        "fc.scale": torch.randn(5, 3, generator=generator).half(),
        "fc.zero_point": torch.randint(0, 256, (1,), dtype=torch.uint8, generator=generator),
        "bias": torch.randn(7, generator=generator),
        "bf16": torch.randn(3, generator=generator).bfloat16(),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "complex": torch.randn(3, 2, dtype=torch.complex64, generator=generator),
        "mask": torch.tensor([True, False, True]),
        "steps": torch.tensor(7),
        "transposed": torch.randn(4, 6, generator=generator).t(),
        "strided": torch.randn(9, generator=generator)[::2],
        "gewicht.größe": torch.tensor([-1], dtype=torch.int16),
    }


@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 1000, 1], ids=["one file", "a few", "each its own"])
def test_what_is_read_is_what_was_written(tmp_path: Path, generator: torch.Generator, shard_bytes: int) -> None:
    tensors = all_types(generator)
    write_artifact(tmp_path / "a", CONFIG, tensors, shard_bytes=shard_bytes)
    artifact = Artifact.open(tmp_path / "a")
    assert artifact.config == CONFIG
    assert artifact.written_by.startswith("eqnet ")
    assert set(artifact.names) == set(tensors)
    for name, tensor in tensors.items():
        assert artifact.specs[name].dtype == type_name(tensor.dtype)
        assert artifact.specs[name].shape == tensor.shape
        assert torch.equal(artifact.tensor(name), tensor)
        artifact.release(name)
        assert torch.equal(artifact.tensor(name), tensor)
    artifact.check()
    files = sorted(tmp_path.joinpath("a").iterdir())
    assert artifact.nbytes == sum(tensor.nbytes for tensor in tensors.values())
    assert artifact.nbytes + artifact.overhead == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 1000], ids=["one file", "a few"])
def test_the_files_are_those_of_the_safetensors_library(
    tmp_path: Path, generator: torch.Generator, shard_bytes: int
) -> None:
    tensors = all_types(generator)
    write_artifact(tmp_path, CONFIG, tensors, shard_bytes=shard_bytes)
    shards = sorted(tmp_path.glob("*.safetensors"))
    found = {name: (path.name, tensor) for path in shards for name, tensor in load_file(path).items()}
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name][1], tensor) for name, tensor in tensors.items())
    if len(shards) == 1:
        assert [path.name for path in shards] == ["model.safetensors"]
        return
    assert [path.name for path in shards] == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text("utf-8")) == {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {name: file for name, (file, _) in found.items()},
    }


def test_the_bytes_are_those_of_the_drawing(tmp_path: Path) -> None:
    write_artifact(tmp_path, {}, {"c": torch.tensor([1, 2, 3]).byte(), "s": torch.tensor([[1.0]]).half()})
    header = (
        b'{"__metadata__":{"format":"pt","crc32":"6eb66e7855bc801d"},'  # of 00 3c, and of 01 02 03
        b'"s":{"dtype":"F16","shape":[1,1],"data_offsets":[0,2]},"c":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}}'
    )
    content = (tmp_path / "model.safetensors").read_bytes()
    padded = -(-len(header) // 8) * 8
    assert content == padded.to_bytes(8, "little") + header.ljust(padded) + bytes.fromhex("003c 010203")


@pytest.mark.parametrize(("layers", "limit"), [(30, HEADERS), (200, 5 * HEADERS)])
def test_what_is_not_data_takes_less_than_64_kilobytes(tmp_path: Path, layers: int, limit: int) -> None:
    parts = ("codes", "scale", "zero_point", "bias", "input_scale", "input_zero_point")
    names = [f"model.encoder.layers.{i}.attention.{part}" for i in range(layers) for part in parts]
    formats = {name.rpartition(".")[0]: {"weight": "uint4:group32", "activation": "uint8:tensor"} for name in names}
    write_artifact(
        tmp_path, {"quantization_config": {"layers": formats}}, {name: torch.zeros(4).byte() for name in names}
    )
    artifact = Artifact.open(tmp_path)
    assert artifact.overhead < limit
    assert artifact.nbytes == 4 * len(names)


def test_an_artifact_without_tensors_is_one(tmp_path: Path) -> None:
    write_artifact(tmp_path, {"a": None}, {})
    artifact = Artifact.open(tmp_path)
    assert (artifact.names, artifact.nbytes, artifact.config) == ([], 0, {"a": None})


def test_writing_to_a_tensor_leaves_the_file(tmp_path: Path) -> None:
    write_artifact(tmp_path, {}, {"a": torch.ones(3)})
    before = (tmp_path / "model.safetensors").read_bytes()
    Artifact.open(tmp_path).tensor("a").zero_()
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert Artifact.open(tmp_path).tensor("a").tolist() == [1, 1, 1]


def test_a_tensor_outlives_its_artifact_and_a_new_one_in_its_place(tmp_path: Path) -> None:
    write_artifact(tmp_path, {}, {"a": torch.arange(100_000)})
    tensor = Artifact.open(tmp_path).tensor("a")
    write_artifact(tmp_path, {}, {"a": torch.zeros(1)})
    assert torch.equal(tensor, torch.arange(100_000))
    assert Artifact.open(tmp_path).tensor("a").tolist() == [0]


def test_opening_reads_no_data(tmp_path: Path) -> None:
    write_artifact(tmp_path, {}, {"a": torch.ones(3), "b": torch.ones(3)})
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    artifact = Artifact.open(tmp_path)
    assert artifact.specs["b"].shape == (3,)
    assert artifact.tensor("a").tolist() == [1, 1, 1]
    for read in (lambda: artifact.tensor("b"), artifact.check):
        with pytest.raises(RunError, match="tensor 'b' is damaged"):
            read()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells")
@pytest.mark.parametrize("by", ["name", "tensor"])
def test_what_is_released_takes_no_memory(tmp_path: Path, by: str) -> None:
    count = 4_000_000
    write_artifact(tmp_path, {}, {"small": torch.ones(3), "large": torch.arange(count), "last": torch.ones(3).half()})
    artifact = Artifact.open(tmp_path)
    large, small = artifact.tensor("large"), artifact.tensor("small")
    large[count // 2] = -1
    small[0] = 5
    before = resident(large)
    if by == "name":
        artifact.release("large")
    else:
        release(large.view(2, -1)[1])  # a part stands for all of it
    assert before > 0.5 * large.nbytes
    assert resident(large) < 0.01 * large.nbytes
    assert torch.equal(large, torch.arange(count))  # from the file again
    assert small.tolist() == [5, 1, 1]  # its neighbour is left alone


def resident(tensor: Tensor) -> int:
    """Bytes in memory of the mapping in which the tensor lies."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition("-")
        if rest and " " in rest and ":" not in first:
            start, stop = int(first, 16), int(rest.split()[0], 16)
            found = start <= tensor.data_ptr() < stop
        elif found and line.startswith("Rss:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("the tensor is in no mapping")


def test_tensors_that_are_no_file_are_left_alone() -> None:
    ordinary = torch.arange(100_000)
    for tensor in (ordinary, torch.zeros(0), torch.zeros(3, device="meta")):
        release(tensor)
    assert torch.equal(ordinary, torch.arange(100_000))


@pytest.mark.parametrize("threads", [1, 3])
def test_all_is_checked_while_something_else_is_done(tmp_path: Path, threads: int) -> None:
    tensors = {f"part{index}": torch.full((40,), index) for index in range(9)}
    write_artifact(tmp_path, {}, tensors)
    artifact = Artifact.open(tmp_path)
    with artifact.checking(threads):
        assert torch.equal(artifact.tensor("part3"), tensors["part3"])
    path = tmp_path / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    done = []
    with pytest.raises(RunError, match=r"tensor 'part8' is damaged"), Artifact.open(tmp_path).checking(threads):
        done.append("something else")
    assert done


def test_an_unknown_tensor_is_refused_with_those_there_are(tmp_path: Path) -> None:
    write_artifact(tmp_path, {}, {f"layer{i}": torch.zeros(1) for i in range(7)})
    artifact = Artifact.open(tmp_path)
    expected = r"has no tensor 'fc'; it has layer0, layer1, layer2, layer3, layer4 and 2 more"
    with pytest.raises(RunError, match=expected):
        artifact.tensor("fc")
    with pytest.raises(RunError, match=expected):
        artifact.release("fc")


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"a": object()}, {}, "the configuration cannot be written as JSON"),
        ({"a": float("nan")}, {}, "the configuration cannot be written as JSON"),
        ({"quantization_config": [1]}, {}, r"quantization_config: expected an object; found \[1\]"),
        ({"quantization_config": {"version": 3}}, {}, "are set by the artifact; leave them out"),
        ({}, {"a": torch.zeros(1, device="meta")}, "'a': cannot be stored .float32, strided, on meta."),
        ({}, {"a": torch.zeros(2, 2).to_sparse()}, "'a': cannot be stored .float32, sparse_coo, on cpu."),
        ({}, {"a": torch.zeros(1, dtype=torch.complex128)}, "'a': cannot be stored .complex128"),
        ({}, {"__metadata__": torch.zeros(1)}, "'__metadata__' cannot be the name"),
        ({}, {"a\nb": torch.zeros(1)}, r"'a\\nb' cannot be the name"),
    ],
    ids=[
        "object",
        "NaN",
        "list",
        "reserved",
        "no data",
        "sparse",
        "type",
        "reserved name",
        "line break",
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_nothing(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_artifact(tmp_path / "new", config, tensors)
    assert list(tmp_path.iterdir()) == []

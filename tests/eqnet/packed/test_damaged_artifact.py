"""Whatever is wrong with an artifact, the error names the file, the tensor and what to do."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from eqnet import RunError
from eqnet.packed.artifact import Artifact, write_artifact

TENSORS = {"fc.codes": torch.arange(40).byte(), "fc.scale": torch.ones(5, 2).half(), "fc.bias": torch.zeros(5)}
ONE, FIRST, SECOND, INDEX = (
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A sound artifact of one file."""
    write_artifact(tmp_path / "whole", {"hidden": 5}, TENSORS)
    return tmp_path / "whole"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A sound artifact of two files and an index."""
    write_artifact(tmp_path / "parts", {"hidden": 5}, TENSORS, shard_bytes=50)
    assert (tmp_path / "parts" / SECOND).exists()
    return tmp_path / "parts"


def load(folder: Path) -> None:
    artifact = Artifact.open(folder)
    for name in artifact.names:
        artifact.tensor(name)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(RunError, match=message):
        load(folder)


def seal(folder: Path, name: str = ONE, **changes: Any) -> None:
    """Makes the checksums of ``config.json`` right again, as someone would who wants to pass for an artifact."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    own = config["quantization_config"]
    own.pop("crc32")
    data = (folder / name).read_bytes()
    header = data[: 8 + int.from_bytes(data[:8], "little")]
    own["files"][name] = [len(data), f"{zlib.crc32(header):08x}"]
    own.update(changes)
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    own["crc32"] = f"{zlib.crc32(text.encode()):08x}"
    path.write_text(json.dumps(config, indent=2), "utf-8")


def rewrite(folder: Path, edit: Callable[[dict[str, Any]], object], name: str = ONE, extra: bytes = b"") -> None:
    """Changes the header of a shard, and seals the artifact."""
    data = (folder / name).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:start])
    edit(entries)
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + data[start:] + extra)
    seal(folder, name)


def test_a_config_that_was_only_reformatted_is_the_same(whole: Path) -> None:
    seal(whole)
    load(whole)
    assert Artifact.open(whole).config == {"hidden": 5}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.unlink(), "has no config.json and so is not an artifact .found model.safetensors."),
        (lambda f: f.write_bytes(b""), "config.json: is not JSON that can be read"),
        (lambda f: f.write_bytes(f.read_bytes()[:-9]), "config.json: is not JSON that can be read"),
        (lambda f: f.write_bytes(b'{"a":"\xff"}'), "config.json: is not JSON that can be read .'utf-8' codec"),
        (lambda f: f.write_bytes(b'{"a":"\\ud800"}'), "config.json: is not JSON that can be read .*surrogates"),
        (lambda f: f.write_bytes(b"[" * 10**6), "config.json: is not JSON that can be read .nested too deep"),
        (lambda f: f.write_bytes(b'{"a":' * 10**6), "config.json: is not JSON that can be read .nested too deep"),
        (lambda f: f.write_bytes(b'{"a":1,"b":2,"a":3}'), "config.json: .*the key 'a' is there twice"),
        (lambda f: f.write_bytes(b'{"a":1e999}'), "config.json: is not JSON that can be read"),
        (lambda f: f.write_bytes(b"[1]"), "config.json: holds no JSON object but a list"),
        (lambda f: f.write_bytes(b" " * 16_000_001), "config.json: 16000001 bytes of JSON; at most 16000000 are read"),
        (lambda f: f.write_bytes(b"{}"), "config.json: is not quantized; eqnet loads what 'eqnet export --to eqnet'"),
        (
            lambda f: f.write_bytes(b'{"quantization_config":{"quant_method":"gptq"}}'),
            "config.json: is of quant_method 'gptq'",
        ),
        (
            lambda f: f.write_bytes(f.read_bytes().replace(b'"hidden":5', b'"hidden":7')),
            r"config.json: was changed since eqnet \S+ wrote it .* restore the file or export again",
        ),
        (lambda f: seal(f.parent, version=0), "config.json: version 0 of an artifact is none"),
        (lambda f: seal(f.parent, version=True), "config.json: version True of an artifact is none"),
        (lambda f: seal(f.parent, written_by="\x1b[2J"), r"config.json: was written by '\\x1b\[2J'; the file"),
        (
            lambda f: seal(f.parent, version=2, written_by="eqnet 9.1"),
            r"config.json: version 2 of the artifact, written by eqnet 9.1; eqnet \S+ reads up to version 1: upgrade",
        ),
        (lambda f: seal(f.parent, files=[]), r"config.json: files are \[\]"),
        (lambda f: seal(f.parent, files={}), r"config.json: files are \{\}"),
        (lambda f: seal(f.parent, files={ONE: [1]}), r"config.json: file 'model.safetensors' is \[1\]"),
        (lambda f: seal(f.parent, files={"../a.safetensors": [9, "x"]}), "config.json: files are .'../a.safetensors'"),
        (lambda f: seal(f.parent, files={"/etc/passwd": [9, "x"]}), "config.json: files are .'/etc/passwd'"),
    ],
)
def test_a_config_that_is_damaged_or_foreign(whole: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(whole / "config.json")
    refused(whole, message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: None, "model.safetensors: is missing, though config.json names it"),
        (lambda d: b"", "model.safetensors: is empty .0 bytes, written as"),
        (lambda d: d[:5], "model.safetensors: is truncated .5 bytes, written as"),
        (lambda d: d[:-1], "model.safetensors: is truncated"),
        (lambda d: d + b"\0", "model.safetensors: is too long"),
        (lambda d: bytes([d[0] ^ 8]) + d[1:], "model.safetensors: its header is damaged or is another file's"),
        (lambda d: d[:30] + b"x" + d[31:], "model.safetensors: its header is damaged or is another file's"),
        (lambda d: b"\xff" * 8 + d[8:], "model.safetensors: claims a header of 18446744073709551615 bytes"),
        (lambda d: d[:-3] + b"\0" + d[-2:], "model.safetensors: tensor 'fc.codes' is damaged .CRC-32"),
        (lambda d: b"PK\x03\x04" + d[4:6] + b"\1\1" + d[8:], "model.safetensors: is a pickle under another name"),
    ],
    ids=["missing", "empty", "5 bytes", "cut", "longer", "length", "header", "huge header", "data", "zip"],
)
def test_a_shard_that_is_damaged(whole: Path, damage: Callable[[bytes], bytes | None], message: str) -> None:
    path = whole / ONE
    data = damage(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    refused(whole, message)


def test_every_flipped_bit_is_noticed(whole: Path) -> None:
    for path in (whole / ONE, whole / "config.json"):
        data = path.read_bytes()
        for bit in range(0, 8 * len(data), 5):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            refused(whole, path.name)
        path.write_bytes(data)
    load(whole)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda e: e["fc.bias"].update(dtype="F99"), "tensor 'fc.bias': 'F99' is none of the types"),
        (lambda e: e["fc.bias"].update(dtype=["F32"]), "tensor 'fc.bias': .'F32'. is none of the types"),
        (lambda e: e["fc.bias"].update(dtype="F16"), "tensor 'fc.bias': data_offsets 0 to 20 do not fit; float16"),
        (lambda e: e["fc.bias"].update(shape=[6]), "tensor 'fc.bias': .* of shape .6,. takes 24 bytes"),
        (lambda e: e["fc.bias"].update(shape=[-5]), r"tensor 'fc.bias': \[-5\] cannot be its shape"),
        (lambda e: e["fc.bias"].update(shape=[5.0]), r"tensor 'fc.bias': \[5.0\] cannot be its shape"),
        (lambda e: e["fc.bias"].update(shape=[True] * 5), "tensor 'fc.bias': .* cannot be its shape"),
        (lambda e: e["fc.bias"].update(shape=5), "tensor 'fc.bias': 5 cannot be its shape"),
        (lambda e: e["fc.bias"].update(shape=[1] * 65), "tensor 'fc.bias': .* cannot be its shape"),
        (lambda e: e["fc.bias"].update(shape=[2**62, 4, 0]), "tensor 'fc.bias': .* cannot be its shape"),
        (lambda e: e["fc.bias"].update(data_offsets=[0]), "tensor 'fc.bias': expected two data_offsets"),
        (lambda e: e["fc.bias"].update(data_offsets=[-4, 16]), "tensor 'fc.bias': expected two data_offsets"),
        (lambda e: e["fc.bias"].update(data_offsets=[4, 24]), "do not fit"),
        (lambda e: e["fc.scale"].update(data_offsets=[0, 20]), "do not fit"),
        (lambda e: e["fc.codes"].update(data_offsets=[10**6, 10**6 + 40]), "tensor 'fc.codes': .* do not fit"),
        (lambda e: e.update({"fc.bias": 3}), "tensor 'fc.bias': expected dtype, shape and data_offsets"),
        (lambda e: e["fc.bias"].update(more=1), "tensor 'fc.bias': expected dtype, shape and data_offsets"),
        (lambda e: e.pop("fc.codes"), "has no checksums of its 2 tensors"),
        (lambda e: e.update({"a\n": e.pop("fc.codes")}), r"'a\\n' cannot be the name of a tensor"),
        (lambda e: e.pop("__metadata__"), "its metadata are no texts by name"),
        (lambda e: e["__metadata__"].update(crc32=[1]), "its metadata are no texts by name"),
        (lambda e: e["__metadata__"].pop("crc32"), "has no checksums of its 3 tensors"),
        (lambda e: e["__metadata__"].update(crc32="g" * 24), "has no checksums of its 3 tensors"),
        (lambda e: e["__metadata__"].update(crc32="0" * 24), "tensor 'fc.bias' is damaged"),
    ],
)
def test_a_header_that_lies(whole: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    rewrite(whole, edit)
    refused(whole, f"model.safetensors: {message}|model.safetensors: .*{message}")


def test_booleans_that_are_neither(whole: Path) -> None:
    rewrite(whole, lambda entries: entries["fc.codes"].update(dtype="BOOL"))
    refused(whole, "model.safetensors: tensor 'fc.codes' has bytes that are neither true nor false; export again")


def test_data_that_belong_to_no_tensor(whole: Path) -> None:
    rewrite(whole, lambda entries: None, extra=b"12345678")
    refused(whole, r"model.safetensors: its tensors end at byte \d+ of \d+")


def test_data_that_overlap(whole: Path) -> None:
    rewrite(whole, lambda e: (e["fc.scale"].update(data_offsets=[16, 36]), e["fc.codes"].update(data_offsets=[36, 76])))
    refused(whole, "tensor 'fc.scale': data_offsets 16 to 36 do not fit; float16 .* would begin at 20")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda i: i["weight_map"].pop("fc.bias"), "does not agree with the shards about 'fc.bias'"),
        (lambda i: i["weight_map"].update(more=FIRST), "does not agree with the shards about 'more'"),
        (lambda i: i["weight_map"].update({"fc.bias": "../../x"}), "does not agree with the shards about 'fc.bias'"),
        (lambda i: i["weight_map"].update({"fc.bias": "/etc/passwd"}), "does not agree with the shards about"),
        (lambda i: i["weight_map"].update({"fc.bias": [1]}), "does not agree with the shards about 'fc.bias'"),
        (lambda i: i.update(weight_map=7), "does not agree with the shards about 'fc.bias'"),
        (lambda i: i["metadata"].update(total_size=1), "metadata are .'total_size': 1.; the shards have a total_size"),
    ],
)
def test_an_index_that_lies(parts: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    index = json.loads((parts / INDEX).read_text())
    edit(index)
    (parts / INDEX).write_text(json.dumps(index))
    refused(parts, f"{INDEX}: {message}")


@pytest.mark.parametrize("name", [INDEX, FIRST, SECOND])
def test_a_missing_part(parts: Path, name: str) -> None:
    (parts / name).unlink()
    refused(parts, f"{name}: is missing, though config.json names it")


def test_shards_of_two_artifacts_do_not_mix(parts: Path, tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in TENSORS.items()}
    write_artifact(tmp_path / "other", {}, other, shard_bytes=50)
    shutil.copy(tmp_path / "other" / SECOND, parts / SECOND)
    refused(parts, f"{SECOND}: its header is damaged or is another file's")


def test_a_tensor_in_two_shards(parts: Path) -> None:
    def rename(entries: dict[str, Any]) -> None:
        entries["fc.codes"] = entries.pop("fc.bias")

    rewrite(parts, rename, SECOND)
    refused(parts, f"{SECOND}: tensor 'fc.codes' is in {FIRST}, too")


@pytest.mark.parametrize("name", ["config.json", ONE])
def test_a_link_out_of_the_folder(whole: Path, tmp_path: Path, name: str) -> None:
    shutil.move(whole / name, tmp_path / "elsewhere")
    (whole / name).symlink_to(tmp_path / "elsewhere")
    refused(whole, f"{name}: is a link to {tmp_path / 'elsewhere'}, out of the artifact")


def test_a_hidden_folder_that_leads_elsewhere(whole: Path, parts: Path) -> None:
    (whole / ".eqnet-written").symlink_to(parts)
    refused(whole, "is a link to .*parts.*, out of the artifact")


def test_a_loop_of_links(whole: Path) -> None:
    (whole / ONE).unlink()
    (whole / ONE).symlink_to(whole / ONE)
    refused(whole, ONE)


def test_links_into_hugging_faces_cache_are_followed(whole: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "model" / "snapshots" / "0123abc", tmp_path / "model" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in whole.iterdir():
        shutil.copy(path, blobs / f"blob-of-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/blob-of-{path.name}")
    load(snapshot)
    (blobs / "inside").mkdir()
    shutil.move(blobs / f"blob-of-{ONE}", blobs / "inside" / "x")
    (blobs / f"blob-of-{ONE}").symlink_to("inside/x")
    refused(snapshot, "out of the artifact")


def test_a_folder_or_a_pipe_in_a_files_place(whole: Path) -> None:
    for make in (Path.mkdir, os.mkfifo) if hasattr(os, "mkfifo") else (Path.mkdir,):
        (whole / ONE).unlink() if (whole / ONE).is_file() else (whole / ONE).rmdir()
        make(whole / ONE)
        refused(whole, "model.safetensors: is a folder or a device where a file is expected")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    message = "pytorch_model.bin: is a pickle, and eqnet reads no pickles, as they can run any code; give a folder"
    refused(tmp_path, message)
    refused(tmp_path / "pytorch_model.bin", message)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    refused(tmp_path / "pytorch_model.bin", message)


def test_what_is_no_folder_of_an_artifact(whole: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere: there is no such folder; give one that 'eqnet export --to eqnet' wrote")
    refused(whole / ONE, "model.safetensors: is a file; give the folder that holds config.json")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty: has no config.json and so is not an artifact .found nothing.")
    refused(Path("a\0b"), "cannot be read .*null byte")

"""The artifact: a folder with ``config.json`` and safetensors, of which every byte is checked before it counts.

    config.json                     the model's configuration; its ``quantization_config`` says what the other files are
    model.safetensors               the tensors, up to 5 GB; or else
    model-00001-of-0000N.safetensors, ..., and model.safetensors.index.json, which says where each tensor is

Other tools that read safetensors read these, too. ``config.json`` has a checksum of itself and of the header of every
shard, and each header the checksums of its tensors: files of two artifacts do not mix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from reprlib import repr as brief
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eqnet.errors import InputError, RunError
from eqnet.files import write_atomically
from eqnet.packed import strict_json
from eqnet.packed.layout import Spec
from eqnet.packed.opening import CONFIG, opened, read, some
from eqnet.packed.record import Record
from eqnet.packed.replacing import replacing, temporary
from eqnet.packed.shard import FileRecord, Shard, spec_of, write_shard

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
"""Of the artifact's layout; a reader refuses newer ones."""

METHOD = "eqnet"
"""``quant_method`` of ``config.json``, by which Hugging Face tells quantized models apart."""

INDEX = "model.safetensors.index.json"

_OWN = ("quant_method", "version", "written_by", "files", "crc32")  # keys of quantization_config that are set here
_CHECKSUM = re.compile("[0-9a-f]{8}")
_SHARD_NAME = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors")


def write_artifact(
    folder: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    specs: Mapping[str, Spec] | None = None,
    *,
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Writes an artifact; a killed process leaves the old one or the new one, never half of one.

    Args:
        folder: new, empty, or an older artifact, which is replaced; other files in it stay.
        config: what JSON can hold. ``quantization_config`` is completed by what is needed to check the files.
        tensors: dense; copied one at a time, if at all.
        specs: of the tensors, if they are known; tensors that are made when they are asked for are made once then.
        shard_bytes: most bytes of the tensors of one file, unless a single tensor has more.

    Raises:
        InputError: a value of ``config`` or a tensor cannot be stored.
        RunError: ``folder`` holds something else, is being written by another process or cannot be written.
    """
    folder = Path(folder)
    config = _plain(config)
    if set(config["quantization_config"]) & set(_OWN):
        raise InputError(f"quantization_config: {', '.join(_OWN)} are set by the artifact; leave them out")
    if specs is None:
        specs = {name: spec_of(name, tensor) for name, tensor in tensors.items()}
    split = _split(specs, shard_bytes)
    names = _shard_names(len(split))
    with replacing(folder, CONFIG, lambda: check_replaceable(folder), lambda new: _stale(folder, new)) as writing:
        records = {
            name: write_shard(writing / name, {key: tensors[key] for key in part}) for name, part in zip(names, split)
        }
        if len(names) > 1:
            index = {
                "metadata": {"total_size": sum(spec.nbytes for spec in specs.values())},
                "weight_map": {key: name for name, part in zip(names, split) for key in part},
            }
            write_atomically(writing / INDEX, json.dumps(index, indent=1, ensure_ascii=False))
        config["quantization_config"] = {
            "quant_method": METHOD,
            "version": VERSION,
            "written_by": f"eqnet {_eqnet_version()}",
            "files": {name: [record.nbytes, record.header_crc32] for name, record in records.items()},
            **config["quantization_config"],
        }
        config["quantization_config"]["crc32"] = strict_json.checksum(config)
        text = json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        if len(text) > strict_json.MAX_BYTES:
            raise InputError(f"{CONFIG} would take {len(text)} bytes; at most {strict_json.MAX_BYTES} are read again")
        write_atomically(writing / CONFIG, text)


class Artifact:
    """An artifact whose tensors are read from the mapped files when they are asked for.

    The files may be replaced while they are mapped (``write_artifact`` does that), but not cut: reading past the end
    of a file that another program shortens ends the process.

    Attributes:
        folder: where it is.
        config: what ``write_artifact`` was given.
        written_by: name and version of the program that wrote it.
        specs: types and shapes of the tensors, by name.
        overhead: bytes of all files beyond the tensors' own.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], written_by: str, shards: Iterable[Shard], texts: int
    ) -> None:
        """Use ``open``."""
        self.folder = folder
        self.config = config
        self.written_by = written_by
        self._shards = {name: shard for shard in shards for name in shard.specs}
        self.specs: Mapping[str, Spec] = MappingProxyType({name: s.specs[name] for name, s in self._shards.items()})
        self.overhead = texts + sum(shard.header_bytes for shard in set(self._shards.values()))

    @classmethod
    def open(cls, folder: str | Path) -> Artifact:
        """Reads and checks all but the tensors' data, of which nothing is read.

        Raises:
            RunError: the folder is not an artifact, a newer one or a damaged one; the message names the file.
        """
        folder = Path(folder)
        path, text = read(folder, CONFIG)
        config = strict_json.parse(text, path)
        texts = len(text)
        written_by, records = _own_part(path, config)
        shards = [_mapped(folder, name, record) for name, record in records.items()]
        _check_unique(shards)
        if len(shards) > 1:
            path, text = read(folder, INDEX)
            texts += len(text)
            _check_index(path, strict_json.parse(text, path), shards)
        return cls(folder, config, written_by, shards, texts)

    @property
    def names(self) -> list[str]:
        """Of the tensors."""
        return list(self.specs)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(spec.nbytes for spec in self.specs.values())

    def record(self) -> tuple[Record, dict[str, str]]:
        """What is known of the packed model; and names that are another one, with the name of that one.

        Raises:
            RunError: the configuration is not that of a packed model.
        """
        path, stored = self.folder / CONFIG, self.config.get("quantization_config")
        try:
            record = Record.from_json(stored)
        except InputError as e:
            raise RunError(f"{path}: quantization_config: {e}; the file is damaged") from e
        tied = stored.get("tied") if isinstance(stored, dict) else None
        if not isinstance(tied, dict) or not all(type(first) is str and first in self.specs for first in tied.values()):
            raise RunError(
                f"{path}: quantization_config: tied is {tied!r}; expected names of tensors; the file is damaged"
            )
        return record, tied

    def tensor(self, name: str) -> Tensor:
        """A tensor, on the mapped memory of its file; its checksum is checked the first time.

        Writing to it changes neither the file nor what other processes read.

        Raises:
            RunError: there is no such tensor, or its bytes are not those that were written.
        """
        import torch

        spec, data = self.specs.get(name), self.data(name)
        assert spec is not None
        dtype: torch.dtype = getattr(torch, spec.dtype)
        if not spec.nbytes:
            return torch.empty(spec.shape, dtype=dtype)
        return torch.from_numpy(data).view(dtype).view(spec.shape)

    def data(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor; see ``tensor``."""
        return self._shard(name).data(name)

    def trust(self, name: str) -> None:
        """Takes the data of a tensor as right without reading them, e.g. as another process checks them.

        Raises:
            RunError: there is no such tensor.
        """
        self._shard(name).trust(name)

    def release(self, name: str) -> None:
        """Gives back the memory of a tensor that has been converted to something else.

        A tensor still in use is read from the file again; what was written to it is lost.

        Raises:
            RunError: there is no such tensor.
        """
        self._shard(name).release(name)

    @contextmanager
    def checking(self, threads: int) -> Iterator[None]:
        """Checks the data of every tensor on ``threads`` threads, while the block runs; ends when both have.

        Raises:
            RunError: the bytes of a tensor are not those that were written.
        """
        with ThreadPoolExecutor(threads) as pool:
            tensors = pool.map(self.data, self.specs)
            yield
            for _ in tensors:  # raises what the first one raised that is damaged
                pass

    def check(self) -> None:
        """Checks the data of every tensor, in the memory of one.

        Raises:
            RunError: the bytes of a tensor are not those that were written.
        """
        for name in self.specs:
            self.data(name)
            self.release(name)

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
            raise RunError(f"{self.folder}: has no tensor {name!r}; it has {some(self._shards)}")
        return self._shards[name]


def _mapped(folder: Path, name: str, record: FileRecord) -> Shard:
    path, file = opened(folder, name)
    with file:
        return Shard(path, file, record)


def _own_part(path: Path, config: dict[str, Any]) -> tuple[str, dict[str, FileRecord]]:
    """Takes out of ``config`` what ``write_artifact`` added: who wrote it, and what its files are."""
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if not isinstance(quantization, dict) or method != METHOD:
        found = "is not quantized" if method is None else f"is of quant_method {brief(method)}"
        raise RunError(f"{path}: {found}; eqnet loads what 'eqnet export --to eqnet' writes (quant_method '{METHOD}')")
    written_by, written_version = quantization.get("written_by"), quantization.get("version")
    if not isinstance(written_by, str) or not written_by.isprintable():
        raise RunError(f"{path}: was written by {brief(written_by)}; the file is damaged")
    if type(written_version) is not int or written_version < 1:
        raise RunError(f"{path}: version {brief(written_version)} of an artifact is none; the file is damaged")
    if written_version > VERSION:
        raise RunError(
            f"{path}: version {written_version} of the artifact, written by {written_by}; eqnet {_eqnet_version()} "
            f"reads up to version {VERSION}: upgrade it (pip install --upgrade eqnet)"
        )
    checksum = quantization.pop("crc32", None)
    found = strict_json.checksum(config)
    if checksum != found:
        raise RunError(
            f"{path}: was changed since {written_by} wrote it (CRC-32 {found}, written as {brief(checksum)}); "
            "restore the file or export again"
        )
    records = _file_records(path, quantization.get("files"))
    for key in set(quantization) & set(_OWN):
        del quantization[key]
    if not quantization:
        del config["quantization_config"]
    return written_by, records


def _file_records(path: Path, files: object) -> dict[str, FileRecord]:
    """The shards of an artifact; their names are the ones that eqnet gives, and so none leads out of the folder."""
    if not isinstance(files, dict) or not files or list(files) != _shard_names(len(files)):
        raise RunError(f"{path}: files are {brief(files)}; expected {some(_shard_names(1))} or all of a model's shards")
    records = {}
    for name, record in files.items():
        match record:
            case [int(nbytes), str(crc)] if nbytes > 0 and _CHECKSUM.fullmatch(crc):
                records[name] = FileRecord(nbytes, crc)
            case _:
                raise RunError(f"{path}: file {name!r} is {brief(record)}; expected its size and checksum")
    return records


def _check_unique(shards: list[Shard]) -> None:
    seen: dict[str, Path] = {}
    for shard in shards:
        for name in shard.specs:
            if name in seen:
                raise RunError(f"{shard.path}: tensor {name!r} is in {seen[name].name}, too; export again")
            seen[name] = shard.path


def _check_index(path: Path, index: dict[str, Any], shards: list[Shard]) -> None:
    there = {name: shard.path.name for shard in shards for name in shard.specs}
    mapped = index.get("weight_map")
    if mapped != there:
        mapped = mapped if isinstance(mapped, dict) else {}
        name = min(name for name in {**there, **mapped} if there.get(name) != mapped.get(name))
        raise RunError(f"{path}: does not agree with the shards about {name!r}; restore the file or export again")
    total = sum(spec.nbytes for shard in shards for spec in shard.specs.values())
    if index.get("metadata") != {"total_size": total}:
        raise RunError(f"{path}: metadata are {brief(index.get('metadata'))}; the shards have a total_size of {total}")


def check_replaceable(folder: Path, method: str = METHOD, what: str = "an artifact of eqnet") -> None:
    """Raises RunError unless the folder is empty or holds ``what``, of whatever version.

    Args:
        folder: that files are to be written into.
        method: the ``quant_method`` in its config.json.
        what: the same for people.
    """
    names = sorted(path.name for path in folder.iterdir() if not temporary(path))
    if not names:
        return
    try:
        path, text = read(folder, CONFIG)
        quantization = strict_json.parse(text, path).get("quantization_config")
    except RunError:
        quantization = None
    if not isinstance(quantization, dict) or quantization.get("quant_method") != method:
        raise RunError(f"{folder}: is not {what} (it holds {some(names)}); choose a new folder")


def _stale(folder: Path, new_config: Path) -> Iterator[Path]:
    """Shards and index of the artifact that was in ``folder`` before the one of ``new_config``."""
    needed = set(strict_json.parse(new_config.read_bytes(), new_config)["quantization_config"]["files"])
    if len(needed) > 1:
        needed.add(INDEX)
    for path in list(folder.iterdir()):
        if (_SHARD_NAME.fullmatch(path.name) or path.name == INDEX) and path.name not in needed:
            yield path


def _split(specs: Mapping[str, Spec], shard_bytes: int) -> list[list[str]]:
    """Names of the tensors of each shard; at least one shard."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, spec in specs.items():
        if shards[-1] and filled + spec.nbytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += spec.nbytes
    return shards


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{index:05}-of-{count:05}.safetensors" for index in range(1, count + 1)]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as it will be read back."""
    try:
        plain: dict[str, Any] = json.loads(strict_json.canonical(dict(config)))
    except (TypeError, ValueError, RecursionError) as e:
        raise InputError(f"the configuration cannot be written as JSON ({e})") from e
    plain.setdefault("quantization_config", {})
    if not isinstance(plain["quantization_config"], dict):
        raise InputError(f"quantization_config: expected an object; found {plain['quantization_config']!r}")
    return plain


@cache
def _eqnet_version() -> str:
    try:
        return version("eqnet")
    except PackageNotFoundError:  # run from its sources
        return "of unknown version"

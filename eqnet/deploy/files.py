"""What an artifact in one file holds, told from the file alone: nothing of it is run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqnet.deploy.origin import Origin
from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.packed.record import Record
from eqnet.runtime.engines.metadata import RECORD, VERSION, parse, record_of


@dataclass(frozen=True)
class FileSummary:
    """What a file holds.

    Attributes:
        path: where it is.
        form: what kind of file it is.
        written_by: name and version of the program that wrote it; empty if it does not say.
        nbytes: of the file, and of the files of external data beside it.
        inputs, outputs: names, types and shapes, for people.
        record: of the quantization; None if eqnet did not write it.
        origin: what it says of where it comes from.
        operators: how many of each kind the graph has; empty if that cannot be told.
        tensors: bytes of stored tensors by their type, likewise.
        layers: bytes that each layer's own tensors take; what layers share is counted with one of them; likewise.
    """

    path: Path
    form: str
    written_by: str
    nbytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    record: Record | None
    origin: Origin | None
    operators: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, int] = field(default_factory=dict)


def summarize_file(path: Path) -> FileSummary:
    """Reads an ``.onnx`` or an ``.so``.

    Raises:
        RunError: the file is missing or damaged.
        InputError: it is of another form.
        MissingPackageError: it is an ``.onnx``, and onnx is not installed.
    """
    if path.suffix not in _FORMS:
        raise InputError(f"{path}: expected a folder, or a file that ends in {' or '.join(_FORMS)}")
    if not path.is_file():
        raise RunError(f"{path}: there is no such file")
    return _FORMS[path.suffix](path)


def _onnx(path: Path) -> FileSummary:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as e:
        raise MissingPackageError(f"{path}: reading it takes onnx ({e}); pip install 'eqnet[onnx]'") from e
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as e:
        raise RunError(f"{path}: is no ONNX model, or only a part of one; export or download it again") from e
    if not model.HasField("graph"):
        raise RunError(f"{path}: is no ONNX model, or an empty one; export or download it again")
    graph, metadata = model.graph, {entry.key: entry.value for entry in model.metadata_props}
    record = record_of(path, RECORD, parse(path, RECORD, metadata[RECORD])) if RECORD in metadata else None
    sizes = {tensor.name: _nbytes(tensor) for tensor in graph.initializer}
    types: Counter[str] = Counter()
    for tensor in graph.initializer:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        types[_NAMES.get(kind, kind)] += sizes[tensor.name]
    opsets = ", ".join(f"{entry.domain or 'ONNX'} {entry.version}" for entry in model.opset_import)
    wrote = f"eqnet {metadata[VERSION]}" if VERSION in metadata else f"{model.producer_name} {model.producer_version}"
    return FileSummary(
        path=path,
        form=f"ONNX, operators of {opsets}, IR {model.ir_version}",
        written_by=wrote.strip(),
        nbytes=path.stat().st_size + _external(path, graph),
        inputs=tuple(_described(value) for value in graph.input if value.name not in sizes),
        outputs=tuple(_described(value) for value in graph.output),
        record=record,
        origin=_origin(path, record),
        operators=dict(Counter(node.op_type for node in graph.node).most_common()),
        tensors=dict(types.most_common()),
        layers=_by_layer(sizes, record),
    )


def _tvm(path: Path) -> FileSummary:
    from eqnet.runtime.engines.tvm import LibraryRecord

    library = LibraryRecord.read(path)
    return FileSummary(
        path=path,
        form=f"library for {library.machine}" + (f", kernels: {library.kernels}" if library.kernels else ""),
        written_by=f"eqnet {library.version}" if library.version else "",
        nbytes=path.stat().st_size,
        inputs=tuple(map(str, library.inputs)),
        outputs=(),
        record=library.record,
        origin=_origin(path, library.record),
    )


_FORMS: Mapping[str, Callable[[Path], FileSummary]] = {".onnx": _onnx, ".so": _tvm}


_NAMES = {"float": "float32", "double": "float64"}
"""What types are called everywhere else, by ONNX's names."""


def _origin(path: Path, record: Record | None) -> Origin | None:
    try:
        return Origin.from_json(record.metadata if record is not None else None)
    except InputError as e:
        raise RunError(f"{path}: {e}; the file is damaged, export again") from e


def _nbytes(tensor: Any) -> int:
    """Of an initializer, in the bits of its type."""
    import onnx

    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    bits = next((bits for end, bits in (("INT4", 4), ("INT2", 2), ("FLOAT4E2M1", 4)) if name.endswith(end)), None)
    if bits is None:
        bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-math.prod(map(int, tensor.dims)) * bits // 8)


def _external(path: Path, graph: Any) -> int:
    """Bytes of the files beside it that hold its tensors; those that are missing count as nothing."""
    places = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    beside = [path.parent / place for place in places]
    return sum(found.stat().st_size for found in beside if found.is_file())


def _described(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    sizes = [str(size.dim_value) if size.HasField("dim_value") else size.dim_param or "?" for size in tensor.shape.dim]
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{value.name}: {_NAMES.get(kind, kind)} [{', '.join(sizes)}]"


def _by_layer(sizes: Mapping[str, int], record: Record | None) -> dict[str, int]:
    """Tensors of a layer are named after it: ``fc.weight``, ``fc.scale``."""
    if record is None:
        return {}
    found: Counter[str] = Counter()
    for name, size in sizes.items():
        layer = name.rpartition(".")[0]
        if layer in record.layers:
            found[layer] += size
    return {layer: found[layer] for layer in record.layers}

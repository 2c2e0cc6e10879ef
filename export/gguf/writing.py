"""From a packed model to a GGUF file."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from eqnet.errors import ModelError
from eqnet.export.gguf.architectures import architecture_of
from eqnet.export.gguf.options import GgufReport
from eqnet.export.gguf.tensors import Entry, Report, entries
from eqnet.export.gguf.vocabulary import vocabulary_fields, without_vocabulary
from eqnet.files import check_writable, unwritable
from eqnet.packed.model import PackedModel

Fields = dict[str, Any]


def write(packed: PackedModel, path: Path, source: Any, report: Report | None) -> GgufReport:
    """See ``eqnet.export.gguf.write_gguf``."""
    config: Any = getattr(packed.model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise ModelError(
            f"GGUF is for language models of transformers; this one is a {type(packed.model).__name__}: try --to onnx"
        )
    architecture = architecture_of(config)
    check_writable(path)
    tensors = entries(packed, architecture, report)
    vocabulary = _vocabulary(source, config.vocab_size)
    fields: Fields = {
        "general.name": getattr(source, "name", None) or type(packed.model).__name__,
        "general.quantized_by": "eqnet",
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "general.file_type": _file_type(tensors),
        **{f"{architecture.name}.{key}": value for key, value in architecture.hyperparameters(config).items()},
        **vocabulary,
    }
    nbytes = _save(path, architecture.name, fields, tensors, report)
    weights = {id(layer.codes): layer.weight for layer in packed.layers.values()}.values()
    return GgufReport(
        path=path,
        nbytes=nbytes,
        packed_bytes=sum(weight.nbytes for weight in weights),
        stored_bytes=sum(entry.nbytes for entry in tensors if entry.layer is not None),
        weights=sum(weight.rows * weight.cols for weight in weights),
        forms=_forms(tensors),
        architecture=architecture.name,
        tokenizer=_tokenizer(vocabulary),
    )


def _vocabulary(source: Any, size: int) -> Fields:
    path = getattr(source, "path", None)
    if path is not None and Path(path).suffix == ".gguf":
        return _copied(Path(path))
    tokenizer = source.tokenizer() if source is not None else None
    return vocabulary_fields(tokenizer, size) if tokenizer is not None else without_vocabulary()


def _copied(path: Path) -> Fields:
    """The tokenizer of a GGUF file, as it is there."""
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")}


def _tokenizer(fields: Mapping[str, Any]) -> str:
    """What is said of the tokenizer."""
    if "tokenizer.ggml.tokens" not in fields:
        return "none: the file takes tokens as numbers"
    model, cut = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "default")
    if model == "gpt2" and cut == "default":
        return "byte-level, cut into words as llama.cpp does by default, not as the model's tokenizer does"
    return f"{model}, {cut}"


def _file_type(tensors: Sequence[Entry]) -> int:
    """llama.cpp's number for what most weights are in."""
    counts: Counter[str] = Counter()
    for entry in tensors:
        counts[entry.type] += entry.nbytes if len(entry.shape) > 1 else 0
    (name, _), *_ = counts.most_common(1)
    names = (f"MOSTLY_{name}", f"MOSTLY_{name}_S", f"MOSTLY_{name}_M", f"ALL_{name}")
    return next((int(kind) for kind in gguf.LlamaFileType if kind.name in names), int(gguf.LlamaFileType.GUESSED))


def _forms(tensors: Sequence[Entry]) -> Mapping[str, int]:
    """How many layers are in which type."""
    texts = []
    for entry in tensors:
        if entry.layer is not None:
            block, size = gguf.GGML_QUANT_SIZES[entry.ggml]
            rounded = ", rounded: columns that 32 does not divide" if entry.type == "F16" else ""
            texts.append(f"{entry.layer.weight_format} as {entry.type}, {8 * size / block:g} bits per weight{rounded}")
    return Counter(texts)


def _save(path: Path, name: str, fields: Fields, tensors: Sequence[Entry], report: Report | None) -> int:
    """Writes the file, and puts it in the place of ``path``; holds one tensor at a time."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder, path.name)
            writer = gguf.GGUFWriter(temporary, name)
            for key, value in fields.items():
                _add(writer, key, value)
            for entry in tensors:
                writer.add_tensor_info(entry.name, entry.shape, None, entry.nbytes, raw_dtype=entry.ggml)
            try:
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_ti_data_to_file()
                for done, entry in enumerate(tensors):
                    if report is not None:
                        report("Writing", done, len(tensors))
                    writer.write_tensor_data(entry.make())
            finally:
                writer.close()
            nbytes = temporary.stat().st_size
            temporary.chmod(0o644)
            temporary.replace(path)
    except OSError as e:
        raise unwritable(path, e) from e
    if report is not None:
        report("Writing", len(tensors), len(tensors))
    return nbytes


def _add(writer: Any, key: str, value: Any) -> None:
    next(add for kind, add in _ADDED.items() if isinstance(value, kind))(writer, key, value)


_ADDED: Mapping[type, Callable[[Any, str, Any], None]] = {
    bool: lambda writer, key, value: writer.add_bool(key, value),
    int: lambda writer, key, value: writer.add_uint32(key, value),
    float: lambda writer, key, value: writer.add_float32(key, value),
    str: lambda writer, key, value: writer.add_string(key, value),
    list: lambda writer, key, value: writer.add_array(key, value),
}
"""How values of each type are added; bool is an int, too, and comes first."""

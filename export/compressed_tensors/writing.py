"""From a packed model to a folder in compressed-tensors' format."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.export.compressed_tensors.layers import (
    check,
    check_groups,
    config_groups,
    shared_by_rows,
    tensors,
    without_zero_points,
)
from eqnet.export.compressed_tensors.options import METHOD, VLLM, CompressedReport, check_replaceable
from eqnet.formats import Format
from eqnet.packed.architecture import describe
from eqnet.packed.layers import PackedLayer, PackedLinear
from eqnet.packed.layers.base import PARTS
from eqnet.packed.model import PackedModel
from eqnet.packed.plain_layers import FLAG
from eqnet.packed.replacing import replacing

Report = Callable[[str, int, int], None]

CONFIG, INDEX = "config.json", "model.safetensors.index.json"


def write(packed: PackedModel, folder: Path, source: Any, engine: str, report: Report | None) -> CompressedReport:
    """See ``eqnet.export.compressed_tensors.write_compressed_tensors``."""
    config: Any = getattr(packed.model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise ModelError(
            f"compressed-tensors is for language models of transformers; this one is a {type(packed.model).__name__}"
        )
    if getattr(config, FLAG, False):
        raise ModelError(f"compressed-tensors has no form for the linear layers of {config.model_type}: try --to gguf")
    linear = _linear(packed, engine)
    check_groups(linear)
    if engine == VLLM:
        check(linear, packed.layers)
        formats = {name: shared_by_rows(layer.weight_format) for name, layer in linear.items()}
    else:
        formats = without_zero_points(linear)
    dtype = _dtype(packed)
    state: dict[str, Tensor] = {}
    for done, (name, layer) in enumerate(linear.items()):
        if report is not None:
            report("Packing", done, len(linear))
        state.update({f"{name}.{part}": tensor for part, tensor in tensors(layer, formats[name]).items()})
    stored = sum(tensor.nbytes for tensor in state.values())
    dense = dict(_dense(packed, linear, dtype))
    state.update(dense)
    state.update(_others(packed, dtype))
    nbytes = _save(folder, _config(packed, formats, dtype), state, source)
    weights = {id(layer.codes): layer.weight for layer in packed.layers.values()}.values()
    return CompressedReport(
        path=folder,
        nbytes=nbytes,
        packed_bytes=sum(weight.nbytes for weight in weights),
        stored_bytes=stored + sum(tensor.nbytes for tensor in dense.values()),
        dense={name.removesuffix(".weight"): tensor.nbytes for name, tensor in dense.items()},
        dtype=str(dtype).removeprefix("torch."),
        forms=_forms(packed, formats, dense, dtype),
        loads=_loads(formats),
    )


def _linear(packed: PackedModel, engine: str) -> dict[str, PackedLayer]:
    """Layers that stay packed: linear ones, but for those that share their weight, and, in vLLM, the head."""
    uses = Counter(id(layer.codes) for layer in packed.layers.values())
    model: Any = packed.model
    head = model.get_output_embeddings() if engine == VLLM else None
    return {
        name: layer
        for name, layer in packed.layers.items()
        if isinstance(layer, PackedLinear) and uses[id(layer.codes)] == 1 and layer is not head
    }


def _dtype(packed: PackedModel) -> torch.dtype:
    """That of the scales; kernels compute in it."""
    dtypes = {layer.scale.dtype for layer in packed.layers.values()}
    if len(dtypes) != 1:
        found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)) or "none"
        raise ModelError(f"scales are in {found}; compressed-tensors needs one type for all: quantize with scale=fp16")
    return dtypes.pop()


def _dense(packed: PackedModel, linear: Mapping[str, PackedLayer], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Weights of the other packed layers in floating point, those that layers share once."""
    seen: set[int] = set()
    for name, layer in packed.layers.items():
        if name not in linear and id(layer.codes) not in seen:
            seen.add(id(layer.codes))
            yield f"{name}.weight", _finite(f"{name}.weight", layer.dequantized_weight(dtype))


def _others(packed: PackedModel, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """What is not packed, biases of packed layers too."""
    weights = {f"{name}.{part}" for name in packed.layers for part in PARTS if part != "bias"}
    for name, tensor in packed.stored().items():
        if name not in weights:
            yield name, _finite(name, tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _finite(name: str, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise ModelError(f"'{name}' has values that {dtype} does not hold; quantize with scale=bf16")
    return tensor.contiguous()


def _loads(formats: Mapping[str, Format]) -> str:
    """What does, in words."""
    if all(fmt.symmetric for fmt in formats.values()) or len(set(formats.values())) == 1:
        return "vLLM and transformers"
    return "vLLM alone, as zero points go with several formats; --engine transformers writes a folder without them"


def _config(packed: PackedModel, formats: Mapping[str, Format], dtype: torch.dtype) -> dict[str, Any]:
    config = describe(packed.model)
    config.pop("torch_dtype", None)
    left = [
        name
        for name, module in packed.model.named_modules()
        if name not in formats and isinstance(module, torch.nn.Linear | PackedLinear)
    ]
    # Transformers has room for packed zero points only where it dequantizes at once, not at the first call.
    symmetric = all(fmt.symmetric for fmt in formats.values())
    return {
        **config,
        "dtype": str(dtype).removeprefix("torch."),
        "quantization_config": {
            "quant_method": METHOD,
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": config_groups(formats),
            "ignore": left,
            **({} if symmetric else {"dequantize": True}),
        },
    }


def _forms(
    packed: PackedModel, formats: Mapping[str, Format], dense: Mapping[str, Tensor], dtype: torch.dtype
) -> Mapping[str, int]:
    texts = []
    for name, fmt in formats.items():
        given = packed.layers[name].weight_format
        texts.append(str(given) if fmt == given else f"{given} as {fmt}")
    written = str(dtype).removeprefix("torch.")
    names = (name.removesuffix(".weight") for name in dense)
    return Counter([*texts, *(f"{packed.layers[name].weight_format}, written in {written}" for name in names)])


def _save(folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], source: Any) -> int:
    """Writes all files of the folder, and returns their bytes."""
    split = split_torch_state_dict_into_shards(dict(state))
    companions = tuple(source.companions) if source is not None else ()
    with replacing(folder, CONFIG, lambda: check_replaceable(folder), lambda new: _stale(folder, kept)) as writing:
        for name, keys in split.filename_to_tensors.items():
            save_file({key: state[key] for key in keys}, writing / name, metadata={"format": "pt"})
        if split.is_sharded:
            index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
            (writing / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
        for path in companions:
            shutil.copyfile(path, writing / path.name)
        if not companions and source is not None and (tokenizer := source.tokenizer()) is not None:
            tokenizer.save_pretrained(writing)
        (writing / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        kept = {path.name for path in writing.iterdir()}
        nbytes = sum(path.stat().st_size for path in writing.iterdir())
    return nbytes


def _stale(folder: Path, kept: set[str]) -> Iterator[Path]:
    """Weights that were there before and are not now."""
    for path in list(folder.glob("model*.safetensors*")):
        if path.name not in kept:
            yield path

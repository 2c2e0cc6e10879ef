"""llama.cpp as a peer: it quantizes a model in floating point with an importance matrix, and gives its logits.

pip install llama-cpp-python gguf
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eqnet.lm.source import Source

KINDS = {
    "F32": "ALL_F32",
    "Q4_0": "MOSTLY_Q4_0",
    "Q8_0": "MOSTLY_Q8_0",
    "Q2_K": "MOSTLY_Q2_K",
    "Q3_K_S": "MOSTLY_Q3_K_S",
    "Q3_K_M": "MOSTLY_Q3_K_M",
    "Q4_K_S": "MOSTLY_Q4_K_S",
    "Q4_K_M": "MOSTLY_Q4_K_M",
    "Q5_K_M": "MOSTLY_Q5_K_M",
    "Q6_K": "MOSTLY_Q6_K",
}
"""Kinds of files, and what llama.h calls them after LLAMA_FTYPE_."""


def library() -> Any:
    """The module llama_cpp, which says only what goes wrong."""
    try:
        import llama_cpp
    except ImportError as e:
        raise SystemExit(f"llama.cpp is not installed ({e}): pip install llama-cpp-python") from None
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    return llama_cpp


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _silent(level: int, text: bytes, user_data: object) -> None:
    """Takes llama.cpp's messages and drops them."""


def write_float(source: Source, path: Path) -> Path:
    """A model as GGUF in float32: a GGUF file with its values as they are, or a folder with a model of kind Llama."""
    if source.path.is_file():
        return quantize(source.path, path, "F32", {})
    import gguf

    config = source.config
    if config.model_type != "llama":
        raise SystemExit(f"{source.path}: only models of kind llama are written for llama.cpp here")
    writer = gguf.GGUFWriter(str(path), "llama", use_temp_file=True)  # large models are not held in memory
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("none")
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name in source.names:
        weight = source.tensor(name)
        layer = name.split(".")[-2]
        if layer in heads:
            weight = _interleaved(weight, heads[layer])
        if name not in source.tied:
            writer.add_tensor(_name(source, name.removesuffix(".weight")) + ".weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of a head in the order in which llama.cpp rotates them: pairs side by side and not half a head apart."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape).contiguous()


def _name(source: Source, layer: str) -> str:
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, source.config.num_hidden_layers)
    found = names.get_name(layer)
    if found is None:
        raise SystemExit(f"{source.path}: llama.cpp has no name for the layer {layer}")
    return str(found)


@torch.inference_mode()
def importance(source: Source, ids: Tensor) -> dict[str, np.ndarray]:
    """The importance matrix, as llama-imatrix finds it: the mean square of each column's input of each block's layer.

    Args:
        source: the model in floating point.
        ids: of the text it is calibrated on, [N, T].
    """
    model, sums = source.load(), {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".layers." in path:
            name = _name(source, path) + ".weight"
            sums[name] = torch.zeros(module.in_features, dtype=torch.float64)
            module.register_forward_pre_hook(partial(_add_squares, sums[name]))
    for window in ids:
        model(input_ids=window[None], use_cache=False)
    return {name: (total / ids.numel()).float().numpy() for name, total in sums.items()}


def _add_squares(total: Tensor, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    total += inputs[0].double().square().flatten(0, -2).sum(0)


def quantize(model: Path, into: Path, kind: str, matrix: Mapping[str, np.ndarray], threads: int = 1) -> Path:
    """Writes a model in one of KINDS.

    Args:
        model: GGUF file.
        into: where to.
        kind: of the file; llama.cpp chooses each tensor's type by it, and falls back to others where a row is no
            multiple of 256 long.
        matrix: as from `importance`; nothing if empty.
        threads: to take.
    """
    lib = library()
    settings = lib.llama_model_quantize_default_params()
    settings.ftype, settings.nthread, settings.allow_requantize = (
        getattr(lib, f"LLAMA_FTYPE_{KINDS[kind]}"),
        threads,
        True,
    )
    if matrix:
        kept = {name.encode(): np.ascontiguousarray(values, np.float32) for name, values in matrix.items()}
        entry, floats = lib.llama_model_imatrix_data, ctypes.POINTER(ctypes.c_float)
        rows = [entry(name, values.ctypes.data_as(floats), values.size) for name, values in kept.items()]
        settings.imatrix = (entry * (len(rows) + 1))(*rows, entry(None, None, 0))
    if lib.llama_model_quantize(str(model).encode(), str(into).encode(), ctypes.byref(settings)):
        raise SystemExit(f"llama.cpp could not write {model} as {kind}")
    return into


class Peer:
    """A GGUF file in llama.cpp, as what `eqnet.lm.evaluation` takes for a model.

    Attributes:
        nbytes: of all tensors.
        bpw: bits of all tensors over their number of values.
    """

    def __init__(self, path: Path, context: int, threads: int, exact: bool = True) -> None:
        """Loads the file.

        Args:
            path: of the file.
            context: tokens at most.
            threads: to take.
            exact: keeps keys and values in float32; otherwise llama.cpp does what it takes for fastest.
        """
        self._lib = lib = library()
        lib.llama_backend_init()
        self._model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self._model:
            raise SystemExit(f"llama.cpp could not load {path}")
        settings = lib.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = context
        settings.n_threads = settings.n_threads_batch = threads
        if exact:
            settings.type_k = settings.type_v = lib.GGML_TYPE_F32
            settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = lib.llama_init_from_model(self._model, settings)
        self._vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self.nbytes = int(lib.llama_model_size(self._model))
        self.bpw = 8 * self.nbytes / lib.llama_model_n_params(self._model)

    def __call__(self, ids: Tensor) -> Tensor:
        """Logits [1, T, vocabulary] of ids [1, T], a text of its own."""
        lib, count = self._lib, ids.shape[1]
        self.forget()
        batch = lib.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for place, token in enumerate(ids[0].tolist()):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
            batch.seq_id[place][0], batch.logits[place] = 0, 1
        failed = lib.llama_decode(self._context, batch)
        lib.llama_batch_free(batch)
        if failed:
            raise SystemExit(f"llama.cpp could not run {count} tokens")
        logits = np.ctypeslib.as_array(lib.llama_get_logits(self._context), (count, self._vocabulary))
        return torch.from_numpy(logits.copy())[None]

    def feed(self, ids: Sequence[int]) -> np.ndarray:
        """Appends tokens to the text; logits [vocabulary] of what follows the last of them, until the next call."""
        lib = self._lib
        tokens = (lib.llama_token * len(ids))(*ids)
        if lib.llama_decode(self._context, lib.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit(f"llama.cpp could not run {len(ids)} tokens")
        return np.ctypeslib.as_array(lib.llama_get_logits_ith(self._context, -1), (self._vocabulary,))

    def forget(self) -> None:
        """Begins a new text."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)

    def close(self) -> None:
        """Gives the memory back."""
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)


@contextmanager
def opened(path: Path, context: int = 512, threads: int = 1, exact: bool = True) -> Iterator[Peer]:
    """A file in llama.cpp, for the length of a block."""
    peer = Peer(path, context, threads, exact)
    try:
        yield peer
    finally:
        peer.close()

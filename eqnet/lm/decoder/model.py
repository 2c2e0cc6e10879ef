"""A decoder of a model in memory, on the weights that its packed layers prepared: they are in memory once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eqnet.lm.decoder.blocks import Table, UnknownBlockError, Vector
from eqnet.lm.decoder.engine import Decoder
from eqnet.lm.decoder.families import FAMILIES
from eqnet.lm.decoder.positions import check_kind
from eqnet.lm.decoder.reading import Attention, Paths, blocks_of
from eqnet.lm.structure import structure_of
from eqnet.ops.panels import as_bytes, room
from eqnet.packed.layers import PackedLinear
from eqnet.packed.model import PackedModel
from eqnet.packed.panels import Bytes, MatrixPanels
from eqnet.packed.record import type_name


def decoder_of(
    packed: PackedModel, *, context: int | None = None, threads: Callable[[], int] = torch.get_num_threads
) -> Decoder:
    """The decoder of a packed causal language model of transformers; products are taken as ``packed.compute`` says.

    Raises:
        UnknownBlockError: the family, or something of this model, is not known.
        InputError: the context is longer than the model's.
    """
    model: Any = packed.model
    name = type(model).__name__
    family = FAMILIES.get(name)
    if family is None or not type(model).__module__.startswith("transformers."):
        raise UnknownBlockError(f"{name} is none of {', '.join(FAMILIES)}")
    return Decoder(
        blocks_of(_Modules(model), family),
        name,
        longest=int(model.config.max_position_embeddings),
        context=context,
        compute=packed.compute,
        threads=threads,
    )


class _Modules:
    """The parts of a model; see ``Parts``. They must be as they were made, and have no hooks."""

    def __init__(self, model: Any) -> None:
        self._model, self._structure = model, structure_of(model)
        self._layers: dict[str, _Layer] = {}
        if self._structure.norm is None:
            raise UnknownBlockError("there is no norm behind the blocks")
        self.paths = Paths(self._structure.blocks, self._structure.norm, self._structure.head)

    @cached_property
    def table(self) -> Table:
        """See ``Parts``."""
        return _ModelTable(self._model.get_input_embeddings())

    def entry(self, name: str) -> Any:
        """See ``Parts``."""
        return getattr(self._model.config, name, None)

    def children(self, path: str) -> set[str]:
        """See ``Parts``."""
        return {name for name, _ in self._plain(path).named_children()}

    def linear(self, path: str) -> _Layer:
        """See ``Parts``."""
        if path not in self._layers:
            layer = self._plain(path)
            if type(layer) is not PackedLinear:
                raise UnknownBlockError(f"'{path}' is a {type(layer).__name__}, and not packed")
            if layer.input_format is not None or layer.codes.device.type != "cpu" or not layer.cols:
                raise UnknownBlockError(
                    f"'{path}' has an input of {layer.input_format}, or is not in the memory of the CPU"
                )
            self._layers[path] = _Layer(layer)
        return self._layers[path]

    def norm(self, path: str, epsilon: float) -> Vector:
        """See ``Parts``."""
        norm: Any = self._plain(path)
        found = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        if not type(norm).__name__.endswith("RMSNorm") or found != epsilon:
            raise UnknownBlockError(f"'{path}' is a {type(norm).__name__}, or has another epsilon than {epsilon}")
        weight: Vector = norm.weight.detach().float().cpu().numpy()
        return weight

    def attention(self, path: str) -> Attention:
        """See ``Parts``."""
        attention: Any = self._model.get_submodule(path)
        if not attention.is_causal:
            raise UnknownBlockError(f"'{path}' sees tokens that are still to come")
        return Attention(int(attention.head_dim), float(attention.scaling))

    def positions(self, kind: str) -> tuple[Vector, float]:
        """See ``Parts``; the model has computed them already."""
        rope: Any = self._plain(f"{self._structure.embedding.rpartition('.')[0]}.rotary_emb".lstrip("."))
        several = isinstance(rope.rope_type, dict)
        check_kind(rope.rope_type[kind] if several else rope.rope_type)
        prefix = f"{kind}_" if several else ""
        frequencies: Vector = getattr(rope, f"{prefix}inv_freq").float().cpu().numpy()
        return frequencies, float(getattr(rope, f"{prefix}attention_scaling"))

    def _plain(self, path: str) -> nn.Module:
        module: nn.Module = self._model.get_submodule(path)
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnknownBlockError(f"'{path}' has a hook")
        return module


class _Layer:
    """See ``Weight``."""

    def __init__(self, module: PackedLinear) -> None:
        self.module, self.rows, self.cols = module, module.rows, module.cols
        self.bias: Vector | None = None if module.bias is None else module.bias.detach().numpy()

    @property
    def room(self) -> int:
        """See ``Weight``."""
        return 0 if self.module.is_prepared else room(self.module.weight)

    def prepare(self, memory: Bytes) -> None:
        """See ``Weight``."""
        self.module.prepare(torch.from_numpy(memory))

    @property
    def panels(self) -> MatrixPanels:
        """See ``Weight``."""
        codes, scales, zeros, shape = self.module.panels
        parts = as_bytes(codes), as_bytes(scales), None if zeros is None else as_bytes(zeros)
        return MatrixPanels(*parts, type_name(scales.dtype), shape)


class _ModelTable:
    """See ``Table``."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @torch.inference_mode()
    def rows(self, ids: NDArray[np.int64]) -> Vector:
        """See ``Table``."""
        rows: Vector = self._module(torch.from_numpy(ids)).float().contiguous().numpy()
        return rows

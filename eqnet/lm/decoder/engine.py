"""An engine that leaves everything between the embedding and the logits to the kernels."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.lm.decoder.blocks import Block, Blocks, Channels
from eqnet.lm.decoder.reading import blocks_of
from eqnet.lm.engine import checked_context, checked_ids, checked_length
from eqnet.lm.generation import Session
from eqnet.ops.linear import COMPUTE
from eqnet.ops.panels import PANEL, SCALE_TYPES, address, lines, room
from eqnet.packed.layers import PackedLinear
from eqnet.packed.model import PackedModel


class Decoder:
    """A packed language model on the kernels alone; ``packed.compute`` says how products are taken.

    Activations, keys and values are float32, whatever type the model has. Weights are those that the packed layers
    prepared: they are in memory once.

    Args:
        packed: a causal language model of transformers.
        context: most tokens of a text; what the model's configuration says if None.

    Raises:
        UnknownBlockError: the family, or something of this model, is not known.
        InputError: the context is longer than the model's.
    """

    def __init__(self, packed: PackedModel, *, context: int | None = None) -> None:
        self.packed = packed
        model: Any = packed.model
        self._model = model
        self._blocks = blocks_of(model)  # the kernels have addresses of what is in there
        self.context = checked_context(context, int(model.config.max_position_embeddings))
        self.vocabulary = self._blocks.head.stop

    @cached_property
    def kernels(self) -> _kernels.Decoder:
        """Made when the first text begins, as the weights are put in order for it."""
        _prepare(self._blocks.layers())
        return _native(self._blocks)

    def __str__(self) -> str:
        return f"{type(self._model).__name__} on eqnet's own kernels, compute={self.packed.compute}"

    def session(self, length: int) -> Session:
        """See ``Engine``."""
        checked_length(length, self.context)
        return _Session(self, length)

    def embed(self, ids: Tensor) -> Tensor:
        """The rows of the table, float32 [T, hidden], which the caller may overwrite."""
        rows: Tensor = self._model.get_input_embeddings()(ids)
        return rows.float().contiguous()


class _Session:
    """One text."""

    def __init__(self, decoder: Decoder, length: int) -> None:
        self._decoder = decoder
        self._session = decoder.kernels.session(length)

    @property
    def position(self) -> int:
        """See ``Session``."""
        return self._session.position

    def feed(self, ids: Tensor) -> Tensor:
        """See ``Session``."""
        return self._run(ids, all_rows=False)[0]

    def feed_all(self, ids: Tensor) -> Tensor:
        """See ``Session``."""
        return self._run(ids, all_rows=True)

    @torch.inference_mode()
    def _run(self, ids: Tensor, *, all_rows: bool) -> Tensor:
        x = self._decoder.embed(checked_ids(ids, self.position, self._session.length))
        logits = torch.empty(len(ids) if all_rows else 1, self._decoder.vocabulary)
        self._decoder.kernels.feed(
            self._session,
            x.data_ptr(),
            len(ids),
            all_rows,
            logits.data_ptr(),
            COMPUTE[self._decoder.packed.compute],
            torch.get_num_threads(),
        )
        return logits


def _prepare(layers: Iterable[PackedLinear]) -> None:
    """Has layers ready side by side in the order in which they run, as memory is read fastest in one go."""
    waiting = [layer for layer in dict.fromkeys(layers) if not layer.is_prepared]
    memory = lines(sum(room(layer.weight) for layer in waiting))
    for layer in waiting:
        size = room(layer.weight)
        layer.prepare(memory[:size])
        memory = memory[size:]


def _native(blocks: Blocks) -> _kernels.Decoder:
    return _kernels.Decoder(
        hidden=blocks.hidden,
        heads=blocks.heads,
        kv_heads=blocks.kv_heads,
        head_dim=blocks.head_dim,
        intermediate=blocks.intermediate,
        activation=blocks.activation,
        norm_epsilon=blocks.epsilon,
        attention_scale=blocks.scale,
        attention_softcap=blocks.softcap,
        logit_softcap=blocks.logit_softcap,
        rotations=[
            _kernels.Rotation(list(rotation.frequencies), rotation.scale, rotation.interleaved)
            for rotation in blocks.rotations
        ],
        blocks=[_native_block(block) for block in blocks.blocks],
        norm=blocks.norm.data_ptr(),
        head=_projection(blocks.head),
    )


def _native_block(block: Block) -> _kernels.DecoderBlock:
    return _kernels.DecoderBlock(
        attention_norm=address(block.attention_norm),
        query_norm=address(block.query_norm),
        key_norm=address(block.key_norm),
        after_attention=address(block.after_attention),
        mlp_norm=address(block.mlp_norm),
        after_mlp=address(block.after_mlp),
        query=_projection(block.query),
        key=_projection(block.key),
        value=_projection(block.value),
        output=_projection(block.output),
        gate=_projection(block.gate),
        up=_projection(block.up),
        down=_projection(block.down),
        rotation=block.rotation,
        window=block.window,
    )


def _projection(channels: Channels) -> _kernels.Projection:
    panels = channels.layer.panels
    codes, scales, zeros, (rows, cols, group_size, bits) = panels
    bias = channels.layer.bias
    count = -(-rows // PANEL)

    def start(part: Tensor | None) -> int:
        """Where the first of the channels begins."""
        return 0 if part is None else part.data_ptr() + channels.start // PANEL * (part.nbytes // count)

    return _kernels.Projection(
        channels.stop - channels.start,
        cols,
        group_size,
        bits,
        start(codes),
        start(scales),
        SCALE_TYPES[scales.dtype],
        start(zeros),
        0 if bias is None else bias.data_ptr() + channels.start * bias.itemsize,
    )

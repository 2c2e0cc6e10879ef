"""An engine that leaves everything between the embedding and the logits to the kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eqnet import _kernels
from eqnet.lm.decoder.blocks import Block, Blocks, Channels, Vector
from eqnet.lm.generation import Ids, Session, checked_context, checked_ids, checked_length
from eqnet.native import COMPUTE, SCALE_TYPES, address, check_compute, check_instructions
from eqnet.packed.panels import PANEL, Bytes, lines


class Decoder:
    """A packed language model on the kernels alone.

    Activations, keys and values are float32, whatever type the model has. Its weights are in memory once, as the
    kernels read them.

    Args:
        blocks: of the model.
        name: of its class.
        longest: most tokens that its positions reach.
        context: most tokens of a text; ``longest`` if None.
        compute: how products are taken, one of ``COMPUTE``.
        threads: how many to use, asked each time.

    Raises:
        InputError: the context is longer than the model's, ``compute`` is unknown, or the environment asks for
            instructions that are not there.
    """

    def __init__(
        self,
        blocks: Blocks,
        name: str,
        *,
        longest: int,
        context: int | None = None,
        compute: str = "float",
        threads: Callable[[], int],
    ) -> None:
        check_instructions()
        check_compute(compute)
        self.blocks = blocks  # the kernels have addresses of what is in there
        self.context = checked_context(context, longest)
        self.vocabulary = blocks.head.stop
        self.compute = compute
        self.threads = threads
        self._name = name

    @cached_property
    def kernels(self) -> _kernels.Decoder:
        """Made when the first text begins, as the weights are put in order for it."""
        _prepare(self.blocks)
        return _native(self.blocks)

    def prepare(self) -> None:
        """Makes all that the kernels read, now instead of when the first text begins."""
        _ = self.kernels

    def __str__(self) -> str:
        return f"{self._name} on eqnet's own kernels, compute={self.compute}"

    def session(self, length: int) -> Session:
        """See ``Engine``."""
        checked_length(length, self.context)
        return _Session(self, length)


class _Session:
    """One text."""

    def __init__(self, decoder: Decoder, length: int) -> None:
        self._decoder = decoder
        self._session = decoder.kernels.session(length)

    @property
    def position(self) -> int:
        """See ``Session``."""
        return self._session.position

    def feed(self, ids: Ids) -> Vector:
        """See ``Session``."""
        last: Vector = self._run(ids, all_rows=False)[0]
        return last

    def feed_all(self, ids: Ids) -> Vector:
        """See ``Session``."""
        return self._run(ids, all_rows=True)

    def _run(self, ids: Ids, *, all_rows: bool) -> NDArray[np.float32]:
        decoder = self._decoder
        checked = checked_ids(ids, self.position, self._session.length)
        x = decoder.blocks.table.rows(checked)
        logits = np.empty((len(checked) if all_rows else 1, decoder.vocabulary), np.float32)
        decoder.kernels.feed(
            self._session,
            address(x),
            len(checked),
            all_rows,
            address(logits),
            COMPUTE[decoder.compute],
            decoder.threads(),
        )
        return logits


def _prepare(blocks: Blocks) -> None:
    """Has layers ready side by side in the order in which they run, as memory is read fastest in one go.

    The largest are made first: what a layer is made of is in memory until it is ready, beside all that are.
    """
    rooms = {layer: layer.room for layer in dict.fromkeys(blocks.layers())}
    memory, places, begin = lines(sum(rooms.values())), dict[object, Bytes](), 0
    for layer, room in rooms.items():
        places[layer] = memory[begin : begin + room]
        begin += room
    for layer in sorted(rooms, key=rooms.__getitem__, reverse=True):
        if rooms[layer]:
            layer.prepare(places[layer])


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
        norm=address(blocks.norm),
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
    rows, cols, group_size, bits = panels.shape
    bias = channels.layer.bias
    count = -(-rows // PANEL)

    def start(part: Bytes | None) -> int:
        """Where the first of the channels begins."""
        return 0 if part is None else address(part) + channels.start // PANEL * (part.nbytes // count)

    return _kernels.Projection(
        channels.stop - channels.start,
        cols,
        group_size,
        bits,
        start(panels.codes),
        start(panels.scales),
        SCALE_TYPES[panels.scale_type],
        start(panels.zeros),
        0 if bias is None else address(bias) + channels.start * bias.itemsize,
    )

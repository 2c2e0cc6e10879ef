"""How GLM's tensors are arranged, and what of each a process gets when several share a model.

Names begin with ``transformer.layers.N.`` (ChatGLM2: ``transformer.encoder.layers.N.``). Of N processes each has

    word_embeddings, lm_head, output_layer    1/N of the rows
    query_key_value, bias included            1/N of the rows, in whole heads
    mlp.dense_h_to_4h, bias included          1/N of the rows; of a gated MLP, 1/N of either half
    attention.dense, mlp.dense_4h_to_h        1/N of the columns; the bias whole, as it is added once
    norms, frequencies of the positions       all of it

Rows of ``query_key_value`` go head by head: q, k and v of head 0, those of head 1, and so on. ChatGLM2 has all of q
first, then all of k, then all of v, of which k and v have fewer heads; each of the three is shared by itself.

GLM-130B was quantized part by part. So a row of ``attention.dense`` or ``mlp.dense_4h_to_h`` has a scale in each
part: merged, it has one for each group of columns; split further, each piece repeats the scale that it had. All other
scales belong to a row, and go where the row goes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eqnet.errors import InputError
from eqnet.lm.glm.checkpoint import Sizes
from eqnet.lm.parallel.slicing import Span

WEIGHT, SCALE, BIAS = ".weight", ".weight_scale", ".bias"

QUERY_KEY_VALUE = "query_key_value"

_PREFIX = re.compile(r"(transformer\.)?(embedding\.|encoder\.)?(layers\.[0-9]+\.)?")
_WHOLE = frozenset(
    [
        *(f"{norm}_layernorm{end}" for norm in ("input", "post_attention", "final") for end in (WEIGHT, BIAS)),
        "attention.dense.bias",
        "mlp.dense_4h_to_h.bias",
        "attention.rotary_emb.inv_freq",
        "rotary_pos_emb.inv_freq",
        "mixins.rotary-embedding.rotary_emb.inv_freq",
    ]
)
_BY_COLUMNS = ("attention.dense", "mlp.dense_4h_to_h")
_TABLES = ("word_embeddings", "lm_head", "output_layer")
_HEADS, _INNER = "attention.query_key_value", "mlp.dense_h_to_4h"


@dataclass(frozen=True)
class Split:
    """How processes share a tensor.

    Attributes:
        by_rows: or else by columns.
        blocks: relative sizes of the blocks of rows of which each is shared by itself.
    """

    by_rows: bool
    blocks: tuple[int, ...] = (1,)

    def spans(self, rows: int) -> list[Span]:
        """Where each block begins and ends in a tensor, or a part of one, of so many rows."""
        total, spans, begin = sum(self.blocks), [], 0
        for block in self.blocks:
            end = begin + rows * block // total
            spans.append((begin, end))
            begin = end
        return spans

    def part_spans(self, rows: int, part: int, count: int) -> list[Span]:
        """The rows of ``part``, of ``count`` equal ones of each block."""
        return [
            (begin + (end - begin) * part // count, begin + (end - begin) * (part + 1) // count)
            for begin, end in self.spans(rows)
        ]


def split_of(name: str, sizes: Sizes) -> Split | None:
    """How processes share the tensor ``name``; None if each has all of it.

    Raises:
        InputError: no GLM has such a tensor.
    """
    leaf = _PREFIX.sub("", name, count=1).replace("self_attention.", "attention.")
    if leaf in _WHOLE:
        return None
    path = leaf.removesuffix(WEIGHT).removesuffix(BIAS)
    if path in _BY_COLUMNS and leaf.endswith(WEIGHT):
        return Split(by_rows=False)
    if path in _TABLES and leaf.endswith(WEIGHT):
        return Split(by_rows=True)
    if path == _HEADS:
        return Split(by_rows=True, blocks=_heads(sizes))
    if path == _INNER:
        return Split(by_rows=True, blocks=(1, 1) if sizes.gated else (1,))
    raise InputError(f"'{name}' is no tensor of GLM-130B or a ChatGLM, so how processes share it is not known")


def _heads(sizes: Sizes) -> tuple[int, ...]:
    if sizes.groups is None or sizes.heads is None:
        return (1,)
    return sizes.heads, sizes.groups, sizes.groups

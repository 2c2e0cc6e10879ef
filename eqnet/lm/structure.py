"""What a causal language model is made of, found on the model itself and not in a list of families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from eqnet.errors import ModelError
from eqnet.packed.layers import PackedEmbedding, PackedLinear

_LINEAR = (nn.Linear, PackedLinear)
_EMBEDDING = (nn.Embedding, PackedEmbedding)


@dataclass(frozen=True)
class Structure:
    """Paths of the parts of a model, in the order in which they run.

    Attributes:
        embedding: the table of the tokens.
        blocks: the decoder blocks.
        norm: the norm behind them; None if there is none.
        head: the linear layer that makes the logits.
        tied: whether the head's weight is the embedding's.
    """

    embedding: str
    blocks: tuple[str, ...]
    norm: str | None
    head: str
    tied: bool


def structure_of(model: Any) -> Structure:
    """The structure of a causal language model of transformers, in floating point or packed, with weights or without.

    Raises:
        ModelError: it has no embedding, head or list of blocks.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, nn.Module) or not isinstance(head, nn.Module):
        raise ModelError(f"{type(model).__name__} has no embedding or no output head; give a causal language model")
    table, root = paths[id(embedding)], paths[id(embedding)].rpartition(".")[0]
    lists = [
        (path, module)
        for path, module in model.get_submodule(root).named_children()
        if isinstance(module, nn.ModuleList) and len(module)
    ]
    if not lists:
        raise ModelError(f"{type(model).__name__}: '{root}' has no list of blocks beside the embedding")
    name, blocks = max(lists, key=lambda item: sum(1 for _ in item[1].modules()))
    return Structure(
        embedding=table,
        blocks=tuple(_join(root, f"{name}.{index}") for index in range(len(blocks))),
        norm=_norm(model.get_submodule(root), root, name),
        head=paths[id(head)],
        tied=_is_tied(embedding, head),
    )


def linears(model: nn.Module, block: str) -> dict[str, nn.Module]:
    """The linear layers of a block by their paths in the model, in the order in which the block declares them."""
    return {
        _join(block, path): module
        for path, module in model.get_submodule(block).named_modules()
        if isinstance(module, _LINEAR)
    }


def tied_sets(model: nn.Module) -> list[tuple[str, ...]]:
    """Layers that share a format, in the order in which they run; every layer is in one set.

    Linear layers that stand side by side in a block and take the same input are one set (q, k and v; gate and up), as
    engines join them into one product; so are the embedding and a head that is tied to it.
    """
    structure = structure_of(model)
    sets: list[tuple[str, ...]] = [(structure.embedding, structure.head) if structure.tied else (structure.embedding,)]
    for block in structure.blocks:
        found: dict[tuple[str, str], list[str]] = {}
        for path in linears(model, block):
            owner, _, leaf = path.rpartition(".")
            found.setdefault((owner, _ROLES.get(leaf, leaf)), []).append(path)
        sets += [tuple(paths) for paths in found.values()]
    return sets if structure.tied else [*sets, (structure.head,)]


_ROLES = {
    leaf: role
    for role, leaves in {
        "qkv": ("q_proj", "k_proj", "v_proj", "query", "key", "value", "q", "k", "v", "wq", "wk", "wv"),
        "gate_up": ("gate_proj", "up_proj", "w1", "w3"),
    }.items()
    for leaf in leaves
}


def _norm(parent: nn.Module, root: str, blocks: str) -> str | None:
    """The last module with a vector of weights that is declared behind the blocks."""
    children = list(parent.named_children())
    behind = children[[name for name, _ in children].index(blocks) + 1 :]
    norms = [name for name, module in behind if "norm" in type(module).__name__.lower()]
    return _join(root, norms[-1]) if norms else None


def _is_tied(embedding: nn.Module, head: nn.Module) -> bool:
    if isinstance(embedding, PackedEmbedding) and isinstance(head, PackedLinear):
        return embedding.codes is head.codes
    return embedding.weight is head.weight


def _join(path: str, leaf: str) -> str:
    return f"{path}.{leaf}".strip(".")

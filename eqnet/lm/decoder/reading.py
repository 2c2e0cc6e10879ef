"""The blocks of a model of transformers, found on the model itself.

Its family is known by its class. All else that could change what a block computes is looked at: its modules, their
hooks, the entries of the configuration that its code reads. What is not known is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from eqnet.lm.decoder.blocks import Block, Blocks, Channels, Rotation, UnknownBlockError
from eqnet.lm.decoder.families import ACTIVATIONS, FAMILIES, STATIC_ROPES, Family
from eqnet.lm.structure import structure_of
from eqnet.ops.panels import PANEL
from eqnet.packed.layers import PackedLinear


def blocks_of(model: Any) -> Blocks:
    """The blocks of a packed causal language model of transformers.

    Raises:
        UnknownBlockError: the family, or something of this model, is not known.
    """
    name, kind = type(model).__name__, type(model)
    family = FAMILIES.get(name)
    if family is None or not kind.__module__.startswith("transformers."):
        raise UnknownBlockError(f"{name} is none of {', '.join(FAMILIES)}")
    return _Reading(model, family).blocks()


class _Reading:
    """Looks through a model of a family."""

    def __init__(self, model: Any, family: Family) -> None:
        self._model, self._family, self._config = model, family, model.config
        self._structure = structure_of(model)
        self._base: nn.Module = model.get_submodule(self._structure.embedding.rpartition(".")[0])
        self._epsilon = float(self._config.rms_norm_eps)
        self._types = self._layer_types()
        self._rotations = self._rope()

    def blocks(self) -> Blocks:
        config, structure = self._config, self._structure
        activation = getattr(config, self._family.activation)
        if activation not in ACTIVATIONS:
            raise UnknownBlockError(f"{self._family.activation} is '{activation}'; known are {', '.join(ACTIVATIONS)}")
        if structure.norm is None or not structure.blocks:
            raise UnknownBlockError("there are no blocks, or there is no norm behind them")
        attention: Any = self._model.get_submodule(f"{structure.blocks[0]}.self_attn")
        made = Blocks(
            rotations=tuple(self._rotations.values()),
            blocks=tuple(self._block(index, path) for index, path in enumerate(structure.blocks)),
            norm=self._norm(structure.norm),
            head=self._linear(structure.head),
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=attention.head_dim,
            activation=ACTIVATIONS[activation],
            epsilon=self._epsilon,
            scale=float(attention.scaling),
            softcap=float(getattr(config, "attn_logit_softcapping", None) or 0) if self._family.softened else 0.0,
            logit_softcap=float(getattr(config, "final_logit_softcapping", None) or 0),
        )
        _check_sizes(made)
        return made

    def _layer_types(self) -> list[str]:
        count = len(self._structure.blocks)
        if self._family.window == "layer_types":
            return list(self._config.layer_types)
        sliding = self._family.window == "all" and self._config.sliding_window is not None
        return ["sliding_attention" if sliding else "full_attention"] * count

    def _rope(self) -> dict[str, Rotation]:
        """By the type of layer."""
        rope: Any = self._base.get_submodule("rotary_emb")
        self._unhooked("rotary_emb", rope)
        found = {}
        for kind in dict.fromkeys(self._types):
            several = isinstance(rope.rope_type, dict)
            rope_type = rope.rope_type[kind] if several else rope.rope_type
            if rope_type not in STATIC_ROPES:
                raise UnknownBlockError(f"positions are of type '{rope_type}'; known are {', '.join(STATIC_ROPES)}")
            prefix = f"{kind}_" if several else ""
            frequencies = getattr(rope, f"{prefix}inv_freq").float().tolist()
            scale = float(getattr(rope, f"{prefix}attention_scaling"))
            found[kind] = Rotation(tuple(frequencies), scale, self._family.interleaved)
        return found

    def _block(self, index: int, path: str) -> Block:
        block: Any = self._model.get_submodule(path)
        before, after_attention, mlp, after_mlp = self._family.norms
        norms = {name for name in self._family.norms if name is not None}
        self._expect(path, {"self_attn", "mlp", *norms})
        joined = hasattr(block.mlp, "gate_up_proj")
        projections = {"gate_up_proj"} if joined else {"gate_proj", "up_proj"}
        self._expect(f"{path}.mlp", {*projections, "down_proj"}, {"act_fn", "activation_fn"})
        normed = {"q_norm", "k_norm"} if hasattr(block.self_attn, "q_norm") else set()
        attention = f"{path}.self_attn"
        self._expect(attention, {"q_proj", "k_proj", "v_proj", "o_proj", *normed})
        if not block.self_attn.is_causal:
            raise UnknownBlockError(f"'{attention}' sees tokens that are still to come")
        kind = self._types[index]
        if kind not in ("full_attention", "sliding_attention"):
            raise UnknownBlockError(f"'{path}' is of type '{kind}'")
        gate, up = self._halves(f"{path}.mlp.gate_up_proj") if joined else (None, None)
        return Block(
            attention_norm=self._norm(f"{path}.{before}"),
            query_norm=self._norm(f"{attention}.q_norm") if normed else None,
            key_norm=self._norm(f"{attention}.k_norm") if normed else None,
            after_attention=self._norm(f"{path}.{after_attention}") if after_attention else None,
            mlp_norm=self._norm(f"{path}.{mlp}"),
            after_mlp=self._norm(f"{path}.{after_mlp}") if after_mlp else None,
            query=self._linear(f"{attention}.q_proj"),
            key=self._linear(f"{attention}.k_proj"),
            value=self._linear(f"{attention}.v_proj"),
            output=self._linear(f"{attention}.o_proj"),
            gate=gate or self._linear(f"{path}.mlp.gate_proj"),
            up=up or self._linear(f"{path}.mlp.up_proj"),
            down=self._linear(f"{path}.mlp.down_proj"),
            rotation=list(self._rotations).index(kind) if getattr(block.self_attn, "use_rope", True) else -1,
            window=int(self._config.sliding_window) if kind == "sliding_attention" else 0,
        )

    def _expect(self, path: str, names: set[str], others: Iterable[str] = ()) -> None:
        module = self._model.get_submodule(path)
        self._unhooked(path, module)
        found = {name for name, _ in module.named_children()}.difference(others)
        if found != names:
            different = ", ".join(sorted(found ^ names))
            raise UnknownBlockError(f"'{path}' has other modules than those of its family: {different}")

    def _unhooked(self, path: str, module: nn.Module) -> None:
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnknownBlockError(f"'{path}' has a hook")

    def _norm(self, path: str) -> Tensor:
        norm: Any = self._model.get_submodule(path)
        self._unhooked(path, norm)
        epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        if not type(norm).__name__.endswith("RMSNorm") or epsilon != self._epsilon:
            raise UnknownBlockError(f"'{path}' is a {type(norm).__name__}, or has another epsilon than {self._epsilon}")
        weight: Tensor = norm.weight.detach()
        return (weight.float() + self._family.offset).contiguous()

    def _linear(self, path: str) -> Channels:
        layer = self._model.get_submodule(path)
        self._unhooked(path, layer)
        if type(layer) is not PackedLinear:
            raise UnknownBlockError(f"'{path}' is a {type(layer).__name__}, and not packed")
        if layer.input_format is not None or layer.codes.device.type != "cpu" or not layer.cols:
            raise UnknownBlockError(
                f"'{path}' has an input of {layer.input_format}, or is not in the memory of the CPU"
            )
        return Channels(layer, 0, layer.rows)

    def _halves(self, path: str) -> tuple[Channels, Channels]:
        """Gate and up, of one layer."""
        layer, half = self._linear(path).layer, self._linear(path).layer.rows // 2
        if half % PANEL:
            raise UnknownBlockError(f"'{path}' has halves of {half} channels, no multiple of {PANEL}")
        return Channels(layer, 0, half), Channels(layer, half, 2 * half)


def _check_sizes(made: Blocks) -> None:
    """Raises UnknownBlockError unless all layers fit each other."""
    hidden, queries = made.hidden, made.heads * made.head_dim
    keys, inner = made.kv_heads * made.head_dim, made.intermediate
    fits = made.heads % made.kv_heads == 0 and made.norm.shape == (hidden,)
    for rotation in made.rotations:
        fits &= 2 * len(rotation.frequencies) <= made.head_dim
    for block in made.blocks:
        sizes = {
            block.query: (queries, hidden),
            block.key: (keys, hidden),
            block.value: (keys, hidden),
            block.output: (hidden, queries),
            block.gate: (inner, hidden),
            block.up: (inner, hidden),
            block.down: (hidden, inner),
        }
        fits &= all((part.stop - part.start, part.layer.cols) == size for part, size in sizes.items())
        wide = (block.attention_norm, block.after_attention, block.mlp_norm, block.after_mlp)
        fits &= all(norm is None or norm.shape == (hidden,) for norm in wide)
        fits &= all(norm is None or norm.shape == (made.head_dim,) for norm in (block.query_norm, block.key_norm))
    if not fits:
        raise UnknownBlockError("layers, norms and positions do not fit each other")

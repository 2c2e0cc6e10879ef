"""The elastic space of a language model: weights alone, layer by layer, tied as its engines join them."""

from __future__ import annotations

from typing import Any

from torch import nn

from eqnet.choices import Choices
from eqnet.errors import InputError
from eqnet.lm.source import Source
from eqnet.lm.structure import tied_sets
from eqnet.space import ElasticSpace, Layer, TiedSet

PRESET = "language-model"
"""The space unless the user narrows it; fields that a text leaves out are as there."""

FLOAT_BYTES = 4
"""Of one element that stays in floating point."""


def choices_of(text: str) -> Choices:
    """Reads a space for a language model.

    Raises:
        InputError: it cannot be read, quantizes activations, or has one scale for a whole weight.
    """
    choices = Choices.parse(text, defaults=PRESET)
    if choices.activation_bits:
        raise InputError(
            f"--space '{text}': of language models weights alone are quantized; leave a= out, or write a=float"
        )
    if "tensor" in choices.granularity:
        raise InputError(
            f"--space '{text}': one scale for a whole weight is no choice for language models; take channel or groups, "
            "such as w=2-8:group32,group128"
        )
    return choices


def space_of(model: Source | nn.Module, choices: Choices) -> ElasticSpace:
    """Every subnet of a language model.

    Args:
        model: a source, or a model of transformers, on the meta device or with weights.
        choices: weight-only.

    Returns:
        A space of the embedding, the linear layers of all blocks and the head. Its costs are those of one token; of an
        embedding and a head that share their weight, the embedding stores it.
    """
    skeleton: Any = model.skeleton() if isinstance(model, Source) else model
    names = tied_sets(skeleton)
    layers: dict[str, Layer] = {}
    counted: set[int] = set()
    for name in (name for tied in names for name in tied):
        module = skeleton.get_submodule(name)
        layers[name] = _layer(name, module, stored=id(module.weight) not in counted)
        counted |= {id(parameter) for parameter in (module.weight, getattr(module, "bias", None))}
    ends = {0, len(names) - 1} if not layers[names[0][-1]].macs else {0}  # a tied head is in the first set
    return ElasticSpace(
        sets=tuple(
            TiedSet(tuple(layers[name] for name in tied), choices.formats(edge=index in ends), index in ends)
            for index, tied in enumerate(names)
        ),
        scale_bits=choices.scale_bits,
        float_bytes=FLOAT_BYTES * _others(skeleton, counted),
    )


def _layer(name: str, module: Any, *, stored: bool) -> Layer:
    rows, cols = module.weight.shape
    looks_up = isinstance(module, nn.Embedding)
    return Layer(
        name=name,
        kind="Embedding" if looks_up else "Linear",
        rows=rows,
        cols=cols,
        macs=0 if looks_up else rows * cols,
        inputs=0 if looks_up else cols,
        has_bias=getattr(module, "bias", None) is not None,
        stored=stored,
    )


def _others(model: nn.Module, counted: set[int]) -> int:
    """Elements of what is stored beside the layers: norms and persistent buffers, tied ones once."""
    left = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values() if id(tensor) not in counted}
    return sum(tensor.numel() for tensor in left.values())

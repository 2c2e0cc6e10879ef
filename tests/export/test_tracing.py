"""The graph of a packed model, one node for each layer."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eqnet
from eqnet import Choices
from eqnet.errors import ModelError
from eqnet.export.tracing import layers_as_nodes
from eqnet.packed.model import PackedModel
from eqnet.tasks.networks import MobileNet


def _packed(model: nn.Module, example: Any, choices: str = "w=4:channel:sym a=float") -> PackedModel:
    supernet = eqnet.elasticize(model.eval(), Choices.parse(choices), example)
    supernet.calibrate([example])
    return eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))


def _calls(program: torch.export.ExportedProgram, name: str) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if node.target is getattr(torch.ops.eqnet, name).default]


class _Words(nn.Module):
    """Every kind of layer, and a table that is also the output head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.linear = nn.Linear(32, 32)
        self.transposed = nn.ConvTranspose1d(32, 32, 4, stride=2)
        self.convolution = nn.Conv1d(32, 32, 3, stride=2)

    def forward(self, input_ids: Tensor) -> Tensor:
        h = self.linear(self.table(input_ids)).transpose(1, 2)
        h = self.convolution(self.transposed(h)).transpose(1, 2)
        return F.linear(h, self.table.weight)


def test_each_call_of_a_layer_is_one_node_of_its_shape() -> None:
    packed = _packed(MobileNet(), torch.zeros(1, 1, 28, 28), "w=4:channel:sym a=8")
    before = packed(torch.ones(3, 1, 28, 28))
    shapes: dict[str, torch.Size] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, y: shapes.update({layer.path: y.shape[1:]}))
        for layer in packed.layers.values()
    ]
    packed(torch.ones(3, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    with layers_as_nodes(packed, torch.zeros(1, 1, 28, 28)) as program:
        nodes = _calls(program, "layer")
    assert {node.args[1]: node.meta["val"].shape[1:] for node in nodes} == shapes
    assert isinstance(nodes[0].meta["val"].shape[0], torch.SymInt), "any number of images"
    assert torch.equal(packed(torch.ones(3, 1, 28, 28)), before), "the model is left as it was"


def test_sequences_may_have_any_length_and_weights_in_use_elsewhere_are_nodes() -> None:
    ids = torch.arange(7).view(1, 7)
    packed = _packed(_Words(), ids)
    with layers_as_nodes(packed, {"input_ids": ids}) as program:
        assert [node.args[1] for node in _calls(program, "layer")] == ["table", "linear", "transposed", "convolution"]
        (weight,) = _calls(program, "layer_weight")
        assert weight.args[1] == "table"
        assert weight.meta["val"].shape == (50, 32)
        (result,) = program.graph.output_node().args[0]
        samples, length, words = result.meta["val"].shape
        assert isinstance(samples, torch.SymInt)
        assert isinstance(length, torch.SymInt)
        assert words == 50
        assert program.run_decompositions() is not None, "what exporters do within the context"
    assert packed(ids).shape == (1, 7, 50)


class _Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        if y.sum() > 0:  # the line that the message names
            return y
        return -y


def test_control_flow_on_values_is_refused_with_its_line() -> None:
    packed = _packed(_Branches(), torch.ones(3, 4))
    lines, first = inspect.getsourcelines(_Branches)
    line = first + next(i for i, text in enumerate(lines) if "if y.sum() > 0" in text)
    with (
        pytest.raises(ModelError, match=rf"(?s)_Branches cannot be exported.*{__file__}:{line}: .if y\.sum\(\) > 0"),
        layers_as_nodes(packed, torch.ones(3, 4)),
    ):
        pass
    assert packed(torch.ones(3, 4)).shape == (3, 4), "the model is left as it was"


def test_a_layer_that_is_given_more_than_its_input_is_named() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose1d(2, 2, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x, output_size=[8])

    packed = _packed(Sized(), torch.ones(3, 2, 3))
    with pytest.raises(ModelError, match="layer 'up'"), layers_as_nodes(packed, torch.ones(3, 2, 3)):
        pass


def test_a_model_that_is_one_layer_is_one_node() -> None:
    packed = _packed(nn.Linear(4, 3), torch.ones(2, 4))
    with layers_as_nodes(packed, torch.ones(2, 4)) as program:
        assert len(_calls(program, "layer")) == 1

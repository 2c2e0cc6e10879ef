"""Elastic embeddings."""

from __future__ import annotations

import torch
from torch import nn

import eqnet
from eqnet import Choices, Supernet

TOKENS = torch.tensor([[1, 6, 0], [3, 3, 2]])


def elastic(plain: nn.Embedding, text: str) -> Supernet:
    made = eqnet.elasticize(nn.Sequential(plain), Choices.parse(text), TOKENS)
    made.calibrate([TOKENS])
    made.activate(made.space.subnet([0]))
    return made


def test_the_table_is_quantized_and_nothing_else() -> None:
    made = elastic(nn.Embedding(7, 5), "w=2:channel:asym a=8:asym edge=none")
    with torch.no_grad():
        table = made.elastic["0"].quantized_weight()
        assert torch.equal(made(TOKENS), table[TOKENS])
        assert all(len(row.unique()) <= 4 for row in table)
    assert made.elastic["0"].input_quantizer is None
    assert made.space.layers[0].macs == 0


def test_padding_gets_no_gradient() -> None:
    made = elastic(nn.Embedding(7, 5, padding_idx=0), "w=8:channel:sym a=float edge=none")
    made(TOKENS).sum().backward()
    gradient = made.elastic["0"].weight.grad
    assert gradient is not None
    assert not gradient[0].any()
    assert gradient[1].all()


def test_a_table_that_changes_itself_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Embedding(7, 5, max_norm=1.0), nn.Linear(5, 2))
    supernet = eqnet.elasticize(model, None, TOKENS)
    assert "max_norm" in supernet.left_alone["0"]
    assert list(supernet.elastic) == ["1"]

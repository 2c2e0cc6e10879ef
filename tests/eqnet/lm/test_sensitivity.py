"""The divergence of an error, against its definition in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqnet.lm.sensitivity import Sensitivity, sensitivity_of
from tests.eqnet.lm.models import random_ids, random_model

FLOAT32 = 1e-6
"""Relative; sums of a few hundred terms in float32."""


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 7), (16, 8), (65, 130), (70, 577)])
def test_divergence_is_half_the_weighted_quadratic_form(rows: int, cols: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * cols, cols, generator=generator)
    hessian, outputs = x.T @ x, torch.rand(rows, generator=generator)
    error = torch.randn(2 * rows, cols, generator=generator)[::2]
    sensitivity = Sensitivity({"layer": hessian}, {"layer": outputs})
    e, h, f = (part.double().numpy() for part in (error, hessian, outputs))
    forms = np.array([row @ h @ row for row in e])
    assert sensitivity.divergence("layer", error) == pytest.approx(0.5 * f @ forms, rel=FLOAT32)
    drawn = sensitivity.drawn("layer", 9, seed=1)
    expected = 0.5 * f.sum() * forms[drawn.numpy()].mean()
    assert sensitivity.divergence("layer", error[drawn], drawn) == pytest.approx(expected, rel=FLOAT32)


def test_inputs_are_of_all_windows_and_gradients_of_those_that_go_backward() -> None:
    model, ids = random_model("llama"), random_ids(7, 16)
    seen: list[torch.Tensor] = []
    layer = "model.layers.1.mlp.down_proj"
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    few = sensitivity_of(model, ids, backward=3)
    hook.remove()
    x = torch.cat([part.detach()[0] for part in seen]).double()
    torch.testing.assert_close(few.inputs[layer].double(), x.T @ x / ids.numel(), rtol=1e-5, atol=1e-7)
    spread = sensitivity_of(model, ids[[0, 3, 6]])
    assert all(torch.equal(few.outputs[path], gradients) for path, gradients in spread.outputs.items())
    assert torch.equal(few.inputs["model.embed_tokens"], spread.inputs["model.embed_tokens"])
    assert all(parameter.requires_grad for parameter in model.parameters())

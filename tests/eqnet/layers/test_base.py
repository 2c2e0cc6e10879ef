"""What every elastic layer does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices, ModelError
from eqnet.layers import ELASTIC, Elastic
from eqnet.layers.base import check_parameters


def test_every_kind_that_is_promised_has_an_elastic_form() -> None:
    convolutions = {f"{kind}{dimensions}d" for kind in ("Conv", "ConvTranspose") for dimensions in (1, 2, 3)}
    assert {kind.__name__ for kind in ELASTIC} == convolutions | {"Linear", "Embedding"}
    for kind, elastic in ELASTIC.items():
        assert issubclass(elastic, kind)
        assert elastic.__name__ == f"Elastic{kind.__name__}"


def test_a_layer_stays_the_object_that_others_refer_to() -> None:
    layer = nn.Linear(2, 2)
    assert ELASTIC[nn.Linear].convert(layer, "body.fc") is layer
    assert isinstance(layer, Elastic)
    assert layer.path == "body.fc"


def test_layers_in_a_plain_list_run_elastic() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.order = [self.b, self.a]

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    supernet = eqnet.elasticize(Listed(), Choices.parse("w=2:tensor:sym a=8:asym edge=none"), x)
    supernet.calibrate([x])
    plain = supernet(x)
    supernet.activate(supernet.space.subnet([0, 0]))
    assert [layer.name for layer in supernet.space.layers] == ["b", "a"]
    assert not torch.equal(supernet(x), plain)


def test_a_subclass_may_compute_something_else_and_is_left_alone() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    supernet = eqnet.elasticize(nn.Sequential(Doubled(2, 2), nn.Linear(2, 2)), None, torch.zeros(1, 2))
    assert list(supernet.elastic) == ["1"]
    assert supernet.left_alone == {"0": "eqnet has no elastic form of Doubled"}


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=lambda dtype: str(dtype)[6:]
)
def test_values_keep_the_dtype_of_the_model(dtype: torch.dtype, generator: torch.Generator) -> None:
    x = torch.randn(8, 4, generator=generator).to(dtype)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)
    supernet = eqnet.elasticize(model, Choices.parse("w=4:channel:asym a=8:asym edge=none"), x)
    supernet.calibrate([x])
    supernet.activate(supernet.space.subnet([0, 0]))
    layer = supernet.elastic["2"]
    assert supernet(x).dtype == dtype
    assert layer.format is not None
    stored = layer.weight_quantizer.dequantize(
        layer.weight_quantizer.codes(layer.weight, layer.format.weight), layer.format.weight
    )
    assert torch.equal(layer.quantized_weight(), stored.to(dtype))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.empty(0, 3), r"layer 'fc': its weight of shape \(0, 3\) is empty"),
        (torch.tensor([[1.0, float("nan")]]), "layer 'fc': its weight holds inf or NaN"),
        (torch.tensor([[-float("inf")]]), "layer 'fc': its weight holds inf or NaN"),
    ],
    ids=["empty", "nan", "inf"],
)
def test_parameters_that_cannot_be_quantized_are_refused(values: Tensor, message: str) -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(values)
    with pytest.raises(ModelError, match=message):
        check_parameters(layer, "fc")

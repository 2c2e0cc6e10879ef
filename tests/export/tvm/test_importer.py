"""Models that are no whole program on integers, compiled by TVM for this processor, against the packed model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eqnet
from eqnet import Choices
from eqnet.errors import InputError, ModelError
from eqnet.packed.model import PackedModel

tvm = pytest.importorskip("tvm", reason="needs pip install 'eqnet[tvm]'")

TOLERANCE = 2e-5
"""Of results up to about 20: sums of some dozen products in float32, in another order."""

STEP = 2e-2
"""The same where inputs are quantized: one that lies between two codes may be rounded to the other one, by the order of
the sums that it is made of. Few do."""


class Block(nn.Module):
    """Attention and a feed-forward network, with norms that do not fold."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width + 3), nn.Linear(2 * width + 3, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        samples, length, width = x.shape
        split = self.qkv(self.before(x)).view(samples, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        mask = torch.full((length, length), -torch.inf).triu(1) if self.causal else None
        mixed = F.scaled_dot_product_attention(q, k, v, mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(samples, length, width))
        result: Tensor = x + self.down(F.gelu(self.up(self.between(x))))
        return result


class Decoder(nn.Module):
    """A language model whose last layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(37, 24), nn.Embedding(16, 24)
        self.block, self.norm, self.head = Block(24, 3, True), nn.LayerNorm(24), nn.Linear(24, 37, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        at = torch.arange(input_ids.shape[1], device=input_ids.device)
        result: Tensor = self.head(self.norm(self.block(self.tokens(input_ids) + self.positions(at))))
        return result


class Transformer(nn.Module):
    """A vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 24, 7, 7)
        self.first, self.positions = nn.Parameter(torch.randn(1, 1, 24)), nn.Parameter(torch.randn(1, 5, 24))
        self.block, self.head = Block(24, 2, False), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.positions
        result: Tensor = self.head(self.block(x)[:, -1])
        return result


class Convolutions(nn.Module):
    """Convolutions of every dimension and kind around norms that do not fold."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 12, (3, 5), stride=(2, 1), padding=(1, 2), padding_mode="reflect")
        self.norm = nn.GroupNorm(3, 12)
        self.grouped = nn.Conv2d(12, 18, 3, padding="same", dilation=2, groups=6)
        self.up = nn.ConvTranspose2d(18, 10, (3, 2), stride=2, padding=(2, 0), output_padding=(1, 0), groups=2)
        self.line = nn.Conv1d(10, 7, 4, padding=3, padding_mode="circular", bias=False)
        self.instances = nn.InstanceNorm1d(7)
        self.longer = nn.ConvTranspose1d(7, 5, 3, stride=3, dilation=2)
        self.deep = nn.Conv3d(5, 3, (1, 3, 2), padding=(0, 1, 1), padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.silu(self.grouped(F.relu(self.norm(self.wide(x))))))
        x = self.longer(self.instances(self.line(x.mean(2))))
        result: Tensor = self.deep(x[:, :, :36].reshape(-1, 5, 3, 4, 3))
        return result


def _packed(model: nn.Module, x: Tensor, choices: str) -> PackedModel:
    supernet = eqnet.elasticize(model.eval(), Choices.parse(choices), x)
    supernet.calibrate([x])
    return eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))


def _tokens(samples: int, length: int) -> Tensor:
    return torch.randint(0, 37, (samples, length), generator=torch.Generator().manual_seed(samples))


def _images(samples: int, *shape: int) -> Tensor:
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(samples))


@cache
def _model(name: str) -> tuple[PackedModel, Tensor]:
    torch.manual_seed(0)
    make, x, choices = MODELS[name]
    return _packed(make(), x, choices), x


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "decoder": (Decoder, _tokens(2, 6), "w=4:group16:asym a=float edge=none"),
    "transformer": (Transformer, _images(2, 1, 14, 14), "w=3:channel:sym a=8:asym edge=none"),
    "convolutions": (Convolutions, _images(2, 3, 12, 9), "w=5:group20:asym a=float edge=none"),
    "integer convolutions": (Convolutions, _images(2, 3, 12, 9), "w=2:channel:sym a=7:asym edge=none"),
}


@cache
def _compiled(name: str) -> Any:
    from eqnet.export.tvm.importer import compile_imported, imported_module

    packed, x = _model(name)
    return compile_imported(imported_module(packed, x), tvm.target.Target("llvm"))


def _run(name: str, x: Tensor) -> Tensor:
    main = tvm.relax.VirtualMachine(_compiled(name), tvm.cpu())["main"]
    return torch.from_numpy(main(tvm.runtime.tensor(x.numpy())).numpy().copy())


@pytest.mark.parametrize(("samples", "length"), [(1, 1), (1, 16), (2, 6), (5, 7)])
def test_a_decoder_takes_any_number_of_samples_of_any_length(samples: int, length: int) -> None:
    packed, _ = _model("decoder")
    x = _tokens(samples, length)
    torch.testing.assert_close(_run("decoder", x), packed(x), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "shape", "tolerance"),
    [
        ("transformer", (1, 14, 14), STEP),
        ("convolutions", (3, 12, 9), TOLERANCE),
        ("integer convolutions", (3, 12, 9), STEP),
    ],
)
def test_other_models_take_any_number_of_samples(name: str, shape: tuple[int, ...], tolerance: float) -> None:
    packed, _ = _model(name)
    for samples in (1, 2, 9):
        x = _images(samples, *shape)
        result, expected = _run(name, x), packed(x)
        torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)
        assert (result - expected).abs().median() < TOLERANCE


def test_weights_stay_packed(tmp_path: Any) -> None:
    """Also through compilation, which would unpack them if it computed what is constant."""
    from eqnet.export.tvm.importer import compile_imported, imported_module

    weights = 300 * 256
    model = _packed(nn.Sequential(nn.Linear(256, 300), nn.LayerNorm(300)), _images(2, 256), "w=3:channel edge=none")
    executable = compile_imported(imported_module(model, _images(2, 256)), tvm.target.Target("llvm"))
    executable.export_library(str(tmp_path / "model.tar"))
    nbytes = (tmp_path / "model.tar").stat().st_size
    assert weights * 3 / 8 < nbytes < weights * 3 / 8 + 100_000  # the code


def test_eqnets_own_kernels_are_called_by_path() -> None:
    from eqnet.export.tvm.importer import imported_module
    from eqnet.export.tvm.kernels.calls import called_layers

    packed, x = _model("decoder")
    called = called_layers(imported_module(packed, x, "eqnet"))
    assert called == ["block.qkv", "block.out", "block.up", "block.down", "head"]


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(self.linear(x)).abs()


def test_an_operator_that_tvm_does_not_know_is_named() -> None:
    from eqnet.export.tvm.importer import imported_module

    packed = _packed(Spectrum(), _images(2, 8), "w=4 edge=none")
    with pytest.raises(ModelError, match=r"Spectrum: TVM cannot import it .*fft"):
        imported_module(packed, _images(2, 8))


def test_unknown_kernels_are_refused() -> None:
    from eqnet.export.tvm.importer import imported_module

    packed, x = _model("decoder")
    with pytest.raises(InputError, match="kernels 'cublas' are unknown; choose tir or eqnet"):
        imported_module(packed, x, "cublas")

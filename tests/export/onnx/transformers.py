"""Small transformers, written as people write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eqnet
from eqnet import Choices
from eqnet.packed.model import PackedModel

WIDTH, HEADS, TOKENS, LONGEST = 48, 3, 29, 16


class Attention(nn.Module):
    """Attention of several heads, with the angles of rotary positions if there are any.

    Args:
        causal: whether a position sees only those before it.
        rotary: whether queries and keys are turned by their positions.
    """

    def __init__(self, causal: bool, rotary: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.out, self.causal, self.rotary = nn.Linear(WIDTH, WIDTH), causal, rotary

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        if self.rotary:
            q, k = _turned(q), _turned(k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result


def _turned(x: Tensor) -> Tensor:
    """[batch, heads, length, width], each pair of columns turned by an angle that grows with the position."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[2], device=x.device)[:, None] * 10000 ** -(torch.arange(half, device=x.device) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


class Gated(nn.Module):
    """SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(WIDTH, 64), nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y


class Block(nn.Module):
    """Attention and a network of two layers, each on what a norm makes of the sum so far."""

    def __init__(self, causal: bool, rotary: bool, network: nn.Module) -> None:
        super().__init__()
        self.first, self.attention = nn.LayerNorm(WIDTH), Attention(causal, rotary)
        self.second, self.network = nn.LayerNorm(WIDTH), network

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        y: Tensor = x + self.network(self.second(x))
        return y


class Language(nn.Module):
    """Predicts tokens, with one table for the first and the last layer, and one for positions."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        gelu = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))
        self.blocks = nn.Sequential(Block(True, False, gelu), Block(True, True, Gated()))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, TOKENS, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """[batch, length] → [batch, length, tokens]."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        y: Tensor = self.head(self.norm(self.blocks(self.tokens(input_ids) + self.positions(places))))
        return y


class Vision(nn.Module):
    """Classifies images by a token in front of those of their patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 5, WIDTH))
        gelu = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(approximate="tanh"), nn.Linear(64, WIDTH))
        self.block, self.norm, self.head = Block(False, False, gelu), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 1, 8, 8] → [batch, 10]."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        y: Tensor = self.head(self.norm(self.block(x))[:, 0])
        return y


def packed(model: nn.Module, space: str, x: Tensor) -> PackedModel:
    """The first subnet of ``space``, calibrated on ``x``."""
    supernet = eqnet.elasticize(model.eval(), Choices.parse(f"{space} edge=none"), x)
    supernet.calibrate([x])
    return eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))

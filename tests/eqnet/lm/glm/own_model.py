"""A model of the user's own, its layers called as GLM-130B calls them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.eqnet.lm.glm.checkpoints import HEADS, HIDDEN, INNER, LAYERS, VOCABULARY


class Block(nn.Module):
    """A block of GLM-130B, as far as its layers go."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.attention, self.mlp = nn.Module(), nn.Module()
        self.attention.query_key_value = nn.Linear(HIDDEN, 3 * HIDDEN // degree)
        self.attention.dense = nn.Linear(HIDDEN // degree, HIDDEN)
        self.attention.rotary_emb = nn.Module()
        self.attention.rotary_emb.register_buffer("inv_freq", torch.zeros(HIDDEN // HEADS // 2))
        self.mlp.dense_h_to_4h = nn.Linear(HIDDEN, 2 * INNER // degree)
        self.mlp.dense_4h_to_h = nn.Linear(INNER // degree, HIDDEN)


class Own(nn.Module):
    """A model of the user's own, its layers called as GLM-130B calls them."""

    def __init__(self, degree: int = 1) -> None:
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.word_embeddings = nn.Embedding(VOCABULARY // degree, HIDDEN)
        self.transformer.layers = nn.ModuleList(Block(degree) for _ in range(LAYERS))
        self.transformer.final_layernorm = nn.LayerNorm(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        """The MLPs one after the other."""
        for block in self.transformer.layers:
            value, gate = block.mlp.dense_h_to_4h(x).chunk(2, -1)  # type: ignore[union-attr, operator]
            x = block.mlp.dense_4h_to_h(value * nn.functional.gelu(gate))  # type: ignore[union-attr, operator]
        return x

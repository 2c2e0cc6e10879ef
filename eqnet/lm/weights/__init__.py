"""Where the weights of a language model are read from, one file a kind of file."""

from __future__ import annotations

from eqnet.lm.weights.gguf import GgufWeights
from eqnet.lm.weights.indexed import indexed_files
from eqnet.lm.weights.safetensors import SafetensorsWeights

__all__ = ["GgufWeights", "SafetensorsWeights", "indexed_files"]

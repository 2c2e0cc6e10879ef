"""Checkpoints of GLM-130B and of the ChatGLM models: read as they are, shared among any number of processes.

    checkpoint = read_glm("glm-130b-int4")     # eight parts, say; nothing is read yet
    four = resharded(checkpoint, 4)
    four.parts[0]["transformer.layers.0.attention.dense.weight"].dequantize()
    write_glm(four, "glm-130b-on-4")

Files, from the outside in: ``folders`` and ``pickles`` find and read tensors, ``reading`` says whose they are,
``layout`` how processes share them, ``resharding`` shares them anew, ``native`` gives transformers' names, and
``writing`` writes them.
"""

from __future__ import annotations

from eqnet.lm.glm.checkpoint import GlmCheckpoint, Kind, Sizes, Weight
from eqnet.lm.glm.reading import read_glm
from eqnet.lm.glm.resharding import resharded
from eqnet.lm.glm.writing import Imported, write_glm

__all__ = ["GlmCheckpoint", "Imported", "Kind", "Sizes", "Weight", "read_glm", "resharded", "write_glm"]

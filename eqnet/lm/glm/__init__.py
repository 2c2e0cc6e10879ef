"""Checkpoints of GLM-130B and of the ChatGLM models: read as they are, shared among any number of processes."""

from __future__ import annotations

from eqnet.lm.glm.checkpoint import GlmCheckpoint, Kind, Sizes, Weight
from eqnet.lm.glm.reading import read_glm
from eqnet.lm.glm.resharding import resharded
from eqnet.lm.glm.writing import Imported, write_glm

__all__ = ["GlmCheckpoint", "Imported", "Kind", "Sizes", "Weight", "read_glm", "resharded", "write_glm"]

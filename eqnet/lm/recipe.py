"""How a packed language model was made, and what it was found to be worth; kept in the metadata of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from eqnet.packed.model import PackedModel

KEY = "recipe"
"""Of the metadata."""


@dataclass(frozen=True)
class Recipe:
    """How a packed language model was made.

    Attributes:
        model: name of the one in floating point.
        method: that made the codes.
        budgets: what it was searched for, as the user wrote it; empty if the formats were given.
        text: names of the files of its calibration text; empty for the text that comes with eqnet.
        perplexity: on held-out text, by part (``validation``, which a search sees, ``test``); empty if unknown.
        float_perplexity: of the model in floating point, likewise.
        divergence: KL(float ‖ packed) of the next token on the validation text, in nats; None if not measured.
    """

    model: str
    method: str
    budgets: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    perplexity: Mapping[str, float] = field(default_factory=dict)
    float_perplexity: Mapping[str, float] = field(default_factory=dict)
    divergence: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As metadata holds it."""
        return {KEY: {**asdict(self), "budgets": list(self.budgets), "text": list(self.text)}}

    @classmethod
    def of(cls, packed: PackedModel) -> Recipe | None:
        """That of a packed model; None if its record has none that can be read."""
        data: Any = packed.record.metadata.get(KEY)
        try:
            return cls(**{**data, "budgets": tuple(data["budgets"]), "text": tuple(data["text"])})
        except (TypeError, KeyError):
            return None

"""The text that a model is fitted to, and the text that it is judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from eqnet.lm.source import Source
from eqnet.lm.text import packaged, windows

CALIBRATION_WINDOWS, CALIBRATION_LENGTH = 24, 512
"""Of the text that a model is packed on, block by block."""

SEARCH_WINDOWS = 72
"""As many instead of them for a search, in which the text goes through the model once for all networks."""

HELD_OUT_WINDOWS, HELD_OUT_LENGTH = 8, 256
"""Of the text that subnets are measured on."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Token ids, int64 [N, T] each.

    Attributes:
        calibration: that codes are fitted to.
        held_out: of other parts of the same files.
    """

    calibration: Tensor
    held_out: Tensor


def texts_of(
    source: Source, files: Sequence[str | Path] = (), seed: int = 0, calibration: int = CALIBRATION_WINDOWS
) -> Texts:
    """Windows of text for a model, none longer than its context.

    Args:
        source: of the model.
        files: of text, or of token ids; eqnet's own text if there are none.
        seed: of the windows that are drawn.
        calibration: windows, if there is text for as many.

    Raises:
        InputError: a file cannot be used, or the model has no tokenizer for it.
    """
    config = source.config.get_text_config(decoder=True)
    context = int(getattr(config, "max_position_embeddings", None) or CALIBRATION_LENGTH)
    tokenizer, vocabulary = source.tokenizer(), int(getattr(source.config, "vocab_size", 0)) or None

    def drawn(part: str, length: int, count: int) -> Tensor:
        return windows(
            tokenizer,
            files or None,
            length=min(length, context),
            part=part,
            count=count,
            seed=seed,
            vocabulary=vocabulary,
        )

    return Texts(
        drawn("calibration", CALIBRATION_LENGTH, calibration),
        drawn("held-out", HELD_OUT_LENGTH, HELD_OUT_WINDOWS),
    )


def text_identity(source: Source, files: Sequence[str | Path] = (), seed: int = 0) -> str:
    """Of all that texts of a search depend on; files count by their names, sizes and times, as they do for ``make``."""
    digest = hashlib.sha256(f"{source.fingerprint()} {seed} {packaged() if not files else ''}".encode())
    digest.update(repr((SEARCH_WINDOWS, CALIBRATION_LENGTH, HELD_OUT_WINDOWS, HELD_OUT_LENGTH)).encode())
    for path in (*source.files, *map(Path, files)):
        found = path.stat() if path.exists() else None
        digest.update(repr((path.name, found and (found.st_size, found.st_mtime_ns))).encode())
    return digest.hexdigest()

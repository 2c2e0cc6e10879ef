"""A packed language model as a folder that transformers loads: the artifact, and all that travels along."""

from __future__ import annotations

import tempfile
from pathlib import Path

from eqnet.files import write_atomically
from eqnet.lm.card import card
from eqnet.lm.recipe import Recipe
from eqnet.lm.source import Source
from eqnet.packed.model import PackedModel

CARD = "README.md"


def save(packed: PackedModel, source: Source, folder: str | Path) -> None:
    """Writes the artifact, the tokenizer, the generation settings, the license and a model card.

    Args:
        packed: the model of ``source``.
        source: whose files travel along.
        folder: new, empty, or an older artifact, which is replaced.

    Raises:
        RunError: the folder holds something else or cannot be written.
    """
    folder = Path(folder)
    packed.save(folder)
    for name, content in _companions(source).items():
        write_atomically(folder / name, content)
    write_atomically(folder / CARD, card(packed, Recipe.of(packed) or Recipe(source.name, "unknown")))


def _companions(source: Source) -> dict[str, bytes]:
    """Contents of the files that travel along, by name; those of a GGUF file as transformers writes them."""
    if source.path.is_dir():
        return {path.name: path.read_bytes() for path in source.companions}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = source.tokenizer()
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        source.skeleton().generation_config.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}

"""A language model ready to answer: from a folder or a file to what runs it.

A packed model that the decoder knows is opened without PyTorch and transformers, in a fraction of their memory and
time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqnet.errors import InputError, MissingPackageError
from eqnet.lm.generation import Engine
from eqnet.lm.tokenizer import FILE, Tokenizer
from eqnet.packed.artifact import METHOD, Artifact

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel


@dataclass(frozen=True)
class Deployed:
    """A language model, opened.

    Attributes:
        path: where it is.
        engine: what runs it.
        tokenizer: ``Tokenizer``, or one of transformers; None if the folder has none.
        stop: the tokens that end a text.
        model: of transformers, packed or in floating point; None if the decoder runs the files themselves.
    """

    path: Path
    engine: Engine
    tokenizer: Any
    stop: frozenset[int]
    model: Any = None


def is_packed(path: Path) -> bool:
    """Whether ``path`` is a folder that says of itself that eqnet packed it, whatever else is in it."""
    config = _config(path)
    quantization = config.get("quantization_config")
    return isinstance(quantization, dict) and quantization.get("quant_method") == METHOD


def is_packed_language_model(path: Path) -> bool:
    """Whether ``path`` is a packed model of transformers that generates text; nothing of it is loaded."""
    from eqnet.lm.decoder.families import FAMILIES

    names = _config(path).get("architectures")
    if not is_packed(path) or not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        return False
    if names[0] in FAMILIES:
        return True
    try:
        import transformers
    except ImportError:
        return False
    model_class = getattr(transformers, names[0], None)
    return isinstance(model_class, type) and names[0] in _causal_names(transformers)


def open_model(
    path: Path, *, compute: str = "float", threads: int | None = None, context: int | None = None
) -> Deployed:
    """Opens a packed language model, or one in floating point to compare with.

    Args:
        path: what ``eqnet export`` wrote; or a folder of transformers, or a ``.gguf`` file.
        compute: of a packed model; see ``PackedModel.compute``.
        threads: as many as PyTorch takes if None.
        context: most tokens of a text; what the model's configuration says if None.

    Raises:
        InputError: it is neither, no causal language model, or does not reach as far as ``context``.
        RunError: a file is missing or damaged.
        MissingPackageError: a package that it needs is not installed.
    """
    if not is_packed(path):
        from eqnet.lm.engine import TransformersEngine
        from eqnet.lm.source import open_source

        source = open_source(path)
        model = source.load()
        return Deployed(path, TransformersEngine(model, context=context), source.tokenizer(), _stop(model), model)
    from eqnet.lm.decoder.blocks import UnknownBlockError
    from eqnet.lm.decoder.files import open_decoder

    artifact = Artifact.open(path)
    # The tokenizer first: what reading it takes for a moment is free again for the weights.
    tokenizer, stop = tokenizer_of(path), stop_tokens(path)
    try:
        decoder = open_decoder(artifact, compute=compute, threads=threads, context=context)
        return Deployed(path, decoder, tokenizer, stop)
    except UnknownBlockError:  # what it lacks, transformers may know or name
        pass
    from eqnet.lm.engine import engine_of
    from eqnet.packed.loading import load_from

    packed = language_model(load_from(artifact, compute=compute), path)
    return Deployed(path, engine_of(packed, threads=threads, context=context), tokenizer, stop, packed)


def language_model(packed: PackedModel, path: Path) -> PackedModel:
    """What was loaded from ``path``; raises InputError if it is no causal language model of transformers."""
    from eqnet.lm.engine import is_language_model

    if not is_language_model(packed.model):
        raise InputError(
            f"{path}: holds a {type(packed.model).__name__}, which is no language model; eqnet run takes other networks"
        )
    return packed


def stop_tokens(path: Path) -> frozenset[int]:
    """The tokens that end a text of a packed model, as its generation configuration says, or else the model's."""
    generation, config = path / "generation_config.json", _config(path)
    said: list[Any] = [config, config.get("text_config")]
    if generation.is_file():
        try:
            said.insert(0, json.loads(generation.read_text(encoding="utf-8")))
        except (OSError, ValueError) as e:
            raise InputError(f"{generation}: cannot be read ({e}); mend or remove it") from e
    for settings in said:
        found = settings.get("eos_token_id") if isinstance(settings, dict) else None
        if found is not None:
            tokens = [found] if isinstance(found, int) else found
            if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
                raise InputError(f"{path}: eos_token_id is {found!r}; expected the id of a token, or several")
            return frozenset(tokens)
    return frozenset()


def tokenizer_of(path: Path) -> Any:
    """The tokenizer of a packed model's folder; None if it has none."""
    if (path / FILE).is_file():
        return Tokenizer(path)
    if not any((path / name).is_file() for name in _TOKENIZERS):
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ImportError as e:
        raise MissingPackageError(f"{path}: its tokenizer needs another package: {e}") from e
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path}: its tokenizer cannot be read ({type(e).__name__}: {e}); copy it anew") from e


_TOKENIZERS = ("tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files of tokenizers that transformers alone reads."""


def _stop(model: Any) -> frozenset[int]:
    for config in (getattr(model, "generation_config", None), model.config, model.config.get_text_config(decoder=True)):
        found = getattr(config, "eos_token_id", None)
        if found is not None:
            return frozenset([found] if isinstance(found, int) else found)
    return frozenset()


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _causal_names(transformers: Any) -> set[str]:
    names: set[str] = set()
    for found in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        names.update([found] if isinstance(found, str) else found)
    return names

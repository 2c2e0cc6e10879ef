"""A language model ready to answer: from a folder or a file to what runs it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from eqnet.errors import InputError, MissingPackageError
from eqnet.lm.engine import TransformersEngine, engine_of, is_language_model
from eqnet.lm.generation import Engine
from eqnet.packed.artifact import METHOD
from eqnet.packed.loading import load
from eqnet.packed.model import PackedModel


@dataclass(frozen=True)
class Deployed:
    """A language model, opened.

    Attributes:
        path: where it is.
        engine: what runs it.
        model: of transformers, packed or in floating point.
        tokenizer: of transformers; None if the folder has none.
        stop: the tokens that end a text.
    """

    path: Path
    engine: Engine
    model: nn.Module
    tokenizer: Any
    stop: frozenset[int]

    @property
    def packed(self) -> PackedModel | None:
        """The packed model; None in floating point."""
        return self.model if isinstance(self.model, PackedModel) else None


def is_packed(path: Path) -> bool:
    """Whether ``path`` is a folder that says of itself that eqnet packed it, whatever else is in it."""
    config = _config(path)
    quantization = config.get("quantization_config")
    return isinstance(quantization, dict) and quantization.get("quant_method") == METHOD


def is_packed_language_model(path: Path) -> bool:
    """Whether ``path`` is a packed model of transformers that generates text; nothing of it is loaded."""
    names = _config(path).get("architectures")
    if not is_packed(path) or not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        return False
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
        threads: PyTorch's number if None.
        context: most tokens of a text; what the model's configuration says if None.

    Raises:
        InputError: it is neither, no causal language model, or does not reach as far as ``context``.
        RunError: a file is missing or damaged.
        MissingPackageError: transformers is not installed.
    """
    if not is_packed(path):
        from eqnet.lm.source import open_source

        source = open_source(path)
        model = source.load()
        return Deployed(path, TransformersEngine(model, context=context), model, source.tokenizer(), _stop(model))
    packed = language_model(load(path, compute=compute), path)
    engine = engine_of(packed, threads=threads, context=context)
    return Deployed(path, engine, packed, tokenizer_of(path), stop_tokens(packed, path))


def language_model(packed: PackedModel, path: Path) -> PackedModel:
    """What was loaded from ``path``; raises InputError if it is no causal language model of transformers."""
    if not is_language_model(packed.model):
        raise InputError(
            f"{path}: holds a {type(packed.model).__name__}, which is no language model; eqnet run takes other networks"
        )
    return packed


def stop_tokens(packed: PackedModel, path: Path) -> frozenset[int]:
    """The tokens that end a text, as the folder's generation configuration says, or else the model's."""
    model: Any = packed.model
    if (path / "generation_config.json").is_file():
        from transformers import GenerationConfig

        try:
            model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError) as e:
            raise InputError(f"{path / 'generation_config.json'}: cannot be read ({e}); mend or remove it") from e
    return _stop(model)


def tokenizer_of(path: Path) -> Any:
    """Transformers' tokenizer of a folder; None if it has none."""
    from transformers import AutoTokenizer

    if not any((path / name).is_file() for name in _TOKENIZERS):
        return None
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ImportError as e:
        raise MissingPackageError(f"{path}: its tokenizer needs another package: {e}") from e
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path}: its tokenizer cannot be read ({type(e).__name__}: {e}); copy it anew") from e


_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


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

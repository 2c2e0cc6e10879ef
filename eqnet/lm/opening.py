"""What the configuration of a published model says: whether eqnet can take it, and if not, what would help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eqnet.errors import InputError, MissingPackageError, RunError


def transformers_of(path: Path) -> Any:
    """The package transformers; raises MissingPackageError, naming ``path``, if it is not there."""
    try:
        import transformers
    except ImportError as e:
        raise MissingPackageError(f"{path}: language models need transformers ({e}); pip install 'eqnet[hf]'") from e
    return transformers


def read_config(path: Path) -> Any:
    """Transformers' configuration of a folder or a ``.gguf`` file.

    Raises:
        InputError: it is neither, or of a model that cannot be taken.
        RunError: ``config.json`` or the file is damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: does not exist; give the folder of a model, or a .gguf file")
    if path.is_file():
        return _gguf_config(path)
    config = path / "config.json"
    if not config.is_file():
        raise InputError(f"{path}: has no config.json; give the folder of a model of Hugging Face's transformers")
    try:
        stored = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise RunError(f"{config}: cannot be read ({e}); copy it anew") from e
    if not isinstance(stored, dict):
        raise RunError(f"{config}: holds no JSON object; copy it anew")
    _check_float(path, stored)
    _check_known(config, stored)
    return _parsed(config, path)


def causal_class(path: Path, config: Any) -> Any:
    """The class of transformers that is the causal language model of a configuration.

    Raises:
        InputError: there is none, or the model is stored as something else.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as MAPPING

    found = MAPPING.get(type(config), None)
    if found is None:
        raise InputError(
            f"{path}: models of type '{config.model_type}' are no causal language models; "
            "eqnet.elasticize takes any model that you build yourself"
        )
    model_class = found[0] if isinstance(found, tuple) else found
    stored = (config.architectures or [model_class.__name__])[0]
    if stored not in {known.__name__ for known in _classes(MAPPING, type(config))}:
        raise InputError(
            f"{path}: holds a {stored}, which is no causal language model; a {model_class.__name__} is: "
            "give the folder of one"
        )
    return model_class


def _classes(mapping: Any, config_class: Any) -> tuple[Any, ...]:
    found = mapping[config_class]
    return found if isinstance(found, tuple) else (found,)


def _check_float(path: Path, stored: dict[str, Any]) -> None:
    quantization = stored.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method == "eqnet":
        raise InputError(
            f"{path}: is packed by eqnet already; 'eqnet generate', 'eqnet eval' and eqnet.load take it as it is. "
            "Give the model that it was made of"
        )
    if quantization is not None:
        raise InputError(f"{path}: is quantized already ({method}); give the model in floating point")


def _check_known(config: Path, stored: dict[str, Any]) -> None:
    import transformers

    kind = stored.get("model_type")
    if kind == "chatglm":
        raise InputError(
            f"{config}: is of a ChatGLM with code of its own, which is never run; 'eqnet import' makes a model of "
            "transformers of ChatGLM2, ChatGLM3 and GLM-4"
        )
    if kind not in transformers.CONFIG_MAPPING:
        raise InputError(
            f"{config}: transformers {transformers.__version__} has no models of type {kind!r}, and code that comes "
            "with a model is never run; upgrade transformers, or build the model yourself: eqnet.elasticize and "
            "eqnet.pack take any nn.Module"
        )


def _parsed(config: Path, path: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as e:
        raise RunError(f"{config}: is no configuration that transformers reads ({type(e).__name__}: {e})") from e


def _gguf_config(path: Path) -> Any:
    from transformers import AutoConfig

    if path.suffix != ".gguf":
        raise InputError(f"{path}: is a file, but no .gguf; give the folder of the model")
    try:
        import gguf  # noqa: F401
    except ImportError as e:
        raise MissingPackageError(f"{path}: reading it takes gguf ({e}); pip install 'eqnet[hf]'") from e
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise RunError(f"{path}: is no GGUF file; copy it anew")
    try:
        return AutoConfig.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
    except ValueError as e:
        raise InputError(f"{path}: transformers cannot read it ({e}); give a folder of safetensors") from e
    except Exception as e:
        raise RunError(f"{path}: is damaged ({type(e).__name__}: {e}); copy it anew") from e

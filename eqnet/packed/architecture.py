"""What ``config.json`` says of a model's class, and the model that is built anew from it, without weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from eqnet.errors import InputError, MissingPackageError
from eqnet.fast_paths import without_fast_paths
from eqnet.packed.plain_layers import with_plain_layers
from eqnet.randomness import seeded
from eqnet.tasks.networks import NETWORKS, Network


@dataclass(frozen=True)
class _Family:
    """Models that are described and built in one way.

    Attributes:
        has: whether a model is one of them.
        describe: what ``config.json`` says of it.
        described: whether a configuration is of one of them.
        build: the model of a configuration; the file is for messages.
    """

    has: Callable[[nn.Module], bool]
    describe: Callable[[Any], dict[str, Any]]
    described: Callable[[Mapping[str, Any]], bool]
    build: Callable[[Mapping[str, Any], Path], nn.Module]


def _describe_network(model: Network) -> dict[str, Any]:
    return {"architecture": {"network": type(model).__name__, "arguments": model.arguments}}


def _build_network(config: Mapping[str, Any], path: Path) -> nn.Module:
    match config["architecture"]:
        case {"network": str(name), "arguments": dict(arguments)} if name in NETWORKS and all(
            type(value) is int for value in arguments.values()
        ):
            try:
                return NETWORKS[name](**arguments)
            except (TypeError, ValueError, RuntimeError) as e:
                raise InputError(f"{path}: {name} cannot be built with {arguments} ({e})") from e
    raise InputError(f"{path}: architecture is {config['architecture']!r}; built in are {', '.join(NETWORKS)}")


def _describe_transformer(model: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    config.pop("quantization_config", None)
    # Left open, it would be guessed from what is stored first: the scales.
    config["dtype"] = config.get("dtype") or str(model.dtype).removeprefix("torch.")
    return {**config, "architectures": [type(model).__name__], "model_type": model.config.model_type}


def _build_transformer(config: Mapping[str, Any], path: Path) -> nn.Module:
    try:
        import transformers
    except ImportError as e:
        raise MissingPackageError(
            f"{path}: a model of type '{config['model_type']}' needs transformers ({e}); pip install 'eqnet[hf]'"
        ) from e
    kind, names = config["model_type"], config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    model_class = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)):
        raise InputError(
            f"{path}: architectures are {names!r}; transformers {transformers.__version__} has no such model: "
            "install a version that has, or give model="
        )
    # The mapping of types that transformers comes with; code that a configuration names is never run.
    if kind not in transformers.CONFIG_MAPPING:
        raise InputError(
            f"{path}: transformers {transformers.__version__} has no models of type {kind!r}; "
            "install a version that has, or give model="
        )
    given = {key: value for key, value in config.items() if key not in ("quantization_config", "auto_map")}
    try:
        made: nn.Module = model_class(transformers.CONFIG_MAPPING[kind].from_dict(given))
        with_plain_layers(made)
    except Exception as e:
        raise InputError(f"{path}: transformers cannot build a {name} from it ({type(e).__name__}: {e})") from e
    return made


_FAMILIES = (
    _Family(
        has=lambda model: type(model) in NETWORKS.values(),
        describe=_describe_network,
        described=lambda config: isinstance(config.get("architecture"), dict) and "network" in config["architecture"],
        build=_build_network,
    ),
    _Family(
        has=lambda model: type(model).__module__.partition(".")[0] == "transformers",
        describe=_describe_transformer,
        described=lambda config: isinstance(config.get("model_type"), str),
        build=_build_transformer,
    ),
)


def describe(model: nn.Module) -> dict[str, Any]:
    """What ``config.json`` says of the class of ``model``; all but those of a known family by its name alone."""
    for family in _FAMILIES:
        if family.has(model):
            return family.describe(model)
    return {"architecture": {"class": f"{type(model).__module__}.{type(model).__qualname__}"}}


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether the class of ``config`` is of a known family, so that its model can be built from it alone."""
    return any(family.described(config) for family in _FAMILIES)


def skeleton(config: Mapping[str, Any], path: Path, model: nn.Module | Callable[[], nn.Module] | None) -> nn.Module:
    """A model without weights: its parameters hold no memory, or that of the model that was given.

    Args:
        config: of the artifact.
        path: of ``config.json``, for messages.
        model: what the user gave: a module, which is not changed, or a function that makes one.

    Raises:
        InputError: no model was given and the class is not known, or the function fails.
        MissingPackageError: the package that has the class is not installed.
    """
    if isinstance(model, nn.Module):
        kept = {id(part): part for part in [*model.parameters(), *model.buffers()]}
        return without_fast_paths(copy.deepcopy(model, kept))
    return without_fast_paths(without_memory(lambda: _made(config, path, model)))


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` makes, its parameters on the meta device; buffers are real, as some are stored nowhere."""
    with seeded(0), _empty_parameters():
        return build()


@contextmanager
def _empty_parameters() -> Iterator[None]:
    """Every parameter goes to the meta device once a module has it, which is before anything is written to it."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None:
            empty = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
            empty.__dict__.update(parameter.__dict__)
            module._parameters[name] = empty

    nn.Module.register_parameter = register_empty  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _made(config: Mapping[str, Any], path: Path, build: Callable[[], nn.Module] | None) -> nn.Module:
    if build is not None:
        try:
            made = build()
        except Exception as e:
            raise InputError(
                f"model= failed, called where parameters hold no memory ({type(e).__name__}: {e}); "
                "let it make the model and no more, or give the model itself"
            ) from e
        if not isinstance(made, nn.Module):
            raise InputError(f"model= returned a {type(made).__name__}; it must return the model as an nn.Module")
        return made
    for family in _FAMILIES:
        if family.described(config):
            return family.build(config, path)
    architecture = config.get("architecture")
    name = architecture.get("class") if isinstance(architecture, dict) else None
    raise InputError(
        f"{path}: holds {f'a {name}' if name else 'a model'} that eqnet cannot build by itself; "
        "give model=, the model or a function that makes it"
    )

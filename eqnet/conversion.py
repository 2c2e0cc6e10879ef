"""From a trained model to its supernet."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.utils import parametrize

from eqnet.choices import Choices
from eqnet.errors import InputError, ModelError
from eqnet.fast_paths import without_fast_paths
from eqnet.layers import ELASTIC, Elastic, ElasticConv2d, ElasticEmbedding
from eqnet.layers.base import check_parameters
from eqnet.quantizer import Quantizer
from eqnet.space import ElasticSpace, Layer, TiedSet
from eqnet.supernet import Supernet
from eqnet.tracing import STATISTICS, ExampleInputs, Trace, call, evaluating, is_affine, trace

FUSED_BY_ENGINES: tuple[tuple[str, ...], ...] = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("to_q", "to_k", "to_v"),
    ("wq", "wk", "wv"),
    ("gate_proj", "up_proj"),
    ("w1", "w3"),
)
"""Names of sibling linear layers that inference engines merge into one, which takes one format."""


def elasticize(
    model: nn.Module,
    choices: Choices | None = None,
    example_inputs: ExampleInputs | None = None,
    *,
    tied: Iterable[Sequence[str]] = (),
) -> Supernet:
    """Makes a copy of ``model`` elastic: each layer can run in every format, on shared weights.

    Replaced are Conv1d/2d/3d, ConvTranspose1d/2d/3d, Linear and (weight-only) Embedding; ``left_alone`` of the
    result names every other module with weights, and says why. The supernet runs in floating point until
    ``calibrate`` has set its ranges and ``activate`` has chosen a subnet.

    Args:
        model: trained; not changed.
        choices: the formats that layers may take; the default space if None.
        example_inputs: a batch for ``model``: a tensor, a tuple of arguments or a mapping of keyword arguments.
        tied: sets of layer names that must share a format, beside those that share a weight and those that
            engines fuse (query/key/value, gate/up).

    Raises:
        ModelError: the model does not run, holds inf or NaN, or has no layer that can be quantized.
        InputError: ``tied`` names a layer that is not elastic.
    """
    if example_inputs is None:
        raise InputError("elasticize needs example_inputs: a batch that the model runs on, e.g. next(iter(loader))[0]")
    if any(isinstance(module, Elastic) for module in model.modules()):
        raise ModelError("the model is elastic already; give elasticize the model that the supernet was made of")
    choices = choices or Choices()
    model = _copy(model)
    seen = trace(model, example_inputs)
    left_alone = _left_alone(model, seen)
    paths = {path: module for path, module in model.named_modules() if module in seen.calls and path not in left_alone}
    if not paths:
        reasons = "; ".join(f"{path or 'the model'}: {why}" for path, why in left_alone.items()) or "it has no weights"
        raise ModelError(f"the model has no layer that can be quantized ({reasons})")
    seen.folded = _foldable(seen, paths.values())
    space = _space(choices, paths, seen, model, _unions(paths, tied))
    elastic = {path: ELASTIC[type(module)].convert(module, path) for path, module in paths.items()}
    _attach_quantizers(elastic, space)
    _try_channels_last(model, example_inputs)
    names = {module: path for path, module in model.named_modules()}
    folded = {names[norm]: names[layer] for norm, layer in seen.folded.items()}
    return Supernet(model, space, elastic, left_alone, folded)


def _copy(model: nn.Module) -> nn.Module:
    try:
        model = copy.deepcopy(model)
    except Exception as e:
        raise ModelError(f"the model cannot be copied: {type(e).__name__}: {e}") from e
    return without_fast_paths(model)


def _left_alone(model: nn.Module, seen: Trace) -> dict[str, str]:
    """Every module that holds weights of two or more dimensions and stays in floating point, and why."""
    reasons = {}
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            reasons[path] = "its weight is parametrized; call torch.nn.utils.parametrize.remove_parametrizations first"
        elif any(path.startswith(f"{parent}.parametrizations".lstrip(".")) for parent in reasons):
            continue
        elif type(module) in ELASTIC:
            weight = module.weight
            if "weight" not in module._parameters:
                reasons[path] = (
                    "its weight is computed at each call; remove weight_norm, spectral_norm or pruning first"
                )
            elif isinstance(module, nn.Embedding) and (module.max_norm is not None or module.sparse):
                reasons[path] = "it changes its weights at each call (max_norm), or their gradients are sparse"
            elif module not in seen.calls:
                reasons[path] = "it is never called on the example inputs"
            elif not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
                reasons[path] = f"its weight is {getattr(weight, 'dtype', type(weight).__name__)}, not floating point"
            else:
                check_parameters(module, path)
        elif any(p.ndim >= 2 for p in module.parameters(recurse=False)):
            reasons[path] = f"eqnet has no elastic form of {type(module).__name__}"
    return reasons


def _foldable(seen: Trace, layers: Iterable[nn.Module]) -> dict[nn.Module, nn.Module]:
    """The batch norms that fold into one of ``layers`` that shares its weight, which is stored once, with no other."""
    users = Counter(id(layer.weight) for layer in layers)
    return {norm: layer for norm, layer in seen.folded.items() if users[id(layer.weight)] == 1}


def _unions(paths: dict[str, nn.Module], tied: Iterable[Sequence[str]]) -> list[list[str]]:
    """Partition of the layers into tied sets, each in the order of ``paths``."""
    leader = {path: path for path in paths}

    def find(path: str) -> str:
        while leader[path] != path:
            path = leader[path]
        return path

    def unite(names: Sequence[str]) -> None:
        for name in names:
            if name not in leader:
                raise InputError(
                    f"tied layer '{name}' is not an elastic layer of the model; there are {', '.join(paths)}"
                )
        for name in names[1:]:
            leader[find(name)] = find(names[0])

    by_weight: dict[int, list[str]] = {}
    for path, module in paths.items():
        by_weight.setdefault(id(module.weight), []).append(path)
    for names in by_weight.values():
        unite(names)
    for siblings in FUSED_BY_ENGINES:
        for path in paths:
            parent, _, name = path.rpartition(".")
            if name == siblings[0]:
                group = [f"{parent}.{sibling}".lstrip(".") for sibling in siblings]
                if all(member in paths for member in group):
                    unite(group)
    for given in tied:
        unite(given)
    sets: dict[str, list[str]] = {}
    for path in paths:
        sets.setdefault(find(path), []).append(path)
    return list(sets.values())


def _space(
    choices: Choices, paths: dict[str, nn.Module], seen: Trace, model: nn.Module, unions: list[list[str]]
) -> ElasticSpace:
    order = {path: seen.calls[module].order for path, module in paths.items()}
    edges = {min(order, key=order.__getitem__), max(order, key=order.__getitem__)}
    normed = set(seen.folded.values())
    stored: set[tuple[object, ...]] = set()  # a weight read as two different matrices has codes for each
    sets = []
    for names in sorted((sorted(names, key=order.__getitem__) for names in unions), key=lambda n: order[n[0]]):
        layers = []
        for path in names:
            module = paths[path]
            to_matrix = ELASTIC[type(module)].to_matrix
            matrix = to_matrix(module, module.get_parameter("weight").detach())
            codes = id(module.weight), to_matrix, matrix.shape
            layers.append(
                Layer(
                    name=path,
                    kind=type(module).__name__,
                    rows=matrix.shape[0],
                    cols=matrix.shape[1],
                    macs=seen.calls[module].macs // seen.samples,
                    inputs=seen.calls[module].inputs // seen.samples,
                    has_bias=getattr(module, "bias", None) is not None or module in normed,
                    stored=codes not in stored,
                    folded=module in normed,
                    depthwise=1 < getattr(module, "groups", 1) == getattr(module, "in_channels", 0),
                )
            )
            stored.add(codes)
        edge = bool(edges & set(names))
        formats = choices.formats(edge=edge)
        if all(isinstance(paths[path], nn.Embedding) for path in names):
            formats = tuple(dict.fromkeys(replace(fmt, activation=None) for fmt in formats))
        sets.append(TiedSet(tuple(layers), formats, edge))
    return ElasticSpace(
        sets=tuple(sets),
        weight_only=frozenset(path for path, module in paths.items() if isinstance(module, nn.Embedding)),
        scale_bits=choices.scale_bits,
        float_bytes=_float_bytes(model, paths.values(), seen),
    )


def _float_bytes(model: nn.Module, layers: Iterable[nn.Module], seen: Trace) -> int:
    """Bytes of all that a state dict stores beside the elastic layers, as it is after folding batch norms."""
    norms = {module for module in model.modules() if is_affine(module)}
    replaced, total = {*layers, *norms}, 0
    for norm in norms - set(seen.folded):
        assert isinstance(norm.running_mean, torch.Tensor)
        total += 2 * 4 * norm.running_mean.numel()  # a scale and a shift for each channel
    gone: set[str] = set()  # names, as another module may keep the same tensor
    for path, module in model.named_modules(remove_duplicate=False):
        if module in replaced:
            gone.update(f"{path}.{name}".lstrip(".") for name in ("weight", "bias", *STATISTICS))
    state = model.state_dict(keep_vars=True).items()  # without buffers that are made anew, such as masks
    kept = {id(t): t for name, t in state if isinstance(t, torch.Tensor) and name not in gone}
    return total + sum(t.numel() * t.element_size() for t in kept.values())


def _try_channels_last(model: nn.Module, example_inputs: ExampleInputs) -> None:
    """Lets 2-d convolutions compute channels-last, unless the model then fails, as one that takes views may."""
    convolutions = [module for module in model.modules() if isinstance(module, ElasticConv2d)]
    if not any(convolution.weight.device.type == "cpu" for convolution in convolutions):
        return
    for convolution in convolutions:
        convolution.channels_last = True
    try:
        with evaluating(model), torch.no_grad():
            call(model, example_inputs)
    except RuntimeError:
        for convolution in convolutions:
            convolution.channels_last = False


def _attach_quantizers(elastic: dict[str, Elastic], space: ElasticSpace) -> None:
    scale_dtype = torch.float16 if space.scale_bits == 16 else torch.float32
    shared: dict[tuple[object, ...], Quantizer] = {}
    for tied in space.sets:
        for layer in tied.layers:
            module = elastic[layer.name]
            weights = (choice.weight for choice in tied.choices)
            key = id(module.weight), module.to_matrix, layer.rows  # the groups of transposed convolutions may differ
            if key not in shared:
                shared[key] = Quantizer(weights, layer.rows, layer.cols, scale_dtype)
            module.weight_quantizer = shared[key]
            activations = [c.activation for c in tied.choices if c.activation is not None]
            if activations and not isinstance(module, ElasticEmbedding):
                module.input_quantizer = Quantizer(activations, 1, None)
            module.weight_quantizer.to(module.weight.device)
            if module.input_quantizer is not None:
                module.input_quantizer.to(module.weight.device)

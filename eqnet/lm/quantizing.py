"""From a language model in its files to the packed one, block by block.

The model is called once, on all calibration text. When a block's turn comes, its weights are read, the inputs of its
layers are watched, its weights become codes, and what it makes of the text on those codes is what the next block sees:
each block is fitted to the errors of those before it, and one block at a time is in memory in floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eqnet.errors import InputError, ModelError
from eqnet.formats import LayerFormat
from eqnet.lm.assembling import assembled, packed_in_place
from eqnet.lm.distilling import Distillation
from eqnet.lm.given import Given, first_tensor
from eqnet.lm.methods import METHODS, Method
from eqnet.lm.moments import Moments
from eqnet.lm.qat import QuantizationAwareTraining
from eqnet.lm.source import Source
from eqnet.lm.structure import Structure, structure_of, tied_sets
from eqnet.packed.model import PackedModel
from eqnet.packed.record import LayerRecord, Record, remade_buffers
from eqnet.packed.tensor import PackedTensor

Report = Callable[[str, int, int], None]

DISTILL, QAT = "distill", "qat"
"""The methods that train codes: block by block, and all of them together."""

TRAINED_FROM: Mapping[str, str] = {DISTILL: "gptq", QAT: "gptq"}
"""By the method that trains codes, the one whose codes it begins with."""

NAMES = (*METHODS, *TRAINED_FROM)
"""What ``--method`` may be."""

_STAGE = "Quantizing"


def quantize(
    source: Source,
    subnet: Mapping[str, LayerFormat],
    *,
    method: str = "gptq",
    ids: Tensor | None = None,
    scale: torch.dtype = torch.float16,
    distillation: Distillation | None = None,
    training: QuantizationAwareTraining | None = None,
    trained_on: Tensor | None = None,
    report: Report | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PackedModel:
    """Packs a language model.

    Args:
        source: of the model.
        subnet: the format of the weight of each layer; those of tied weights are alike.
        method: ``rtn``, ``mse``, ``gptq``, ``distill`` or ``qat``.
        ids: calibration text, int64 [N, T]; ``rtn`` needs none, ``mse`` works without.
        scale: type of the scales.
        distillation: how ``distill`` trains; its defaults if None.
        training: how ``qat`` trains; its defaults if None.
        trained_on: text for it, int64 [N, T]; the calibration text if None.
        report: told (stage, done, total).
        metadata: kept in the model's record; whatever JSON can hold.

    Raises:
        InputError: the method is unknown or needs text, or the subnet is of another model or quantizes activations.
        ModelError: a layer cannot be quantized; the message names it.
    """
    first = codes_of(method)
    check_subnet(source, subnet)
    if ids is None and first.needs_hessian:
        raise InputError(f"--method {method}: needs calibration text; give some, or choose mse or rtn")
    if ids is None or first.name == "rtn":
        return assembled(source, _without_text(source, subnet, first, scale, report), metadata)
    blocks = (distillation or Distillation()) if method == DISTILL else None
    packed = _Walk(source, subnet, first, scale, blocks, report).run(ids, metadata)
    if method != QAT:
        return packed
    weights = {path: packed.layers[path].weight for path in dict.fromkeys(map(source.first_of, subnet))}
    shared = {path: weights[source.first_of(path)] for path in subnet}
    trained = (training or QuantizationAwareTraining()).train(
        source, shared, ids if trained_on is None else trained_on, report
    )
    return assembled(source, trained, metadata)


def codes_of(method: str) -> Method:
    """What makes the codes of a method of NAMES, or those that its training begins with; InputError if it is none."""
    if method not in NAMES:
        raise InputError(f"--method {method}: is unknown; choose {', '.join(NAMES)}")
    return METHODS[TRAINED_FROM.get(method, method)]


def check_subnet(source: Source, subnet: Mapping[str, LayerFormat]) -> None:
    """Raises InputError unless ``subnet`` has a weight-only format for each layer of the model and for nothing else."""
    names = [path for tied in tied_sets(source.skeleton()) for path in tied]
    for path in names:
        if path not in subnet:
            raise InputError(f"the subnet has no format for layer '{path}' of {source.name}; it is of another model")
    for path, fmt in subnet.items():
        if path not in names:
            raise InputError(f"the subnet has layer '{path}', which {source.name} has not; it is of another model")
        if fmt.activation is not None:
            raise InputError(f"layer '{path}': {fmt} quantizes activations; of language models weights alone are")


def _without_text(
    source: Source, subnet: Mapping[str, LayerFormat], method: Method, scale: torch.dtype, report: Report | None
) -> dict[str, PackedTensor]:
    """The weight of each layer, by its path."""
    weights: dict[str, PackedTensor] = {}
    for done, (path, fmt) in enumerate(subnet.items()):
        if report is not None:
            report(_STAGE, done, len(subnet))
        first = source.first_of(path)
        if first not in weights:
            weights[first] = _quantized(method, path, source.tensor(f"{path}.weight"), fmt, scale, None)
        weights[path] = weights[first]
    if report is not None:
        report(_STAGE, len(subnet), len(subnet))
    return {path: weights[path] for path in subnet}


def _quantized(
    method: Method, path: str, weight: Tensor, fmt: LayerFormat, scale: torch.dtype, hessian: Tensor | None
) -> PackedTensor:
    try:
        return method.quantize(weight, fmt.weight, scale, hessian)
    except ModelError as e:
        raise ModelError(f"layer '{path}': {e}") from e


class _Walk:
    """One pass of the text through a skeleton that is packed on the way."""

    def __init__(
        self,
        source: Source,
        subnet: Mapping[str, LayerFormat],
        method: Method,
        scale: torch.dtype,
        distillation: Distillation | None,
        report: Report | None,
    ) -> None:
        self._source, self._subnet, self._method, self._scale = source, subnet, method, scale
        self._distillation, self._report = distillation, report
        self._model: Any = source.skeleton()
        self._structure: Structure = structure_of(self._model)
        self._records: dict[str, LayerRecord] = {}
        self._exact: Tensor | None = None  # what the blocks so far make of the text in floating point

    @torch.no_grad()
    def run(self, ids: Tensor, metadata: Mapping[str, Any] | None) -> PackedModel:
        """The packed model; ids [N, T]."""
        model, structure = self._model, self._structure
        table = model.get_submodule(structure.embedding)
        with self._taking_turns(), _set_aside(model, structure.head):
            self._source.fill(model, "")
            # What a table is looked up for is among the inputs of no layer: nothing weighs its errors.
            packed = self._codes(structure.embedding, table.weight, None)
            table.weight.copy_(packed.dequantize())
            seen = Moments()
            seen.add(structure.head, model.base_model(input_ids=ids, use_cache=False)[0])
            seen.forget()
        self._source.empty(table)
        exact = self._source.tensor(f"{structure.head}.weight")
        last = self._codes(structure.head, exact, seen.means()[structure.head])
        self._pack(structure.embedding, table, last if structure.tied else packed)
        self._pack(structure.head, model.get_submodule(structure.head), last)
        self._tell(len(structure.blocks))
        records = {path: self._records[path] for path in self._subnet}
        return PackedModel(model, Record(records, remade=remade_buffers(model), metadata=dict(metadata or {})))

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        """Something without weights is in the place of each block."""
        blocks = {path: self._model.get_submodule(path) for path in self._structure.blocks}
        for path, block in blocks.items():
            self._model.set_submodule(path, _Turn(path, block, self._take))
        try:
            yield
        finally:
            for path, block in blocks.items():
                self._model.set_submodule(path, block)

    def _take(self, path: str, block: nn.Module, given: Given) -> Any:
        """What a block makes of its input when it is packed, which it is from then on."""
        self._tell(self._structure.blocks.index(path))
        self._source.fill(block, path)
        layers = {name: layer for name, layer in block.named_modules() if f"{path}.{name}" in self._subnet}
        with _watched(layers) as moments:
            given.call(block)
        means = moments.means()
        weights = {name: layer.get_parameter("weight").detach() for name, layer in layers.items()}
        packed = {name: self._codes(f"{path}.{name}", weight, means[name]) for name, weight in weights.items()}
        if self._distillation is not None:
            packed = self._distillation.train(block, weights, packed, given, self._wanted(block, given))
        for name, weight in weights.items():
            weight.copy_(packed[name].dequantize())
        result = given.call(block)
        for name, layer in layers.items():
            self._pack(f"{path}.{name}", layer, packed[name])
        return result

    def _wanted(self, block: nn.Module, given: Given) -> Tensor:
        """What the block would make of the text in floating point, after blocks in floating point."""
        exact = given if self._exact is None else given.instead(self._exact)
        self._exact = first_tensor(exact.call(block))
        return self._exact

    def _codes(self, path: str, weight: Tensor, moments: Tensor | None) -> PackedTensor:
        method = self._method if moments is not None or not self._method.needs_hessian else METHODS["mse"]
        return _quantized(method, path, weight.detach(), self._subnet[path], self._scale, moments)

    def _pack(self, path: str, layer: nn.Module, weight: PackedTensor) -> None:
        self._records[path] = packed_in_place(layer, path, weight, self._source)

    def _tell(self, done: int) -> None:
        if self._report is not None:
            self._report(_STAGE, done, len(self._structure.blocks))


class _Turn(nn.Module):
    """Stands where a block was, and has none of its weights.

    Models ask their blocks for more than to be called (which kind of attention they have), so all else is the block's.
    """

    def __init__(self, path: str, block: nn.Module, take: Callable[..., Any]) -> None:
        super().__init__()
        self.__dict__.update(_path=path, _block=block, _take=take)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._take(self._path, self._block, Given(args, kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_block"], name)


@contextmanager
def _set_aside(model: nn.Module, path: str) -> Iterator[None]:
    """A module is not there; its weight stays if another one has it."""
    module = model.get_submodule(path)
    model.set_submodule(path, nn.Identity())
    try:
        yield
    finally:
        model.set_submodule(path, module)


@contextmanager
def _watched(layers: Mapping[str, nn.Module]) -> Iterator[Moments]:
    """Second moments of what goes into layers, by their names, once they were called."""
    moments = Moments()
    hooks = [
        layer.register_forward_pre_hook(lambda _module, given, name=name: moments.add(name, given[0]))
        for name, layer in layers.items()
    ]
    try:
        yield moments
    finally:
        moments.forget()
        for hook in hooks:
            hook.remove()

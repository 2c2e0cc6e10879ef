"""A model whose layers can take every format of an elastic space, on shared weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from eqnet.errors import ModelError, RunError
from eqnet.files import write_atomically
from eqnet.formats import LayerFormat
from eqnet.layers import Elastic
from eqnet.ranges import Histogram
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet
from eqnet.tracing import ExampleInputs, call, evaluating


class Supernet(nn.Module):
    """What ``eqnet.elasticize`` makes of a model.

    Attributes:
        model: the elastic copy of the user's model; calling the supernet calls it.
        space: which subnets there are.
        elastic: the elastic layers by name, in the order in which the model declares them.
        left_alone: modules with weights that stay in floating point, and why.
        folded: names of the batch norms that become part of a layer when they are packed, and of that layer.
    """

    model: nn.Module

    def __init__(
        self,
        model: nn.Module,
        space: ElasticSpace,
        elastic: Mapping[str, Elastic],
        left_alone: Mapping[str, str],
        folded: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.model = model
        self.space = space
        self.elastic = dict(elastic)
        self.left_alone = dict(left_alone)
        self.folded = dict(folded)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns, in the active subnet."""
        # Convolutions may compute channels-last, which is not what a caller expects who takes a view.
        return tree_map_only(Tensor, Tensor.contiguous, self.model(*args, **kwargs))

    @property
    def active(self) -> Subnet | None:
        """The subnet that runs; None while the model runs in floating point."""
        formats = {layer.name: self.elastic[layer.name].format for layer in self.space.layers}
        chosen = {name: fmt for name, fmt in formats.items() if fmt is not None}
        return Subnet(chosen) if len(chosen) == len(formats) else None

    def activate(self, subnet: Mapping[str, LayerFormat] | None) -> None:
        """Makes ``subnet`` what runs, or floating point if None.

        Raises:
            InputError: the subnet is not one of this space.
        """
        if subnet is not None:
            self.space.genes(subnet)
        for name, layer in self.elastic.items():
            layer.format = None if subnet is None else subnet[name]

    @contextmanager
    def running(self, subnet: Mapping[str, LayerFormat] | None) -> Iterator[None]:
        """``subnet`` inside, what was active before afterwards."""
        before = self.active
        self.activate(subnet)
        try:
            yield
        finally:
            self.activate(before)

    def calibrate(self, inputs: Iterable[ExampleInputs]) -> None:
        """Starts every scale and zero point: weights from their values, activations from those on ``inputs``.

        Args:
            inputs: batches for the model, as for ``elasticize``; 256 samples are enough.

        Raises:
            ModelError: there is no batch, or a layer receives nothing, inf or NaN (the message names it).
        """
        for layer in self.elastic.values():
            layer.observer = Histogram() if layer.input_quantizer is not None else None
        try:
            with self.running(None), evaluating(self), torch.no_grad():
                batches = 0
                for batches, batch in enumerate(inputs, start=1):  # noqa: B007 (the count outlives the loop)
                    call(self.model, batch)
            if batches == 0:
                raise ModelError("the calibration data is empty; give at least one batch")
            for name, layer in self.elastic.items():
                if layer.observer is not None and not layer.observer.counts.any():
                    raise ModelError(f"layer '{name}': the calibration data never reaches it; give more or other data")
            done: set[int] = set()
            for layer in self.elastic.values():
                if id(layer.weight_quantizer) not in done:
                    layer.weight_quantizer.initialize(layer.matrix())
                    done.add(id(layer.weight_quantizer))
                if layer.input_quantizer is not None and layer.observer is not None:
                    layer.input_quantizer.initialize(layer.observer.centers[None], layer.observer.counts[None])
        finally:
            for layer in self.elastic.values():
                layer.observer = None

    def batch_norms(self) -> list[_BatchNorm]:
        """The batch norms that keep running statistics."""
        return [m for m in self.model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]

    def reestimate_batch_norm(self, inputs: Iterable[ExampleInputs]) -> None:
        """Replaces the running statistics of every batch norm by those of ``inputs`` in the active subnet.

        Each statistic is the mean over the batches. Without batch norms nothing happens.

        Raises:
            ModelError: there is no batch; the statistics stay as they were.
        """
        norms = self.batch_norms()
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        with evaluating(self), torch.no_grad():
            for norm in norms:
                norm.momentum = None  # torch's cumulative average
                norm.training = True
            try:
                batches = 0
                for batches, batch in enumerate(inputs, start=1):
                    if batches == 1:
                        for norm in norms:
                            norm.reset_running_stats()
                    call(self.model, batch)
                if batches == 0:
                    raise ModelError("the data to re-estimate batch norm on is empty; give at least one batch")
            finally:
                for norm, momentum in zip(norms, momenta, strict=True):
                    norm.momentum = momentum

    def fingerprint(self) -> str:
        """A hash of the space and of every weight, scale and zero point, hexadecimal."""
        digest = hashlib.sha256(self.space.fingerprint().encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Writes weights, scales and zero points as one safetensors file."""
        header = {"format": "eqnet-supernet", "version": "1", "space": self.space.fingerprint(), **(metadata or {})}
        write_atomically(path, save(without_aliases(self.state_dict()), header))

    def restore(self, path: str | Path) -> dict[str, str]:
        """Reads what ``save`` wrote for the same model and space, and returns its metadata.

        Raises:
            RunError: the file is corrupt or of another model or space.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError) as e:
            raise RunError(f"{path}: cannot be read as a supernet ({e}); remove it or start over") from e
        if metadata.get("format") != "eqnet-supernet" or metadata.get("space") != self.space.fingerprint():
            raise RunError(f"{path}: holds another model or elastic space; use another folder or start over")
        load_tied(self, tensors, path)
        return metadata


def _aliases(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of tensors that share memory with an earlier one (tied weights), and that one's name."""
    first: dict[tuple[object, ...], str] = {}
    aliases = {}
    for name, tensor in state.items():
        key = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        if tensor.numel() and key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
    return aliases


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that safetensors can hold: each tied weight once, under its first name."""
    aliases = _aliases(state)
    return {name: _apart(tensor.detach().contiguous()) for name, tensor in state.items() if name not in aliases}


def _apart(tensor: Tensor) -> Tensor:
    """``tensor`` in memory that it shares with no other: a view of part of another is copied."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def load_tied(supernet: Supernet, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Loads what ``without_aliases`` left; raises RunError, naming the file, if it does not fit."""
    state = supernet.state_dict()
    complete = dict(tensors) | {name: tensors[first] for name, first in _aliases(state).items() if first in tensors}
    expected, given = ({(name, tuple(t.shape)) for name, t in tensors.items()} for tensors in (state, complete))
    if expected != given:  # refused here, as load_state_dict first loads what does fit
        odd = sorted({name for name, _ in expected ^ given})
        raise RunError(f"{path}: does not fit the model (missing, unknown or of another shape: {', '.join(odd)})")
    supernet.load_state_dict(complete)

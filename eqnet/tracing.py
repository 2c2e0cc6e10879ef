"""What one forward pass shows of a model: which layers run, in what order, on what, and which batch norms fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from eqnet.errors import ModelError
from eqnet.layers import ELASTIC

ExampleInputs = Tensor | tuple[Any, ...] | Mapping[str, Any]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""The buffers of a batch norm."""

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def is_affine(module: nn.Module) -> bool:
    """Whether ``module`` is a batch norm that in evaluation scales and shifts each channel and does nothing else.

    One without running statistics depends on its batch; a subclass may do more, such as an activation.
    """
    return type(module) in _BATCH_NORMS and module.running_mean is not None and module.running_var is not None


@dataclass
class Calls:
    """What was seen of one layer.

    Attributes:
        order: how many layers ran before its first call.
        macs: multiply-accumulates over all calls and samples.
        inputs: input elements over all calls and samples.
    """

    order: int
    macs: int = 0
    inputs: int = 0


@dataclass
class Trace:
    """What was seen of a model.

    Attributes:
        calls: by module, for each layer of a kind that can be elastic and that ran.
        folded: batch norms that run on nothing but the output channels of one such layer, whose output goes nowhere
            else, and that layer.
        samples: samples in the example inputs.
    """

    calls: dict[nn.Module, Calls] = field(default_factory=dict)
    folded: dict[nn.Module, nn.Module] = field(default_factory=dict)
    samples: int = 1


def call(model: nn.Module, inputs: ExampleInputs) -> Any:
    """Calls ``model`` with a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def trace(model: nn.Module, inputs: ExampleInputs) -> Trace:
    """Runs ``model`` once, in evaluation mode and without gradients, and watches its layers.

    Raises:
        ModelError: the model does not run on the example inputs.
    """
    seen = Trace(samples=_samples(inputs))
    outputs: dict[int, tuple[nn.Module, Tensor]] = {}  # by identity, which holding the tensor keeps unique
    uses = _Uses()
    called: Counter[nn.Module] = Counter()
    sources: dict[nn.Module, list[int | None]] = {}  # for each call of a batch norm, which of the outputs it reads

    def watch_layer(layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> None:
        x = arguments[0] if arguments else next(iter(keywords.values()))
        calls = seen.calls.setdefault(layer, Calls(order=len(seen.calls)))
        calls.macs += ELASTIC[type(layer)].macs(layer, x, output)
        calls.inputs += x.numel()
        outputs[id(output)] = layer, output
        uses.of[id(output)] = 0  # an earlier tensor may have had the same identity
        called[layer] += 1

    def watch_batch_norm(norm: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> None:
        x = arguments[0] if arguments else keywords["input"]
        layer = outputs[id(x)][0] if id(x) in outputs else None
        folds = layer is not None and ELASTIC[type(layer)].channel_axis(layer, x) == 1  # that of a batch norm
        sources.setdefault(norm, []).append(id(x) if folds else None)

    hooks = [
        module.register_forward_hook(watch_layer, with_kwargs=True)
        for module in model.modules()
        if type(module) in ELASTIC
    ] + [
        module.register_forward_hook(watch_batch_norm, with_kwargs=True)
        for module in model.modules()
        if is_affine(module)
    ]
    try:
        with evaluating(model), torch.no_grad(), uses:
            result = call(model, inputs)
    except Exception as e:
        raise ModelError(f"the model does not run on the example inputs: {type(e).__name__}: {e}") from e
    finally:
        for hook in hooks:
            hook.remove()
    uses.of.update(map(id, tree_leaves(result)))
    for norm, read in sources.items():
        layers = {outputs[x][0] if x is not None and uses.of[x] == 1 else None for x in read}
        layer = layers.pop()
        if layer is not None and not layers and called[layer] == len(read):
            seen.folded[norm] = layer
    return seen


class _Uses(TorchFunctionMode):
    """Counts which operations read each tensor, in place or not; asking for its shape is no read.

    A dispatch mode would see the same, but loads torch's compiler, which takes seconds.

    Attributes:
        of: number of reads by identity of the tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[int] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(x is None or isinstance(x, Tensor) for x in tree_leaves(result)):  # None after y[0] = 1
            self.of.update(id(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor))
        return result


def _samples(inputs: ExampleInputs) -> int:
    values = [inputs] if isinstance(inputs, Tensor) else inputs.values() if isinstance(inputs, Mapping) else inputs
    batches = [value.shape[0] for value in values if isinstance(value, Tensor) and value.ndim]
    if not batches or batches[0] == 0:
        raise ModelError("the example inputs hold no tensor with at least one sample; give a batch of real inputs")
    return int(batches[0])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

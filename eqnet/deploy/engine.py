"""What a packed model is run by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.errors import InputError, ModelError
from eqnet.packed.model import PackedModel


@dataclass(frozen=True)
class Engine:
    """A packed model, ready to run.

    Attributes:
        run: from a batch of inputs to what the model returns.
        whole: whether one program on integers runs the network from its first layer to its last; else PyTorch calls
            its layers one by one.
        reason: why there is no such program; empty if there is.
    """

    run: Callable[[Tensor], Tensor]
    whole: bool
    reason: str = ""

    def __str__(self) -> str:
        return "one integer program" if self.whole else f"layer by layer ({self.reason})"


def engine_for(packed: PackedModel, example: Tensor) -> Engine:
    """The integer program of ``packed`` where it compiles, else its layers one by one.

    Args:
        packed: on the CPU.
        example: a batch of its inputs.
    """
    from eqnet.runtime import UnsupportedError, compile

    try:
        return Engine(compile(packed, example), True)
    except UnsupportedError as e:
        reason = str(e).removesuffix("; run the model layer by layer instead")
        return Engine(lambda x: _layer_by_layer(packed, x), False, reason)
    except _REFUSALS as e:
        raise _unfit(example, e) from e


_REFUSALS = (RuntimeError, IndexError, ValueError, TypeError)
"""What PyTorch raises on inputs that do not fit."""


def _layer_by_layer(packed: PackedModel, x: Tensor) -> Tensor:
    with torch.inference_mode():
        try:
            y = packed(x)
        except _REFUSALS as e:
            raise _unfit(x, e) from e
    if not isinstance(y, Tensor):
        raise ModelError(f"the model returns a {type(y).__name__}, not one tensor; call it in Python")
    return y


def _unfit(x: Tensor, error: Exception) -> InputError:
    dtype = str(x.dtype).removeprefix("torch.")
    return InputError(f"the model does not run on inputs of shape {[*x.shape]} and type {dtype}: {error}")

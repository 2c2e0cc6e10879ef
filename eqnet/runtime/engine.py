"""What a packed model is run by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.packed.model import PackedModel
from eqnet.runtime.outputs import first_output
from eqnet.runtime.program import compile
from eqnet.runtime.unsupported import UnsupportedError


@dataclass(frozen=True)
class Engine:
    """A packed model, ready to run.

    Attributes:
        run: from a batch of inputs to what the model returns.
        whole: whether one program on integers runs the network from its first layer to its last; else PyTorch calls
            its layers one by one.
        reason: why there is no such program; empty if there is.
    """

    run: Callable[..., Tensor]
    whole: bool
    reason: str = ""

    def __str__(self) -> str:
        return "one integer program" if self.whole else f"layer by layer ({self.reason})"


def engine_for(packed: PackedModel, *example: Tensor) -> Engine:
    """The integer program of ``packed`` where it compiles, else its layers one by one.

    Args:
        packed: on the CPU.
        example: a batch of its inputs.
    """
    try:
        return Engine(compile(packed, example), True)
    except UnsupportedError as e:
        reason = str(e).removesuffix("; run the model layer by layer instead")
        return Engine(lambda *xs: layer_by_layer(packed, *xs), False, reason)
    except _REFUSALS as e:
        raise _unfit(example, e) from e


_REFUSALS = (RuntimeError, IndexError, ValueError, TypeError)
"""What PyTorch raises on inputs that do not fit."""


def layer_by_layer(packed: PackedModel, *xs: Tensor) -> Tensor:
    """What the packed model returns.

    Raises:
        InputError: the inputs do not fit.
        ModelError: it returns no tensor.
    """
    with torch.inference_mode():
        try:
            y = packed(*xs)
        except _REFUSALS as e:
            raise _unfit(xs, e) from e
    return first_output(y)


def _unfit(xs: tuple[Tensor, ...], error: Exception) -> InputError:
    given = ", ".join(f"shape {[*x.shape]} and type {str(x.dtype).removeprefix('torch.')}" for x in xs)
    return InputError(f"the model does not run on inputs of {given}: {error}")

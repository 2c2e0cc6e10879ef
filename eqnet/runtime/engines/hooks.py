"""Results of the layers of a PyTorch model, and other ones in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn


def results(
    places: Mapping[str, nn.Module], run: Callable[[], object], given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What each module returns while ``run`` runs their model, in the order in which they do.

    A module that is called several times has one result for each: ``name``, ``name#2``, ...

    Args:
        places: modules by the names of their results.
        run: calls the model.
        given: what the caller of a module receives in place of its result, by the name of the result.
    """
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def keep(_module: nn.Module, _inputs: Any, result: Any) -> Tensor | None:
            calls[name] += 1
            key = name if calls[name] == 1 else f"{name}#{calls[name]}"
            found[key] = result.detach().clone()  # what comes next may change it in place
            return given[key].to(result.dtype).clone() if key in given else None

        return keep

    with ExitStack() as stack:
        for name, module in places.items():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        run()
    return found

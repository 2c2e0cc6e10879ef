"""How much each layer of a language model minds errors in its weight, from one backward pass.

To second order, the divergence KL(float ‖ quantized) of the next token is half the Fisher information's quadratic form
of the error. K-FAC (Martens and Grosse, ICML 2015, arXiv 1503.05671) takes the information of a layer apart into what
goes in and what comes back: with ``H = mean x xᵀ`` over its inputs and ``F_o = mean g_o²`` over the gradients at its
outputs, of the log-likelihood of tokens that are drawn from the model's own distribution,

    divergence ≈ ½ Σ_o F_o · ΔW_o H ΔW_oᵀ.

An embedding is a layer whose input is one-hot: there F is how often each token is looked up, and H the diagonal matrix
of the mean squared gradients at what is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eqnet import _kernels
from eqnet.errors import ModelError
from eqnet.lm.methods.codes import Codes
from eqnet.lm.moments import Moments
from eqnet.lm.structure import structure_of, tied_sets
from eqnet.ops.panels import address

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Second moments of each layer, by its path.

    Attributes:
        inputs: H, float32 [cols, cols]; layers with the same input share one tensor.
        outputs: F, float32 [rows], not negative.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def divergence(self, path: str, error: Tensor, rows: Tensor | None = None) -> float:
        """The divergence that an error in a weight is expected to cause, in nats a token.

        Args:
            path: of the layer.
            error: of its weight, float32 [rows, cols].
            rows: the weight's rows that ``error`` has, if it has not all, as ``drawn`` gives them.
        """
        return self.weighted(path, _quadratic_forms(error, self.inputs[path]), rows)

    def weighted(self, path: str, forms: Tensor, rows: Tensor | None = None) -> float:
        """``divergence`` of an error e, given ``e H eᵀ`` of each row, float64 [rows]."""
        weights = self.outputs[path].double()
        if rows is None:
            return 0.5 * float(weights @ forms)
        return 0.5 * float(weights.sum()) * float(forms.mean())

    def of_codes(self, path: str, codes: Codes, fitted: str, rows: Tensor | None = None) -> float:
        """``divergence`` of the error of codes, which were fitted to the H of ``fitted``."""
        if path == fitted and codes.forms is not None:
            return self.weighted(path, codes.forms, rows)
        return self.divergence(path, codes.error, rows)

    def drawn(self, path: str, count: int, seed: int) -> Tensor:
        """Rows of a layer, int64 [count], each as often as its F has it: the mean over them is that of all."""
        weights = self.outputs[path].double() + 1e-30
        generator = torch.Generator().manual_seed(seed)
        return torch.multinomial(weights, count, replacement=True, generator=generator)


def _quadratic_forms(x: Tensor, matrix: Tensor) -> Tensor:
    """``x M xᵀ`` of each row, with a symmetric matrix M, float64 [rows]."""
    x, matrix = x.contiguous(), matrix.contiguous()
    rows, cols = x.shape
    forms = torch.empty(rows, dtype=torch.float64)
    _kernels.quadratic_forms(address(x), rows, cols, address(matrix), address(forms), torch.get_num_threads())
    return forms


def sensitivity_of(
    model: Any, ids: Tensor, *, backward: int | None = None, seed: int = 0, report: Report | None = None
) -> Sensitivity:
    """Runs a model once over windows of text, forward and, over some of them, backward.

    Args:
        model: of transformers, with weights, in eval mode; it is left as it was.
        ids: int64 [N, T].
        backward: windows that go backward, spread evenly over all; every one if None. H has a number for each pair of
            inputs and F one for each output: it takes much more text to know the former.
        seed: of the tokens that are drawn.
        report: told (stage, done, total).

    Raises:
        ModelError: a gradient or an input is not finite.
    """
    structure = structure_of(model)
    paths = [path for tied in tied_sets(model) for path in tied]
    watch = _Watch(model, structure.embedding, structure.head, paths)
    generator = torch.Generator().manual_seed(seed)
    goes_back = {int(i) for i in torch.linspace(0, len(ids) - 1, min(backward or len(ids), len(ids))).round()}
    with _frozen(model), watch.hooked():
        for index, window in enumerate(ids):
            if report is not None:
                report("Measuring sensitivity", index, len(ids))
            with torch.set_grad_enabled(index in goes_back):
                logits = model(input_ids=window[None], use_cache=False).logits[0]
            if index in goes_back:
                watch.backward(logits, generator)
            watch.forget()
    if report is not None:
        report("Measuring sensitivity", len(ids), len(ids))
    return watch.result(len(goes_back) * ids.shape[1])


class _Watch:
    """Sums up what goes into the layers and what comes back."""

    def __init__(self, model: nn.Module, embedding: str, head: str, paths: list[str]) -> None:
        self._model, self._embedding, self._head, self._paths = model, embedding, head, paths
        self._inputs = Moments()
        self._gradients: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}

    @contextmanager
    def hooked(self) -> Iterator[None]:
        hooks = [
            self._model.get_submodule(path).register_forward_hook(
                self._looked_up if path == self._embedding else self._multiplied(path)
            )
            for path in self._paths
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def backward(self, logits: Tensor, generator: torch.Generator) -> None:
        """Draws the next token everywhere, and goes back; logits [T, vocabulary]."""
        likely = logits.float().log_softmax(1)
        chances = likely.detach().exp()
        # The mean square at the logits is known exactly, and needs no draws.
        self._add(self._outputs, self._head, (chances * (1 - chances)).sum(0))
        self._add(self._outputs, self._embedding, chances.sum(0))
        drawn = torch.multinomial(chances, 1, generator=generator)
        likely.gather(1, drawn).sum().backward()  # type: ignore[no-untyped-call]

    def forget(self) -> None:
        """Lets go of the window that was seen last."""
        self._inputs.forget()

    def result(self, count: int) -> Sensitivity:
        """Means over all tokens, and of gradients over the ``count`` tokens that went backward."""
        means = self._inputs.means()
        means[self._embedding] = torch.diag(self._gradients[self._embedding] / count)
        inputs = {path: means[path] for path in self._paths}
        outputs = {path: self._outputs[path] / count for path in self._paths}
        for path in self._paths:
            if not (torch.isfinite(inputs[path]).all() and torch.isfinite(outputs[path]).all()):
                raise ModelError(f"layer '{path}': its inputs or gradients hold inf or NaN; check the model's weights")
        return Sensitivity(inputs, outputs)

    def _looked_up(self, _module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        leaf = output.detach().requires_grad_()
        leaf.register_hook(lambda g: self._add(self._gradients, self._embedding, g.flatten(0, -2).square().sum(0)))  # type: ignore[no-untyped-call]
        return leaf

    def _multiplied(self, path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            self._inputs.add(path, arguments[0])
            if path != self._head and output.requires_grad:
                output.register_hook(lambda g: self._add(self._outputs, path, g.flatten(0, -2).square().sum(0)))  # type: ignore[no-untyped-call]

        return hook

    @staticmethod
    def _add(sums: dict[str, Tensor], path: str, value: Tensor) -> None:
        sums[path] = sums[path] + value if path in sums else value


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No gradients of weights, which nobody asks for."""
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in asked:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)

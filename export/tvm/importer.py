"""Any packed model as a module of TVM: its packed layers as functions that read packed weights, the rest by TVM.

TVM's importer takes the graph that ``torch.export`` makes, decomposed into core operators; ``layers/operators.py`` has
what it does not take as it should.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import tvm
from torch.export import ExportedProgram
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program
from tvm.s_tir.dlight.base import ApplyDefaultSchedule

from eqnet.errors import InputError, ModelError
from eqnet.export.tracing import layers_as_nodes
from eqnet.export.tvm.kernels.calls import linear_call
from eqnet.export.tvm.layers.emission import Emitter, Style, linear_by, tir_product
from eqnet.export.tvm.layers.loops import Loops
from eqnet.export.tvm.layers.operators import TRANSLATIONS, decompositions
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "tir": Style(linear_by(tir_product), tir_product),
        "eqnet": Style(lambda emitter, layer, x: linear_call(emitter.builder, x, layer), tir_product),
    }
)
"""By the name of the kernels, how layers are computed."""


def imported_module(packed: PackedModel, example_inputs: ExampleInputs, kernels: str = "tir") -> Any:
    """A packed model as an IRModule.

    Its function ``main`` takes the model's tensors by position, of any number of samples, and of any length if they
    are sequences of integers. Weights are constants of b bits a code: compile it without folding constants.

    Args:
        packed: on the CPU; it is left as it was.
        example_inputs: one batch of its inputs: a tensor, a tuple of positional or a mapping of keyword arguments.
        kernels: what computes packed linear layers: ``tir``, functions of the module, or ``eqnet``, calls of eqnet's
            own kernels.

    Raises:
        ModelError: the model cannot be exported, or has an operator that TVM does not import; the message names it.
        InputError: there are no such kernels.
    """
    if kernels not in STYLES:
        raise InputError(f"kernels '{kernels}' are unknown; choose {' or '.join(STYLES)}")
    with layers_as_nodes(packed, example_inputs) as program:
        return module_of(program, packed, STYLES[kernels])


def compile_imported(module: Any, target: Any) -> Any:
    """Compiles what ``imported_module`` gave for a CPU, leaving its constants as they are.

    Args:
        module: the IRModule.
        target: a TVM target of the kind llvm.

    Returns:
        A TVM executable.
    """
    return compiled(scheduled(module, target, ApplyDefaultSchedule(Loops())), target)


def scheduled(module: Any, target: Any, loops: Any) -> Any:
    """Fuses operators to functions, and gives these their loops.

    Args:
        module: what ``module_of`` gave.
        target: a TVM target.
        loops: the pass that does the latter.
    """
    passes = relax.transform
    steps = [
        relax.backend.DispatchSampling(),
        relax.backend.DispatchSortScan(),
        passes.LegalizeOps(),
        passes.AnnotateTIROpPattern(),
        passes.FuseOps(),
        passes.FuseTIR(),
        passes.DeadCodeElimination(),
        loops,
    ]
    with target:
        return tvm.transform.Sequential(steps)(module)


def compiled(module: Any, target: Any) -> Any:
    """The executable of what ``scheduled`` gave."""
    passes = relax.transform
    steps = [
        passes.RewriteDataflowReshape(),
        passes.ToNonDataflow(),
        passes.RemovePurityChecking(),
        passes.CallTIRRewrite(),
        passes.StaticPlanBlockMemory(),
        passes.LowerAllocTensor(),
        passes.KillAfterLastUse(),
        passes.LowerRuntimeBuiltin(),
        passes.ComputePrimValue(),
        passes.VMShapeLower(),
        passes.AttachGlobalSymbol(),
    ]
    with target:
        return relax.build(module, target=target, relax_pipeline=tvm.transform.Sequential(steps))


def module_of(program: ExportedProgram, packed: PackedModel, style: Style) -> Any:
    """The graph of ``packed`` as an IRModule.

    Args:
        program: what ``layers_as_nodes`` yielded, within its context.
        packed: whose layers its nodes stand for.
        style: how they are computed.

    Raises:
        ModelError: it has an operator that TVM does not import; the message names it.
    """
    writers: dict[int, Emitter] = {}

    def writer(importer: Any) -> Emitter:
        return writers.setdefault(id(importer), Emitter(importer.block_builder, style))

    def layer(node: torch.fx.Node, importer: Any) -> Any:
        x, name = node.args
        return writer(importer).layer(packed.layers[str(name)], importer.env[x])

    def weight(node: torch.fx.Node, importer: Any) -> Any:
        return writer(importer).weight(packed.layers[str(node.args[1])])

    translations = {"layer.default": layer, "layer_weight.default": weight, **TRANSLATIONS}
    try:
        return from_exported_program(
            program.run_decompositions(decompositions()),
            custom_convert_map=translations,
            run_ep_decomposition=False,
            unwrap_unit_return_tuple=True,
        )
    except ModelError:
        raise
    except Exception as e:  # TVM's importer raises AssertionError, TypeError and others
        name = type(packed.model).__name__
        raise ModelError(
            f"{name}: TVM cannot import it ({type(e).__name__}: {str(e).strip()}); replace that operator, or export to "
            "ONNX"
        ) from e

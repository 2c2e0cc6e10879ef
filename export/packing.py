"""From a run and one of its subnets to the packed model that its figures are of."""

from __future__ import annotations

from collections.abc import Mapping

from eqnet.data import BATCH_NORM_SAMPLES, calibration_inputs
from eqnet.deploy.origin import Origin
from eqnet.formats import LayerFormat
from eqnet.packed.model import PackedModel
from eqnet.packed.packing import pack
from eqnet.run import Run


def pack_run(
    run: Run,
    subnet: Mapping[str, LayerFormat],
    accuracy: Mapping[str, float] | None = None,
    budgets: tuple[str, ...] = (),
) -> PackedModel:
    """Packs ``subnet`` with batch norm re-estimated on the samples that a search's final figures are taken with.

    Args:
        run: calibrated, and trained if it is to be.
        subnet: one of its supernet's.
        accuracy: what was measured of this subnet, by part of the data; kept with the model.
        budgets: what it was searched for; kept with the model.

    Raises:
        InputError: the subnet is not one of this supernet.
        ModelError: a layer holds inf or NaN.
    """
    device = next(run.supernet.parameters()).device
    inputs = calibration_inputs(run.task, device, BATCH_NORM_SAMPLES)
    origin = Origin.of(run.task, run.plan.task, run.plan.seed, accuracy, budgets)
    return pack(run.supernet, subnet, inputs, metadata=origin.to_json())

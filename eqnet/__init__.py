"""Elastic quantization: every quantized model its users need, out of one trained PyTorch model.

Names are imported when they are first used, so that ``import eqnet`` costs nothing. It makes transformers load eqnet's
artifacts (see ``eqnet.lm.hook``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eqnet.lm.hook import register_with_transformers

if TYPE_CHECKING:
    from eqnet.choices import Choices as Choices
    from eqnet.conversion import elasticize as elasticize
    from eqnet.errors import BudgetError as BudgetError
    from eqnet.errors import EqnetError as EqnetError
    from eqnet.errors import InputError as InputError
    from eqnet.errors import ModelError as ModelError
    from eqnet.errors import RunError as RunError
    from eqnet.formats import Format as Format
    from eqnet.formats import Granularity as Granularity
    from eqnet.formats import LayerFormat as LayerFormat
    from eqnet.packed.loading import load as load
    from eqnet.packed.model import PackedModel as PackedModel
    from eqnet.packed.packing import pack as pack
    from eqnet.run import Plan as Plan
    from eqnet.run import Run as Run
    from eqnet.space import ElasticSpace as ElasticSpace
    from eqnet.subnet import Subnet as Subnet
    from eqnet.supernet import Supernet as Supernet
    from eqnet.target import Target as Target
    from eqnet.tasks import Task as Task
    from eqnet.tasks import load_task as load_task
    from eqnet.training import Options as Options
    from eqnet.training import train as train

_HOME = {
    # formats and spaces
    "Choices": "eqnet.choices",
    "ElasticSpace": "eqnet.space",
    "Format": "eqnet.formats",
    "Granularity": "eqnet.formats",
    "LayerFormat": "eqnet.formats",
    "Subnet": "eqnet.subnet",
    "Target": "eqnet.target",
    # models
    "PackedModel": "eqnet.packed.model",
    "Supernet": "eqnet.supernet",
    "elasticize": "eqnet.conversion",
    "load": "eqnet.packed.loading",
    "pack": "eqnet.packed.packing",
    # training
    "Options": "eqnet.training",
    "Plan": "eqnet.run",
    "Run": "eqnet.run",
    "Task": "eqnet.tasks",
    "load_task": "eqnet.tasks",
    "train": "eqnet.training",
    # errors
    "BudgetError": "eqnet.errors",
    "EqnetError": "eqnet.errors",
    "InputError": "eqnet.errors",
    "ModelError": "eqnet.errors",
    "RunError": "eqnet.errors",
}

__all__ = [
    "BudgetError",
    "Choices",
    "ElasticSpace",
    "EqnetError",
    "Format",
    "Granularity",
    "InputError",
    "LayerFormat",
    "ModelError",
    "Options",
    "PackedModel",
    "Plan",
    "Run",
    "RunError",
    "Subnet",
    "Supernet",
    "Target",
    "Task",
    "elasticize",
    "load",
    "load_task",
    "pack",
    "train",
]

register_with_transformers()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'eqnet' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""The one library that eqnet's operators belong to, as ``torch.ops.eqnet``."""

from __future__ import annotations

from typing import Any

import torch

from eqnet import _kernels
from eqnet.errors import InputError

LIBRARY: Any = torch.library.Library("eqnet", "DEF")  # type: ignore[no-untyped-call]

try:
    _kernels.isa()
except ValueError as e:  # of the environment variable, and so of the user
    raise InputError(f"{e}; unset it for the best that there is") from e

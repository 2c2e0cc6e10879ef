"""The one library that eqnet's operators belong to, as ``torch.ops.eqnet``."""

from __future__ import annotations

from typing import Any

import torch

from eqnet.native import check_instructions

LIBRARY: Any = torch.library.Library("eqnet", "DEF")  # type: ignore[no-untyped-call]

check_instructions()

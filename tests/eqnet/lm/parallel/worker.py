"""What each of the processes of the tests does, with the variables that torchrun sets: what it finds is JSON.

python -m tests.eqnet.lm.parallel.worker FOLDER OUT MODEL...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from eqnet.lm.generation import generate
from eqnet.lm.parallel import plan
from eqnet.lm.parallel.group import Group, joined
from eqnet.lm.parallel.opening import open_part
from eqnet.lm.parallel.styles import PartLinear
from eqnet.packed.model import PackedModel
from tests.eqnet.lm.models import random_ids

TOKENS = 16


def answers(folder: Path, group: Group) -> dict[str, Any]:
    """Logits, tokens and bytes of one model."""
    opened = open_part(folder, group)
    assert isinstance(opened.model, PackedModel)
    ids = random_ids(12)
    logits = opened.engine.session(12).feed_all(ids)
    return {
        "logits": logits.tolist(),
        "tokens": list(generate(opened.engine, ids, most=TOKENS)),
        "bytes": [layer.part_bytes for layer in opened.model.layers.values() if isinstance(layer, PartLinear)],
        "said": str(opened.engine),
    }


def main(folder: str, out: str, *names: str) -> None:
    torch.set_num_threads(1)
    plan.LEAST = 1
    with joined() as group:
        found = {name: answers(Path(folder) / name, group) for name in names}
        found["said"] = {"text": group.shared("é\n" if group.rank == 0 else None), "none": group.shared(None)}
        Path(out).with_suffix(f".{group.rank}").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

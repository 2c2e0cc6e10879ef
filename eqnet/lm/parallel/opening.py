"""A packed language model, of which each process holds its part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor.parallel import parallelize_module

from eqnet.errors import InputError
from eqnet.lm.deployed import Deployed, is_packed, language_model, stop_tokens, tokenizer_of
from eqnet.lm.engine import TransformersEngine
from eqnet.lm.parallel.group import Group
from eqnet.lm.parallel.plan import narrow, plan_of
from eqnet.packed.artifact import Artifact
from eqnet.packed.loading import load_from
from eqnet.packed.model import PackedModel


class ParallelEngine(TransformersEngine):
    """Transformers' forward pass on a part of the weights; the others have theirs, and all get the same logits."""

    def __init__(self, packed: PackedModel, group: Group, *, context: int | None = None) -> None:
        super().__init__(packed, context=context)
        self._group = group

    def __str__(self) -> str:
        return f"{super().__str__()}, split among {self._group.size} processes ({self._group.device.type})"


def open_part(
    path: Path, group: Group, *, compute: str = "float", threads: int | None = None, context: int | None = None
) -> Deployed:
    """Opens this process's part of a packed language model; every process of the group has to.

    Of the files each process checks the checksums of an equal share, and beyond that reads the bytes of its part
    alone.

    Args:
        path: what ``eqnet export`` wrote.
        group: the processes that share the model.
        compute: see ``PackedModel.compute``.
        threads: of this process; PyTorch's number if None.
        context: most tokens of a text; what the model's configuration says if None.

    Raises:
        InputError: the folder is not packed, its model is no language model, or the processes cannot share it.
        RunError: a file is missing or damaged.
    """
    if not is_packed(path):
        raise InputError(f"{path}: is not packed; processes share packed models alone, run this one without torchrun")
    if threads is not None:
        torch.set_num_threads(threads)
    artifact = Artifact.open(path)
    for index, name in enumerate(artifact.names):
        if index % group.size != group.rank:
            artifact.trust(name)
    packed = language_model(load_from(artifact, compute=compute), path)
    group.wait()  # all shares are checked
    engine = ParallelEngine(split(packed, group), group, context=context)
    return Deployed(path, engine, tokenizer_of(path), stop_tokens(path), packed)


def split(packed: PackedModel, group: Group) -> PackedModel:
    """Makes ``packed`` itself this process's part of it.

    Raises:
        ModelError: a layer is of a kind that cannot be split.
        InputError: so many processes cannot share the model.
    """
    model: Any = packed.model
    plan = plan_of(packed, group.size)
    narrow(model, group.size)
    parallelize_module(model, group.mesh, plan)
    packed.to(group.device)
    return packed

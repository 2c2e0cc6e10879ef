"""The processes that share one model, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from eqnet.errors import InputError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Group:
    """The processes of one model.

    Attributes:
        rank: number of this one, from 0.
        size: of the group.
        device: of this process.
        mesh: of all devices, one-dimensional.
    """

    rank: int
    size: int
    device: torch.device
    mesh: Any

    def shared(self, text: str | None) -> str | None:
        """What the first process gives, in every process; all have to call it."""
        data = (text or "").encode("utf-8")
        length = torch.tensor([-1 if text is None else len(data)], device=self.device)
        distributed.broadcast(length, 0)
        count = int(length)
        if count <= 0:
            return None if count < 0 else ""
        sent = torch.frombuffer(bytearray(data), dtype=torch.uint8) if not self.rank else torch.empty(count).byte()
        sent = sent.to(self.device)
        distributed.broadcast(sent, 0)
        return bytes(sent.cpu().numpy()).decode("utf-8")

    def wait(self) -> None:
        """Returns once every process is here."""
        distributed.barrier()


@contextmanager
def joined() -> Iterator[Group]:
    """Joins the processes that torchrun started: over gloo, or nccl if there is a GPU for each.

    Raises:
        InputError: torchrun's variables are not those of processes that can be joined.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE is set, but {', '.join(missing)} not; start several processes with "
            "torchrun --nproc-per-node N -m eqnet generate ..."
        )
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(
        os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
    )
    device = torch.device("cuda", local) if on_gpus else torch.device("cpu")
    if on_gpus:
        torch.cuda.set_device(device)
    elif os.environ["MASTER_ADDR"] in _LOOPBACK and Path("/sys/class/net/lo").exists():
        # Else gloo takes the interface that the name of the machine leads to, which others may reach.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        size = distributed.get_world_size()
        mesh = distributed.device_mesh.init_device_mesh(device.type, (size,))
        yield Group(distributed.get_rank(), size, device, mesh)
    finally:
        distributed.destroy_process_group()

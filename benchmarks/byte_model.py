"""A small causal language model of bytes, trained in floating point on the Bible and the State of the Union.

It is the second model of the benchmarks: its weights are its own, not values that were quantized once before, and all
of its layers have a multiple of 256 columns, as llama.cpp's K-quants need. It is saved the way Hugging Face does it.

    python benchmarks/byte_model.py --cache runs/byte-model --texts runs/texts
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import texts
import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CONTEXT = 512

HELD_OUT = 20
"""One part in so many of each text is kept from training: its last."""

SAVE_EVERY = 100
"""Steps between two states on disk, from which an interrupted training goes on."""


@dataclass(frozen=True)
class Recipe:
    """How the model is trained.

    Attributes:
        steps: of AdamW (Loshchilov and Hutter, 2019).
        windows: of CONTEXT bytes in a step.
        bible: part of the windows that come from the Bible; the others come from the Addresses.
        rate: learning rate after `warmup` steps, kept until `decay` of all steps are left, then falling to 0.
        warmup: steps in which the rate rises.
        decay: part of the steps, at the end.
        seed: of the weights and of the order of windows.
    """

    steps: int = 1400
    windows: int = 4
    bible: float = 0.75
    rate: float = 3e-3
    warmup: int = 40
    decay: float = 0.4
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        left = (self.steps - step) / (self.decay * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warmup, left)


@dataclass(frozen=True, eq=False)
class Texts:
    """What the model reads, as bytes.

    Attributes:
        bible: int64 [N], for training.
        addresses: int64 [M], for training and calibration.
        held_out: of the Bible and of the Addresses, which training left out.
        unseen: Moby Dick, of which training saw nothing.
    """

    bible: Tensor
    addresses: Tensor
    held_out: Tensor
    unseen: Tensor


def read(folder: Path) -> Texts:
    """The texts, from the packages that `texts` names."""
    (bible, rest), (addresses, last) = (split(t) for t in (texts.bible(), b"\n\n".join(texts.addresses(folder))))
    return Texts(ids(bible), ids(addresses), ids(rest + last), ids(texts.moby_dick(folder)))


def ids(text: bytes) -> Tensor:
    """Bytes as token ids, int64."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def split(text: bytes) -> tuple[bytes, bytes]:
    """What is for training, and what is held out."""
    cut = len(text) - len(text) // HELD_OUT
    return text[:cut], text[cut:]


def new_model() -> LlamaForCausalLM:
    """4 blocks of 256 channels, 4 heads and 2 of keys and values, with a head of its own: 3.3 million weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def byte_model(cache: Path, folder: Path = texts.FOLDER, recipe: Recipe | None = None, every: int = 0) -> Path:
    """The folder of the model; it is trained the first time.

    Args:
        cache: a folder for all models of this kind.
        folder: of the archives of texts.
        recipe: how to train it.
        every: print the loss of every so many steps; 0 prints nothing.
    """
    recipe = recipe or Recipe()
    into = cache / f"byte-llama-{recipe.steps}-{recipe.seed}"
    if (into / "model.safetensors").exists():
        return into
    into.mkdir(parents=True, exist_ok=True)
    model = _trained(recipe, read(folder), into / "training.pt", every)
    model.save_pretrained(into)
    (into / "training.pt").unlink(missing_ok=True)
    return into


def _trained(recipe: Recipe, read: Texts, state: Path, every: int) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    model, order = new_model(), torch.Generator().manual_seed(recipe.seed)
    groups = [[p for p in model.parameters() if (p.ndim == 2) is matrix] for matrix in (True, False)]
    optimizer = torch.optim.AdamW(
        [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (0.05, 0.0), strict=True)],
        betas=(0.9, 0.95),
        fused=True,
    )
    first = _resume(state, model, optimizer, order)
    start = time.perf_counter()
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        loss = _loss(model, _batch(recipe, read, order))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if every and (step + 1) % every == 0:
            taken = time.perf_counter() - start
            print(f"step {step + 1}: {loss.item() / math.log(2):.3f} bits a byte, {taken:.0f} s", flush=True)
        if (step + 1) % SAVE_EVERY == 0:
            _save(state, model, optimizer, order, step + 1)
    return model.eval()


def _batch(recipe: Recipe, read: Texts, order: torch.Generator) -> Tensor:
    """Windows at random places, [windows, CONTEXT + 1]."""
    chosen = torch.rand(recipe.windows, generator=order) < recipe.bible
    rows = []
    for of_bible in chosen.tolist():
        text = read.bible if of_bible else read.addresses
        at = int(torch.randint(len(text) - CONTEXT, (), generator=order))
        rows.append(text[at : at + CONTEXT + 1])
    return torch.stack(rows)


def _loss(model: LlamaForCausalLM, batch: Tensor) -> Tensor:
    """Mean cross-entropy in nats; bfloat16 products take half the time of float32 ones."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def _save(
    state: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, order: torch.Generator, step: int
) -> None:
    fresh = state.with_suffix(".new")
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "order": order.get_state()}
    torch.save({**parts, "step": step}, fresh)
    fresh.replace(state)


def _resume(state: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, order: torch.Generator) -> int:
    """Steps that an interrupted training has taken."""
    if not state.exists():
        return 0
    saved = torch.load(state, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    order.set_state(saved["order"])
    return int(saved["step"])


def bits(model: LlamaForCausalLM, text: Tensor, windows: int = 64) -> float:
    """Bits a byte over windows of CONTEXT bytes, evenly spread over a text."""
    starts = torch.linspace(0, len(text) - CONTEXT - 1, windows).long().tolist()
    with torch.no_grad():
        losses = [_loss(model, text[None, at : at + CONTEXT + 1]).item() for at in starts]
    return sum(losses) / len(losses) / math.log(2)


def main() -> None:
    """Trains the model unless it is there, and prints what it reaches."""
    from transformers import LlamaForCausalLM

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cache", type=Path, default=Path("runs/byte-model"), help="folder of trained models")
    options.add_argument("--texts", type=Path, default=texts.FOLDER, help="folder of the archives of texts")
    options.add_argument("--steps", type=int, default=Recipe.steps)
    options.add_argument("--threads", type=int, default=1)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = byte_model(arguments.cache, arguments.texts, Recipe(steps=arguments.steps), every=20)
    model, read_texts = LlamaForCausalLM.from_pretrained(folder), read(arguments.texts)
    print(folder)
    for name in ("held_out", "unseen"):
        print(f"{name}: {bits(model, getattr(read_texts, name)):.3f} bits a byte")


if __name__ == "__main__":
    main()

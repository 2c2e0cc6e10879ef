"""A Llama of a billion random weights, for what depends on shapes alone: times and memory."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import save_file

NAME = "random-llama-1b"


def random_llama(cache: Path) -> Path:
    """Its folder, with one file of bfloat16 weights a block, so that writing it takes the memory of one.

    16 blocks of 2048 channels, 32 heads and 8 of keys and values, 32,000 tokens, embedding and head tied.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = cache / NAME
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in LlamaForCausalLM(config).named_parameters()}
    _write(folder, shapes)
    config.save_pretrained(folder)  # last: it says that all the others are there
    return folder


def _write(folder: Path, shapes: dict[str, torch.Size]) -> None:
    """Matrices of small normal weights and vectors of ones, and the index of the files."""
    generator = torch.Generator().manual_seed(0)
    blocks: defaultdict[str, list[str]] = defaultdict(list)
    for name in shapes:
        parts = name.split(".")
        blocks[parts[2] if parts[1] == "layers" else "rest"].append(name)
    files, total = {}, 0
    for number, names in enumerate(blocks.values()):
        file = f"model-{number + 1:05}-of-{len(blocks):05}.safetensors"
        tensors = {name: _weight(shapes[name], generator) for name in names}
        save_file(tensors, folder / file, {"format": "pt"})
        files |= dict.fromkeys(names, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")


def _weight(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.randn(shape, generator=generator).mul_(0.02).bfloat16()

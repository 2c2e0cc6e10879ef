"""Language models with keys and values in ONNX Runtime: in one go, and token by token, the answers of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from eqnet.errors import ModelError, RunError
from eqnet.export.destinations import Export, destination
from eqnet.export.onnx import OnnxOptions
from eqnet.export.onnx.causal import is_causal, write_causal
from eqnet.packed.model import PackedModel
from tests.export.language_models import TOKENS, packed, random_model

FLOAT = 5e-6
"""Largest error over the largest logit: float32 sums in another order, through two blocks."""

PADDING = 0.02
"""Of stored weights: rows are filled up to whole bytes of every plane. What layers share is in the file once."""

MIXED = {"down_proj": "int3:group32", "up_proj": "uint4:group16", "q_proj": "int6:channel", "": "int4:group32"}
ONE = {"num_hidden_layers": 1}
GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 8}

MODELS: Mapping[str, tuple[str, Mapping[str, Any], OnnxOptions]] = {
    "llama, tied, opset 23": ("Llama", {"tie_word_embeddings": True}, OnnxOptions(opset=23)),
    "qwen2, portable": ("Qwen2", ONE, OnnxOptions(portable=True)),
    "gemma2": ("Gemma2", GEMMA, OnnxOptions()),
    "glm4": ("Glm4", ONE, OnnxOptions()),
    "gpt2": ("GPT2", {"num_key_value_heads": 4, "intermediate_size": 256, **ONE}, OnnxOptions()),
}


class Running:
    """A file in ONNX Runtime, with the keys and values of what it was fed."""

    def __init__(self, path: Path, batch: int) -> None:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")  # else portable files round
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        kept = [value for value in self.session.get_inputs() if value.name.startswith("past_key_values.")]
        self.past = {v.name: np.zeros((batch, v.shape[1], 0, v.shape[3]), np.float32) for v in kept}
        self.mask = np.zeros((batch, 0), np.int64)

    def feed(self, ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Logits of ``ids`` [batch, length]; ``mask`` is 0 where they are padding."""
        self.mask = np.concatenate([self.mask, np.ones_like(ids) if mask is None else mask], axis=1)
        places = np.maximum(self.mask.cumsum(1) - 1, 0)[:, -ids.shape[1] :]
        given = {"input_ids": ids, "attention_mask": self.mask, "position_ids": places, **self.past}
        logits, *kept = self.session.run(None, given)
        self.past = dict(zip(self.past, kept, strict=True))
        return logits


def made(name: str) -> tuple[PackedModel, OnnxOptions]:
    kind, given, options = MODELS[name]
    return packed(random_model(kind, **given), MIXED, None if kind == "Gemma2" else "int8:group32"), options


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(3, TOKENS, shape, generator=torch.Generator().manual_seed(1))


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= FLOAT * abs(expected).max()


@pytest.mark.parametrize("name", MODELS)
def test_prefill_and_tokens_one_by_one_give_the_logits_of_transformers(name: str, tmp_path: Path) -> None:
    model, options = made(name)
    report = write_causal(model, tmp_path / "model.onnx", options=options)
    assert set(report.layers) == set(model.layers)
    ids = tokens(2, 20)
    expected = model(ids).logits.numpy()
    for cut in ([20], [7, 1, 1, 5, 1, 3, 1, 1]):
        running, done = Running(tmp_path / "model.onnx", 2), 0
        for length in cut:
            assert_close(running.feed(ids[:, done : done + length].numpy()), expected[:, done : done + length])
            done += length
    if not options.portable:
        assert report.stored_bytes <= (1 + PADDING) * report.packed_bytes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackedModel, Path]:
    model = packed(random_model("Llama", seed=2, spread=4.0), "int4:group32", "int8:group32")
    path = tmp_path_factory.mktemp("causal") / "model.onnx"
    destination("onnx").write(Export(model, path, torch.zeros(1, 4, dtype=torch.int64)))
    return model, path


def test_inputs_and_outputs_have_the_names_of_runtimes_for_language_models(small: tuple[PackedModel, Path]) -> None:
    session = Running(small[1], 1).session
    kept = [f"{i}.{part}" for i in range(2) for part in ("key", "value")]
    assert {value.name: value.shape for value in session.get_inputs()} == {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "total_sequence_length"],
        "position_ids": ["batch_size", "sequence_length"],
        **{f"past_key_values.{name}": ["batch_size", 2, "past_sequence_length", 16] for name in kept},
    }
    assert {value.name: value.shape for value in session.get_outputs()} == {
        "logits": ["batch_size", "sequence_length", TOKENS],
        **{f"present.{name}": ["batch_size", 2, "total_sequence_length", 16] for name in kept},
    }


def test_greedy_text_is_that_of_transformers(small: tuple[PackedModel, Path]) -> None:
    model, path = small
    ids, said = [5, 17, 42, 99], []
    running = Running(path, 1)
    logits = running.feed(np.array([ids]))
    for _ in range(16):
        said.append(int(logits[0, -1].argmax()))
        logits = running.feed(np.array([said[-1:]]))
    full: Any = model.model
    found = full.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=None)
    assert said == found[0, len(ids) :].tolist()
    assert len(set(said)) > 4


def test_padding_on_the_left_changes_nothing(small: tuple[PackedModel, Path]) -> None:
    model, path = small
    ids, mask = tokens(2, 9).numpy(), np.ones((2, 9), np.int64)
    mask[0, :4] = 0
    running = Running(path, 2)
    logits = running.feed(ids, mask)
    following = tokens(2, 1).numpy()
    after = running.feed(following)
    for row, start in ((0, 4), (1, 0)):
        whole = np.concatenate([ids[row, start:], following[row]])[None]
        expected = model(torch.from_numpy(whole)).logits.numpy()[0]
        assert_close(logits[row, start:], expected[:-1])
        assert_close(after[row], expected[-1:])


def test_the_model_is_left_as_it_was_and_a_folder_is_no_file(small: tuple[PackedModel, Path], tmp_path: Path) -> None:
    model, _ = small
    assert model.model.config._attn_implementation == "sdpa"
    assert all("forward" not in vars(layer) for layer in model.layers.values())
    with pytest.raises(RunError, match="is a folder"):
        write_causal(model, tmp_path)


def test_other_models_are_not_causal(small: tuple[PackedModel, Path]) -> None:
    model, path = small
    assert is_causal(model)
    others: Sequence[nn.Module] = (nn.Sequential(), model.model.model)
    assert not any(is_causal(PackedModel(other, model.record)) for other in others)
    with pytest.raises(ModelError, match="Sequential is no causal language model"):
        write_causal(PackedModel(others[0], model.record), path)

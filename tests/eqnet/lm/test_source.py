"""Published models are read as transformers reads them, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from eqnet.lm.source import open_source
from tests.eqnet.lm.models import CONFIGS, random_ids, random_model


@pytest.mark.parametrize("name", CONFIGS)
def test_gives_the_logits_of_transformers(name: str, tmp_path: Path) -> None:
    random_model(name).save_pretrained(tmp_path)
    ids = random_ids(2, 9)
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()(ids).logits
        assert torch.equal(open_source(tmp_path).load()(ids).logits, expected)


def test_gives_weights_again_after_a_reader_changed_them(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    source = open_source(tmp_path)
    expected = source.tensor("lm_head.weight").clone()
    source.load().lm_head.weight.data.zero_()
    assert torch.equal(source.tensor("lm_head.weight"), expected)

"""``eqnet import``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eqnet import load
from tests.cli.command import Command
from tests.eqnet.lm.glm import chatglm2
from tests.eqnet.lm.glm.checkpoints import INNER, save, share, tensors, unite, write_130b, write_chatglm
from tests.eqnet.lm.glm.own_model import Own


def test_parts_are_merged(eqnet: Command, tmp_path: Path) -> None:
    whole = unite(write_130b(tmp_path / "glm", 2, 4))
    ended = eqnet("import", tmp_path / "glm", "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert "GLM-130B in 8 packed layers" in ended.out
    assert "2 before, 1 now" in ended.out
    assert "4 × int4:channel" in ended.out
    assert f"2 × int4:group{INNER // 2}" in ended.out
    for name, layer in load(tmp_path / "out", Own).layers.items():
        assert np.array_equal(layer.weight.dequantize().numpy(), whole[f"{name}.weight"]), name
    inspected = eqnet("inspect", tmp_path / "out")
    assert "every checksum agrees" in inspected.out


def test_parts_are_split(eqnet: Command, tmp_path: Path) -> None:
    whole = unite(write_130b(tmp_path / "glm", 2, 8))
    ended = eqnet("import", tmp_path / "glm", "-o", tmp_path / "out", "--degree", "4", "--json")
    assert (ended.status, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert (found["degree_before"], found["degree"], found["bits"]) == (2, 4, 8)
    assert found["folders"] == [str(tmp_path / "out" / f"rank-{rank}") for rank in range(4)]
    for rank, folder in enumerate(found["folders"]):
        expected = share(whole, rank, 4)
        for name, layer in load(folder, lambda: Own(4)).layers.items():
            assert np.array_equal(layer.weight.dequantize().numpy(), expected[f"{name}.weight"]), name


def test_a_chatglm_answers(eqnet: Command, tmp_path: Path) -> None:
    write_chatglm(tmp_path / "glm", chatglm2.model(), chatglm2.CONFIG, 4)
    ended = eqnet("import", tmp_path / "glm", "-o", tmp_path / "out")
    assert f"eqnet generate {tmp_path / 'out'} --ids" in ended.out
    answered = eqnet("generate", tmp_path / "out", "5 9 1", "--ids", "--max-tokens", "4", "--threads", "1")
    assert answered.status == 0, answered.err
    assert 1 <= len(answered.out.split()) <= 4


def test_a_chatglm_in_floating_point_is_searched(eqnet: Command, tmp_path: Path) -> None:
    (tmp_path / "glm").mkdir()
    stored = {name: value.astype(np.float16) for name, value in chatglm2.model().items()}
    save(tmp_path / "glm" / "pytorch_model.bin", tensors(stored))
    (tmp_path / "glm" / "config.json").write_text(json.dumps(chatglm2.CONFIG))
    ended = eqnet("import", tmp_path / "glm", "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert f"eqnet search --model {tmp_path / 'out'}" in ended.out
    assert "floating point" in ended.out
    answered = eqnet("generate", tmp_path / "out", "5 9 1", "--ids", "--max-tokens", "2", "--threads", "1")
    assert answered.status == 0, answered.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--degree", "3"), "3 processes cannot share this model: its 4 heads do not divide among them; 1, 2, 4 can"),
        (("--degree", "0"), "Invalid value for '--degree'"),
        (("--heads", "5", "--degree", "4"), "5 heads do not divide 16 columns"),
    ],
    ids=["degree", "none", "heads"],
)
def test_what_cannot_be_is_refused(eqnet: Command, arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    write_130b(tmp_path / "glm", 2, 4)
    ended = eqnet("import", tmp_path / "glm", "-o", tmp_path / "out", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_folders_without_a_checkpoint_are_refused(eqnet: Command, tmp_path: Path) -> None:
    ended = eqnet("import", tmp_path, "-o", tmp_path / "out")
    assert ended.status == 2
    assert "holds no checkpoint of a GLM; expected latest and mp_rank_*_model_states.pt of GLM-130B" in ended.err
    ended = eqnet("import", tmp_path / "none", "-o", tmp_path / "out")
    assert (ended.status, "is no folder" in ended.err) == (2, True)


def test_a_missing_rank_is_named(eqnet: Command, tmp_path: Path) -> None:
    write_130b(tmp_path / "glm", 4, 4)
    (tmp_path / "glm" / "49300" / "mp_rank_02_model_states.pt").unlink()
    ended = eqnet("import", tmp_path / "glm", "-o", tmp_path / "out")
    assert ended.status == 2
    assert "the file of rank 2 is missing (mp_rank_02_model_states.pt)" in ended.err


def test_help_says_what_a_checkpoint_is(eqnet: Command) -> None:
    ended = eqnet("import", "--help")
    assert ended.status == 0
    assert "import [OPTIONS] CHECKPOINT" in ended.out
    assert "a file for each process that shares the model" in " ".join(ended.out.split())

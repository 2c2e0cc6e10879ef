"""Checkpoints written as artifacts, which a model of one's own takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import eqnet
from eqnet.deploy.summary import summarize
from eqnet.errors import InputError, RunError
from eqnet.lm.glm import read_glm, resharded, write_glm
from eqnet.packed.artifact import Artifact
from tests.eqnet.lm.glm.checkpoints import (
    HIDDEN,
    INNER,
    save,
    share,
    tensors,
    unite,
    whole_model,
    write_130b,
)
from tests.eqnet.lm.glm.own_model import Own


@pytest.mark.parametrize("bits", [4, 8])
def test_a_model_of_ones_own_computes_with_the_merged_weights(bits: int, tmp_path: Path) -> None:
    whole = unite(write_130b(tmp_path / "in", 2, bits))
    folder = tmp_path / "out"
    (written,) = write_glm(resharded(read_glm(tmp_path / "in"), 1), folder)
    assert (written.folder, written.architecture) == (folder, "GLM-130B")
    packed = eqnet.load(folder, Own)
    assert (written.nbytes, set(written.layers)) == (packed.nbytes, set(packed.layers))
    expected = Own()
    expected.load_state_dict({name: torch.from_numpy(value) for name, value in whole.items()})
    x = torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(packed(x), expected(x), rtol=1e-4, atol=1e-5)
    for name, layer in packed.layers.items():
        assert np.array_equal(layer.weight.dequantize().numpy(), whole[f"{name}.weight"]), name
    formats = {name.rpartition(".")[2]: str(layer.weight.format) for name, layer in packed.layers.items()}
    assert formats == {
        "query_key_value": f"int{bits}:channel",
        "dense": f"int{bits}:group{HIDDEN // 2}",
        "dense_h_to_4h": f"int{bits}:channel",
        "dense_4h_to_h": f"int{bits}:group{INNER // 2}",
    }
    assert summarize(folder).architecture == "GLM-130B"


def test_each_process_has_a_folder_of_its_own(tmp_path: Path) -> None:
    whole = unite(write_130b(tmp_path / "in", 2, 4))
    told: list[tuple[str, int, int]] = []
    written = write_glm(resharded(read_glm(tmp_path / "in"), 4), tmp_path / "out", lambda *said: told.append(said))
    folders = [part.folder for part in written]
    assert [folder.name for folder in folders] == ["rank-0", "rank-1", "rank-2", "rank-3"]
    for rank, folder in enumerate(folders):
        expected = share(whole, rank, 4)
        for name, layer in eqnet.load(folder, lambda: Own(4)).layers.items():
            assert np.array_equal(layer.weight.dequantize().numpy(), expected[f"{name}.weight"]), name
        assert Artifact.open(folder).config["architecture"] == {"class": "GLM-130B", "rank": rank, "ranks": 4}
    assert told[-1] == ("Importing rank 3", len(whole), len(whole))


def test_large_checkpoints_are_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = unite(write_130b(tmp_path / "in", 1, 4))
    monkeypatch.setattr("eqnet.lm.glm.writing.SHARD_BYTES", 1000)
    write_glm(read_glm(tmp_path / "in"), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 3
    name = "transformer.layers.1.mlp.dense_4h_to_h"
    layer = eqnet.load(tmp_path / "out", Own).layers[name]
    assert np.array_equal(layer.weight.dequantize().numpy(), whole[f"{name}.weight"])


def test_the_model_has_to_be_given(tmp_path: Path) -> None:
    write_130b(tmp_path / "in", 1, 4)
    write_glm(read_glm(tmp_path / "in"), tmp_path / "out")
    with pytest.raises(InputError, match="holds a GLM-130B that eqnet cannot build by itself; give model="):
        eqnet.load(tmp_path / "out")


def test_another_degree_is_not_written_over(tmp_path: Path) -> None:
    write_130b(tmp_path / "in", 2, 4)
    checkpoint = read_glm(tmp_path / "in")
    write_glm(checkpoint, tmp_path / "out")
    write_glm(checkpoint, tmp_path / "out")
    with pytest.raises(RunError, match="holds rank-0 of something else; choose a new folder"):
        write_glm(resharded(checkpoint, 1), tmp_path / "out")
    write_glm(resharded(checkpoint, 1), tmp_path / "one")
    with pytest.raises(RunError, match=r"holds config\.json of something else"):
        write_glm(checkpoint, tmp_path / "one")


def test_floating_point_is_refused(tmp_path: Path) -> None:
    model = {name: value.astype(np.float16) for name, value in whole_model().items()}
    save(tmp_path / "mp_rank_00_model_states.pt", {"module": tensors(model)})
    with pytest.raises(InputError, match=r"is in floating point, .*--quantization-bit-width 4"):
        write_glm(read_glm(tmp_path), tmp_path / "out")

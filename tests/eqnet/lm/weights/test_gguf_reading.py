"""The reader of GGUF files that transformers is given, beside the package's own."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from eqnet.lm.weights.gguf_reading import fast_reading

THEIRS = gguf.GGUFReader


def written(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 3)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_array("tokenizer.ggml.tokens", ["", "naïve", "“dogs”"])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.5, 2.0])
    writer.add_tensor("output_norm.weight", np.arange(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_everything_reads_as_with_the_packages_own_reader(tmp_path: Path) -> None:
    path = written(tmp_path / "small.gguf")
    with fast_reading():
        assert gguf.GGUFReader is not THEIRS
        found = gguf.GGUFReader(path)
    assert gguf.GGUFReader is THEIRS
    expected = THEIRS(path)
    assert list(found.fields) == list(expected.fields)
    for name, field in expected.fields.items():
        assert (found.fields[name].types, found.fields[name].data) == (field.types, field.data)
        for part, other in zip(found.fields[name].parts, field.parts, strict=True):
            np.testing.assert_array_equal(part, other)
    assert found.fields["tokenizer.ggml.tokens"].contents() == ["", "naïve", "“dogs”"]
    np.testing.assert_array_equal(found.tensors[0].data, np.arange(4))


def test_a_file_that_ends_early_fails_as_with_the_packages_own_reader(tmp_path: Path) -> None:
    path = written(tmp_path / "cut.gguf")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises((IndexError, ValueError)) as expected:
        THEIRS(path)
    with fast_reading(), pytest.raises(expected.type):
        gguf.GGUFReader(path)

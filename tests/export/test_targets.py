"""The targets that come with eqnet."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqnet import Choices, Format, Granularity, InputError, LayerFormat
from eqnet.export.targets import built_in, load_target
from eqnet.space import Layer

LINEAR = Layer("fc", "Linear", 4, 64, 256, 64)


def test_every_target_has_a_title_and_a_source_and_is_found_by_name() -> None:
    targets = built_in()
    assert {t.name for t in targets} == {"eqnet", "onnxruntime", "onnxruntime-weight-only"}
    assert all(t.title and t.source for t in targets)
    assert [load_target(t.name) for t in targets] == targets


def test_eqnets_own_kernels_run_every_format() -> None:
    target = load_target("eqnet")
    text = "w=2-8:tensor,channel,group16,group128:sym,asym a=2-8:sym,asym edge=none"
    for fmt in [*Choices.parse(text).formats(), *Choices.parse("weight-only").formats()]:
        assert target.why_not(LINEAR, fmt) is None


@pytest.mark.parametrize(
    ("target", "weight", "activation", "runs"),
    [
        ("onnxruntime", Format(4, True, Granularity.CHANNEL), Format(8, False), True),
        ("onnxruntime", Format(3, True, Granularity.CHANNEL), Format(8, False), False),
        ("onnxruntime", Format(8, False), None, False),
        ("onnxruntime-weight-only", Format(4, False, Granularity.GROUP, 32), None, True),
        ("onnxruntime-weight-only", Format(4, False, Granularity.GROUP, 24), None, False),
        ("onnxruntime-weight-only", Format(4, False, Granularity.GROUP, 32), Format(8, False), False),
    ],
    ids=str,
)
def test_what_onnx_runtime_runs(target: str, weight: Format, activation: Format | None, runs: bool) -> None:
    assert (load_target(target).why_not(LINEAR, LayerFormat(weight, activation)) is None) == runs


def test_an_unknown_target_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'onnxruntime'"):
        load_target("onnx-runtime")
    with pytest.raises(InputError, match=r"chip\.toml"):
        load_target(str(tmp_path / "chip.toml"))

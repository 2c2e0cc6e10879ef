"""A whole search of a small language model of bytes, and what a second one finds in the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eqnet.errors import BudgetError, InputError, RunError
from eqnet.export.targets import load_target
from eqnet.lm.recipe import Recipe
from eqnet.lm.run import LanguageRun, Plan
from eqnet.lm.search import settings_of, uniform_subnet
from eqnet.search.budget import Budget

transformers = pytest.importorskip("transformers")

SPACE = "w=2-8:group32:sym,asym"
SETTINGS = settings_of(samples=20, pareto=0, seed=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained: whatever it says, there is something to keep close to."""
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _random_state() -> object:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def test_a_search_keeps_to_its_budget_and_a_second_one_measures_little(model: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    plan = Plan(str(model), space=SPACE)
    with LanguageRun(tmp_path / "run", plan, lambda stage, done, total: stages.append(stage)) as run:
        found = run.search([Budget.parse("4.25bpw")], SETTINGS).result
        assert found.cost.bpw <= 4.25
        assert set(found.subnet) == {layer.name for layer in run.space.layers}
    assert any("sensitivity" in stage for stage in stages)
    assert (tmp_path / "run" / "measurements.sqlite").exists()
    stages.clear()
    with LanguageRun.reopen(tmp_path / "run", lambda stage, done, total: stages.append(stage)) as run:
        again = run.search([Budget.parse("4.25bpw")], SETTINGS).result
        assert dict(again.subnet) == dict(found.subnet)
        assert not any("sensitivity" in stage for stage in stages), "it is kept in the folder"
        with pytest.raises(BudgetError, match="1bpw"):
            run.search([Budget.parse("1bpw")], SETTINGS)
        with pytest.raises(BudgetError, match="stored bits per weight"):
            run.search([Budget.parse("2GBOPs")], SETTINGS)


def test_what_is_found_stands_beside_the_uniform_networks_that_there_are(model: Path, tmp_path: Path) -> None:
    plan = Plan(str(model), method="rtn", space="w=3,5:group32:asym")
    with LanguageRun(tmp_path / "run", plan) as run:
        uniform = run.search([Budget.parse("4.5bpw")], SETTINGS).result.scores.uniform
    assert {bits: network.cost.code_bits for bits, network in uniform.items()} == {3: 3, 5: 5}
    divergences = [network.divergence for network in uniform.values()]
    assert all(divergence is not None and divergence > 0 for divergence in divergences)


def test_codes_of_a_search_are_trained_on_demand(model: Path, tmp_path: Path) -> None:
    with LanguageRun(tmp_path / "run", Plan(str(model), method="rtn", space=SPACE)) as run:
        subnet = uniform_subnet(run.space, 3)
        with pytest.raises(InputError, match=r"^--method qat: goes with codes of gptq, and the search was on .* rtn"):
            run.packed(subnet, method="qat")
    with LanguageRun(tmp_path / "other", Plan(str(model), space=SPACE)) as run:
        searched, trained = run.packed(subnet), run.packed(subnet, method="qat")
        text = run.held_out.test
        exact, *found = (m(input_ids=text).logits.log_softmax(-1) for m in (run.source.load(), searched, trained))
        nats = [float((exact.exp() * (exact - other)).sum(-1).mean().detach()) for other in found]
        assert nats[1] < nats[0]
        assert [recipe.method for recipe in map(Recipe.of, (searched, trained)) if recipe] == ["gptq", "qat"]


def test_codes_are_trained_on_other_text_if_that_is_given(model: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("It was a dark and stormy night; the rain fell in torrents. " * 200)
    with LanguageRun(tmp_path / "run", Plan(str(model), space=SPACE)) as run:
        subnet = uniform_subnet(run.space, 3)
        usual, other = (run.packed(subnet, method="distill", text=text) for text in ((), (book,)))
        weights = [packed.layers["model.layers.0.mlp.down_proj"].weight for packed in (usual, other)]
        assert not torch.equal(weights[0].codes, weights[1].codes)
        recipes = [Recipe.of(packed) for packed in (usual, other)]
        assert [recipe.text for recipe in recipes if recipe is not None] == [(), ("book.txt",)]
        with pytest.raises(InputError, match=r"^--text: codes of --method gptq are those of the search"):
            run.packed(subnet, text=(book,))


def test_a_folder_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    with LanguageRun(tmp_path / "run", Plan(str(model), space=SPACE)):
        pass
    with pytest.raises(RunError, match="run"):
        LanguageRun(tmp_path / "run", Plan(str(model), method="rtn", space=SPACE))
    with pytest.raises(RunError, match="holds no run of a language model"):
        LanguageRun.reopen(tmp_path)


def test_a_target_that_quantizes_inputs_is_refused(model: Path, tmp_path: Path) -> None:
    with (
        LanguageRun(tmp_path / "run", Plan(str(model), space=SPACE)) as run,
        pytest.raises(InputError, match=r"^snpe quantizes inputs, too, .* such as gguf$"),
    ):
        run.search([Budget.parse("4.25bpw")], SETTINGS, load_target("snpe"))

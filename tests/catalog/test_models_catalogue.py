import pytest

from stoker.catalog import models
from stoker.catalog.models import find


def named(name: str) -> models.Model:
    found = find(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496),
        ("meta-llama/Llama-3.1-405B-Instruct", 405_853_388_800),
        ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400),
        ("meta-llama/Llama-2-7b-chat-hf", 6_738_415_616),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen3-32B", 32_762_123_264),
        ("Qwen/Qwen3-30B-A3B", 30_532_122_624),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-72B-Instruct", 72_706_203_648),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
        ("mistralai/Mistral-7B-Instruct-v0.2", 7_241_732_096),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46_702_792_704),
        ("google/gemma-2-9b-it", 9_241_705_984),
        ("google/gemma-3-1b-it", 999_885_952),
        ("microsoft/phi-4", 14_659_507_200),
        ("codellama/CodeLlama-34b-Instruct-hf", 33_743_970_304),
    ],
)
def test_the_shape_gives_the_published_count_of_parameters(name: str, parameters: int) -> None:
    assert named(name).parameters == parameters
    assert named(name).weights_bytes == 2 * parameters


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("deepseek-ai/DeepSeek-R1", 671.0, 37.6),
        ("Qwen/Qwen3-235B-A22B", 235.1, 22.2),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 480.2, 35.5),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.7, 12.9),
        ("openai/gpt-oss-120b", 116.8, 5.7),
    ],
)
def test_a_mixture_computes_a_token_with_a_few_of_its_parameters(name: str, billions: float, active: float) -> None:
    assert (round(named(name).parameters / 1e9, 1), round(named(name).active_parameters / 1e9, 1)) == (billions, active)


def test_what_is_not_a_mixture_computes_with_all_of_them() -> None:
    assert named("Qwen/Qwen3-8B").active_parameters == named("Qwen/Qwen3-8B").parameters


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 128),
        ("meta-llama/Llama-3.1-70B-Instruct", 320),
        ("codellama/CodeLlama-34b-Instruct-hf", 192),
        ("Qwen/Qwen3-32B", 256),
        ("meta-llama/Llama-2-7b-chat-hf", 512),
        ("meta-llama/Llama-2-13b-chat-hf", 800),
        ("Qwen/Qwen3-8B", 144),
        ("deepseek-ai/DeepSeek-R1", 68.625),  # 61 layers of 512 latent and 64 rotary numbers
        ("openai/gpt-oss-20b", 24),  # of 24 layers, 12 keep the whole context
    ],
)
def test_the_cache_of_a_token(name: str, kib: float) -> None:
    assert named(name).kv_bytes_per_token() == kib * 1024


def test_weights_as_published_are_smaller_where_they_are_stored_in_fewer_bits() -> None:
    assert named("openai/gpt-oss-20b").weights_bytes == pytest.approx(13.75e9, rel=0.01)  # 12.8 GiB
    assert named("openai/gpt-oss-120b").weights_bytes == pytest.approx(65.3e9, rel=0.01)  # 60.8 GiB
    assert named("deepseek-ai/DeepSeek-R1").weights_bytes == pytest.approx(672.9e9, rel=0.001)


def test_four_bits_shrink_the_layers_and_leave_embeddings_and_output() -> None:
    model = named("Qwen/Qwen3-8B")
    embeddings = 2 * 151_936 * 4096

    assert model.weights_bytes - model.weights_bytes_at(0.5) == round(1.5 * model.always_read)
    assert model.weights_bytes_at(0.0) >= 2 * embeddings


def test_a_step_over_many_tokens_reads_nearly_all_experts_and_over_one_only_its_own() -> None:
    model = named("Qwen/Qwen3-30B-A3B")

    assert model.layer_bytes_touched(1, 2.0) == pytest.approx(2.0 * model.layers_per_token)
    assert model.layer_bytes_touched(1000, 2.0) == pytest.approx(2.0 * (model.always_read + model.chosen_from))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("qwen/qwen3-8b", "Qwen/Qwen3-8B"),
        ("Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/models/qwen3-8b/", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B"),
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", "meta-llama/Llama-3.1-70B-Instruct"),
        ("meta-llama/Llama-3.1-70B-Instruct-AWQ", "meta-llama/Llama-3.1-70B-Instruct"),
        ("casperhansen/llama-3-8b-instruct-awq", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("llama-70b", "meta-llama/Llama-3.1-70B-Instruct"),
        ("my-org/qwen2.5-coder-7b-finetuned", "Qwen/Qwen2.5-Coder-7B-Instruct"),
        ("Qwen2.5-14B-Instruct-1M", "Qwen/Qwen2.5-14B-Instruct"),
        ("qwen3-30b-a3b-merged", "Qwen/Qwen3-30B-A3B"),
        ("TheBloke/Mixtral-8x7B-v0.1-GPTQ", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("mixtral-8x22b", "mistralai/Mixtral-8x22B-Instruct-v0.1"),
        ("unsloth/gemma-3-27b-it-bnb-4bit", "google/gemma-3-27b-it"),
        ("acme/chat-7B-instruct", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("tiny-500m", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("tiiuae/falcon-40b", "codellama/CodeLlama-34b-Instruct-hf"),
        ("acme/mix-26B-A4B", "Qwen/Qwen3-30B-A3B"),
    ],
)
def test_find_takes_the_name_then_the_family_and_size_then_the_size(name: str, found: str) -> None:
    assert named(name).name == found


@pytest.mark.parametrize(
    "name",
    [
        "",
        "general",
        "gpt2",
        "qwen",
        "acme/chat-200b",
        "qwen3-120b",
        "llama",
        "v0.1",
        "acme/mix-17B-16E",
        "acme/mix-30B-moe",
        "acme/mix-8x3b",
    ],
)
def test_find_says_nothing_where_nothing_can_be_told(name: str) -> None:
    assert find(name) is None


def test_every_name_leads_to_its_model_and_the_shapes_are_possible() -> None:
    for model in models.models().values():
        assert all(find(name) is model for name in (model.name, *model.also))
        assert model.heads % model.kv_heads == 0
        assert model.size_b == pytest.approx(model.parameters / 1e9, rel=0.31)
        assert model.source


def test_the_models_that_were_not_seen_themselves_are_marked() -> None:
    assert [name for name, model in models.models().items() if not model.confirmed] == [
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "mistralai/Mistral-Small-24B-Instruct-2501",
        "Qwen/Qwen2-72B-Instruct",
        "Qwen/Qwen2-7B-Instruct",
        "Qwen/Qwen2.5-VL-32B-Instruct",
        "Qwen/Qwen2.5-VL-72B-Instruct",
        "Qwen/Qwen3-Coder-30B-A3B-Instruct",
        "Qwen/QwQ-32B",
    ]


def test_a_row_with_a_field_that_nobody_reads_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"x/y: unknown fields \['layer'\]"):
        models._model({"name": "x/y", "layer": 1})

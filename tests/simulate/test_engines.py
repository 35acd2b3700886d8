"""The first engine model, held against the points that were measured. See `benchmarks/simulate/engine_points.py`."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from stoker.base.errors import InvalidInput
from stoker.catalog import ec2, gpus, models
from stoker.catalog.ec2 import InstanceType
from stoker.simulate import engine_tables, engines, weight_formats
from stoker.simulate.engines import Rates, rates
from stoker.simulate.scenario import Serving

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
TYPES = {"l40s": "g6e.48xlarge", "a100-80": "p4de.24xlarge", "h100": "p5.48xlarge", "h200": "p5e.48xlarge"}


def type_of(name: str) -> InstanceType:
    found = ec2.find(name)
    assert found is not None
    return found


def serving(weights: str, gpus: int = 1, concurrency: int = 256, **more: Any) -> Serving:
    return Serving(model="m", weights=weights, gpus=gpus, dispatch="queue", concurrency=concurrency, **more)


def on(instance: str, weights: str = LLAMA_8B, gpus: int = 1, concurrency: int = 256, **more: Any) -> Rates:
    return rates(serving(weights, gpus, concurrency, **more), type_of(instance))


def step_ms(found: Rates, sequences: int, context: int) -> float:
    """With contexts of one length."""
    return 1e3 * float(found.step_s[sequences] + sequences * context * found.step_s_per_kv_token / engines.SKEW)


# Measured points


def table_points() -> list[Any]:
    return [
        pytest.param(row, sequences, ms, id=f"{row.reference.rpartition('/')[2]}-{row.gpu}x{row.tp}-b{sequences}")
        for row in engine_tables.ROWS
        for sequences, ms in row.decode_ms.items()
    ]


@pytest.mark.parametrize(("row", "sequences", "ms"), table_points())
def test_kernels_of_a_decode_step_are_the_measured_ones(row: engine_tables.Row, sequences: int, ms: float) -> None:
    """Exactly, at 1,024 tokens of context: what remains is communication and the engine's own work."""
    found = on(TYPES[row.gpu], row.reference, row.tp)
    more = engines.overheads_s(models.models()[row.reference], row.tp, gpus.gpus()[row.gpu].link, sequences)

    assert step_ms(found, sequences, engine_tables.CONTEXT) - 1e3 * more == pytest.approx(ms, rel=1e-9)


@pytest.mark.parametrize("row", engine_tables.ROWS, ids=lambda row: f"{row.reference}-{row.gpu}x{row.tp}")
def test_prompts_are_computed_as_fast_as_measured(row: engine_tables.Row) -> None:
    """Exactly on one GPU; with several, communication comes on top."""
    if row.prompt_tokens_per_ms is None:
        return
    tokens_per_ms = 1e-3 / on(TYPES[row.gpu], row.reference, row.tp).prefill_s_per_token

    if row.tp == 1:
        assert tokens_per_ms == pytest.approx(row.prompt_tokens_per_ms, rel=1e-9)
    else:
        assert 0.1 * row.prompt_tokens_per_ms < tokens_per_ms < row.prompt_tokens_per_ms


def test_the_formulas_alone_come_within_17_per_cent_of_every_measured_step() -> None:
    errors = []
    for row in engine_tables.ROWS:
        found = rates(serving(row.reference, row.tp), type_of(TYPES[row.gpu]), use_tables=False)
        for sequences, ms in row.decode_ms.items():
            more = engines.overheads_s(models.models()[row.reference], row.tp, gpus.gpus()[row.gpu].link, sequences)
            errors.append(abs((step_ms(found, sequences, engine_tables.CONTEXT) - 1e3 * more) / ms - 1))

    assert max(errors) < 0.17
    assert float(np.mean(errors)) < 0.05


@pytest.mark.parametrize(
    ("instance", "measured_ms", "tolerance"),
    [("g6.xlarge", 62.0, 0.05), ("g5.xlarge", 33.0, 0.05), ("p4d.24xlarge", 1000 / 75, 0.05)],
)
def test_one_sequence_of_8b_is_as_fast_as_measured(instance: str, measured_ms: float, tolerance: float) -> None:
    """L4 62 ms and A10G 33 ms per token, A100-40 75 tokens/s: within 5 %."""
    assert step_ms(on(instance), 1, 200) == pytest.approx(measured_ms, rel=tolerance)


@pytest.mark.parametrize(
    ("instance", "weights", "count", "measured_ms"),
    [
        ("p5.48xlarge", LLAMA_8B, 1, 8.9),
        ("p5.48xlarge", LLAMA_8B, 2, 5.9),
        ("p5.48xlarge", "Qwen/Qwen3-14B", 1, 15.8),
        ("p5.48xlarge", "codellama/CodeLlama-34b-Instruct-hf", 2, 15.8),
        ("p5.48xlarge", LLAMA_70B, 4, 18.3),
        ("p5.48xlarge", "meta-llama/Llama-2-70b-chat-hf", 4, 21.3),
    ],
)
def test_an_engine_under_load_is_slower_than_eight_sequences_but_not_much(
    instance: str, weights: str, count: int, measured_ms: float
) -> None:
    """BLIS's runs do not say how many requests ran at once, so this holds only that the model is not slower than a real
    engine under load, and takes no less than two thirds of its time."""
    assert 2 / 3 * measured_ms < step_ms(on(instance, weights, count), 8, 600) <= measured_ms


def test_a_24_gb_gpu_has_the_cache_that_was_measured() -> None:
    """41,408 tokens on an RTX 4090, of which CUDA sees 25.25 GB."""
    rtx_4090 = replace(type_of("g6.xlarge"), gpu_name="rtx-4090", gpu_memory_mib=24324)

    assert rates(serving(LLAMA_8B), rtx_4090).kv_tokens == pytest.approx(41_408, rel=0.002)


# The shape of the rates


def test_there_is_a_step_for_every_number_of_sequences() -> None:
    found = on("g6e.xlarge", concurrency=32)

    assert found.step_s.shape == (33,)
    assert found.step_s.dtype == np.float64
    assert (found.prefill_s_fixed, found.after_s) == (15.563e-3, 0.777e-3)
    assert bool((found.step_s > 0).all())


def test_between_measured_batches_the_step_lies_between_and_beyond_it_grows() -> None:
    found = on("g6e.xlarge")

    assert step_ms(found, 32, 1024) < step_ms(found, 48, 1024) < step_ms(found, 64, 1024)
    assert step_ms(found, 128, 1024) < step_ms(found, 192, 1024) < step_ms(found, 256, 1024)


@pytest.mark.parametrize("instance", ["g5.xlarge", "g6.xlarge", "g6e.xlarge", "p5.48xlarge"])
def test_more_sequences_give_more_tokens_per_second(instance: str) -> None:
    found = on(instance)
    per_s = [n * 1e3 / step_ms(found, n, 512) for n in range(1, 257)]

    assert all(more > less for less, more in pairwise(per_s))


def test_a_model_of_the_same_size_is_scaled_from_the_measured_one() -> None:
    """Qwen3-8B reads 1 % more than Llama-3.1-8B, and 4 layers more cost 12 us each."""
    llama, qwen = on("g6e.xlarge"), on("g6e.xlarge", "Qwen/Qwen3-8B")

    assert qwen.source == "table: Qwen/Qwen3-8B on l40s, by meta-llama/Llama-3.1-8B-Instruct"
    assert 1.0 < qwen.step_s[1] / llama.step_s[1] < 1.02
    assert qwen.step_s_per_kv_token / llama.step_s_per_kv_token == pytest.approx(144 / 128)


def test_a_model_of_another_size_is_computed() -> None:
    assert on("g6e.xlarge", "Qwen/Qwen3-4B").source == "computed: Qwen/Qwen3-4B on l40s, rates measured on it"
    assert on("g6.xlarge", "Qwen/Qwen3-4B").source == (
        "computed: Qwen/Qwen3-4B on l4, shares of its data sheet, +-15 %"
    )


def test_what_stands_in_for_an_unknown_model_is_said() -> None:
    found = on("g6e.xlarge", "acme/chat-8B", max_model_len=8192)

    assert found.source.startswith(f"table: acme/chat-8B as {LLAMA_8B} on l40s")


def test_the_name_that_clients_ask_for_is_read_where_no_weights_are_named() -> None:
    found = rates(replace(serving(""), model="qwen3-8b"), type_of("g6e.xlarge"))

    assert "qwen3-8b as Qwen/Qwen3-8B" in found.source
    assert engines.weights_bytes(replace(serving(""), model="qwen3-8b-awq")) < 7e9


def test_chunks_are_those_of_the_command_line() -> None:
    assert on("g6e.xlarge", max_batched_tokens=2048).chunk_tokens == 2048


# Several GPUs


def test_each_all_reduce_of_pcie_costs_40_us_with_two_gpus() -> None:
    model = models.models()["Qwen/Qwen3-32B"]
    sent_s = 64 * 2 * 1 * 5120 * 2 / 16e9  # 64 layers, two each, half of two GPUs' sums there and back

    cost_s = engines.overheads_s(model, 2, "pcie4", 1) - engines.overheads_s(model, 1, "pcie4", 1)

    assert cost_s == pytest.approx(128 * 40e-6 + sent_s)


def test_a_cache_is_split_over_gpus_but_no_head_is() -> None:
    """Llama has 8 heads for keys and values: 16 GPUs read as much each as 8."""
    one, eight = on("p5.48xlarge", gpus=1), on("p5.48xlarge", gpus=8)
    sixteen = rates(serving(LLAMA_8B, 16), replace(type_of("p5.48xlarge"), gpu_count=16))

    assert one.step_s_per_kv_token / eight.step_s_per_kv_token == pytest.approx(8)
    assert sixteen.step_s_per_kv_token == pytest.approx(eight.step_s_per_kv_token)


def test_a_latent_cache_is_on_every_gpu() -> None:
    found = on("p5e.48xlarge", "deepseek-ai/DeepSeek-R1", 8)

    assert found.step_s_per_kv_token == pytest.approx(engines.SKEW * 61 * 576 * 2 / 3609e9)


def test_two_nodes_work_as_two_stages() -> None:
    """A sequence goes through both, so one sequence is as slow as on one node; many give more tokens."""
    one, two = on("p4de.24xlarge", LLAMA_70B, 8), on("p4de.24xlarge", LLAMA_70B, 16)

    assert two.step_s[1] - one.step_s[1] == pytest.approx(engines.STAGE_S)
    assert two.step_s[256] < one.step_s[256]
    assert two.step_s_per_kv_token == pytest.approx(one.step_s_per_kv_token / 2)
    assert two.prefill_s_per_token == pytest.approx(one.prefill_s_per_token / 2)
    assert two.kv_tokens > 2 * one.kv_tokens


# Fewer bits, experts, parts of GPUs, none


def test_four_bits_are_read_faster_and_leave_more_for_the_cache() -> None:
    whole, awq = on("g5.xlarge", "Qwen/Qwen3-8B"), on("g5.xlarge", "Qwen/Qwen3-8B-AWQ")

    assert awq.step_s[1] < 0.45 * whole.step_s[1]
    assert awq.kv_tokens > 2 * whole.kv_tokens
    assert awq.prefill_s_per_token == whole.prefill_s_per_token


def test_eight_bits_double_the_flops_where_the_gpu_can() -> None:
    ada = rates(serving(LLAMA_8B), type_of("g6.xlarge")), on("g6.xlarge", quantization="fp8")
    ampere = rates(serving(LLAMA_8B), type_of("g5.xlarge")), on("g5.xlarge", quantization="fp8")

    assert ada[0].prefill_s_per_token / ada[1].prefill_s_per_token == pytest.approx(2)
    assert ampere[0].prefill_s_per_token == ampere[1].prefill_s_per_token


@pytest.mark.parametrize(
    ("quantization", "name", "bytes_each", "remark"),
    [
        ("", "Qwen/Qwen3-8B", 2.0, ""),
        ("", "Qwen/Qwen3-8B-AWQ", 0.53, ""),
        ("", "org/llama-3.1-8b-FP8-dynamic", 1.0, ""),
        ("awq_marlin", "Qwen/Qwen3-8B", 0.53, ""),
        ("gptq", "x/Qwen3-8B-GPTQ-Int8", 1.0, ""),
        ("gptq", "x/Qwen3-8B-GPTQ-Int4", 0.53, ""),
        ("compressed-tensors", "x/Qwen3-8B-w4a16", 0.53, ""),
        (
            "compressed-tensors",
            "x/Qwen3-8B",
            1.0,
            "--quantization compressed-tensors may be of several widths: taken as 8 bits",
        ),
        ("sorcery", "Qwen/Qwen3-8B", 2.0, "--quantization sorcery is not known here: taken as published"),
    ],
)
def test_bytes_of_a_weight(quantization: str, name: str, bytes_each: float, remark: str) -> None:
    model = models.find("Qwen/Qwen3-8B")
    assert model is not None

    assert weight_formats.layer_bytes(quantization, name, model) == (bytes_each, remark)


def test_a_mixture_reads_more_experts_the_more_sequences_there_are() -> None:
    found = on("g6e.12xlarge", "Qwen/Qwen3-30B-A3B", 2)

    assert found.step_s[64] > 2 * found.step_s[1]


def test_a_slice_of_a_gpu_is_as_much_slower_as_it_is_smaller() -> None:
    whole = rates(serving("Qwen/Qwen3-4B"), type_of("p5.48xlarge"), use_tables=False)
    share = gpus.mig_share("mig-3g.40gb", gpus.gpus()["h100"])
    assert share is not None
    part = rates(serving("Qwen/Qwen3-4B"), type_of("p5.48xlarge"), share=share)

    assert part.step_s_per_kv_token == pytest.approx(2 * whole.step_s_per_kv_token)
    assert part.prefill_s_per_token == pytest.approx(whole.prefill_s_per_token * 7 / 3)
    assert part.kv_tokens < whole.kv_tokens / 2
    assert part.source.startswith("computed: Qwen/Qwen3-4B on 0.43 of h100")


def test_pods_that_take_turns_are_slower_and_have_the_memory_of_their_command_line() -> None:
    alone = on("g6e.xlarge", "Qwen/Qwen3-4B", memory_share=0.45)
    one_of_two = rates(serving("Qwen/Qwen3-4B", memory_share=0.45), type_of("g6e.xlarge"), share=gpus.time_sliced(2))

    assert one_of_two.kv_tokens == alone.kv_tokens
    assert one_of_two.prefill_s_per_token == pytest.approx(2 * alone.prefill_s_per_token)


def test_without_a_gpu_it_is_slow_and_said_to_be_rough() -> None:
    found = on("m7i.4xlarge", "Qwen/Qwen3-0.6B", 0, concurrency=4)

    assert found.source == "computed: Qwen/Qwen3-0.6B without a GPU on 16 vCPUs, rough"
    assert found.step_s[1] == pytest.approx(596e6 * 2 / 32e9, rel=0.05)
    assert found.kv_tokens == 4 * 2**30 // (112 * 1024) // 16 * 16


# What cannot be


def test_weights_that_do_not_fit_are_refused_with_what_would_do() -> None:
    with pytest.raises(InvalidInput) as caught:
        on("g5.xlarge", LLAMA_70B)

    assert caught.value.message == (
        f"the weights of {LLAMA_70B} are 141.1 GB, and g5.xlarge leaves 20.1 GB for them and the cache "
        "(1 GPU of 22 GiB, --gpu-memory-utilization 0.9)"
    )
    assert caught.value.hint == (
        "what would do: 8 GPUs of this kind, or GPUs with more than 158 GB, or weights in 8 or 4 bits (--quantization)"
    )


def test_the_gpus_that_the_hint_names_do() -> None:
    assert on("g5.48xlarge", LLAMA_70B, 8).kv_tokens > 0


@pytest.mark.parametrize(
    ("instance", "weights", "count", "message"),
    [
        ("g5.xlarge", "x/y", 1, "nothing is known of the weights 'x/y' that serve 'm'"),
        ("g5.xlarge", "", 1, "nothing is known of the weights '(none named)' that serve 'm'"),
        ("m7i.large", LLAMA_8B, 1, "'m' needs 1 GPU per replica, and m7i.large has no GPU"),
        (
            "g6f.xlarge",
            LLAMA_8B,
            1,
            "'m' needs 1 GPU per replica, and g6f.xlarge has a part of an l4 only, which pods cannot ask for",
        ),
        (
            "inf2.xlarge",
            LLAMA_8B,
            2,
            "'m' needs 2 GPUs per replica, and inf2.xlarge has inferentia2, of which nothing is known here",
        ),
        (
            "m7i.large",
            LLAMA_8B,
            0,
            f"the weights of {LLAMA_8B} are 16.1 GB, and m7i.large leaves 2.9 GB of memory for them, without a GPU",
        ),
    ],
)
def test_what_is_not_known_or_not_there_is_refused(instance: str, weights: str, count: int, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        on(instance, weights, count)

    assert caught.value.message == message
    assert caught.value.hint


def test_a_length_that_the_cache_cannot_hold_is_said() -> None:
    """vLLM refuses to start then."""
    assert "vLLM will not start with --max-model-len 131072: the cache has room for" in on("g6.xlarge").source
    assert "will not start" not in on("g6.xlarge", max_model_len=8192).source


def test_a_gpu_without_bf16_is_said() -> None:
    found = on("g4dn.xlarge", "Qwen/Qwen3-4B", max_model_len=4096)

    assert found.source.endswith("t4 has no bf16: vLLM starts with --dtype half")


# Bytes


def test_bytes_of_weights_and_cache() -> None:
    assert engines.weights_bytes(serving(LLAMA_8B)) == 16_060_522_496
    assert engines.weights_bytes(serving("Qwen/Qwen3-8B", quantization="fp8")) == (
        models.models()["Qwen/Qwen3-8B"].weights_bytes_at(1.0)
    )
    assert engines.kv_bytes_per_token(serving(LLAMA_8B)) == 131_072


def test_nothing_known_is_no_bytes() -> None:
    assert engines.weights_bytes(serving("")) == 0
    assert engines.kv_bytes_per_token(serving("x/y")) == 0


def test_half_a_gpu_is_no_measured_row() -> None:
    half = gpus.Share(Fraction(1, 2), Fraction(1, 2), Fraction(1, 2))

    assert rates(serving(LLAMA_8B), type_of("p5.48xlarge"), share=half).source.startswith("computed: ")

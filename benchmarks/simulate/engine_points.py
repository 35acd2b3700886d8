"""How far off the first engine model is: what `engines.rates` says beside what others measured.

    .venv/bin/python benchmarks/simulate/engine_points.py [--runs ../shared/data/engine-runs] [--json FILE]

Four kinds of points:

- kernels: decode steps of 1,024 tokens of context, sums of kernel times. The table of the model is made of these, so
  they say no more than that it is read rightly; what is computed without the table is shown beside it, and that is a
  test of the formulas (whose rates come from the same kernels).
- whole requests, published: inter-token times of real engines. How many requests ran at once is not published for some
  of them (BLIS): the model's figure is for 8 sequences of 600 tokens there.
- steps and prompts measured by `gpu_points.py` on one H100: matrices of the model's shape in plain PyTorch, without an
  engine around them. The result of one such run lies beside this file (`points-h100.json`).
- whole runs, by request (--runs): the time per output token and the throughput of each recorded run, from the rates
  alone at the concurrency and contexts that were observed, once as means over the run and once second by second.
  Prompts that come in between take their share of the time.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stoker.catalog import ec2, gpus, models
from stoker.catalog.ec2 import InstanceType
from stoker.simulate import engine_tables, engines
from stoker.simulate.engines import Rates
from stoker.simulate.scenario import Serving

GPU_TYPES = {
    "l4": "g6.xlarge",
    "a10g": "g5.xlarge",
    "l40s": "g6e.48xlarge",
    "a100-40": "p4d.24xlarge",
    "a100-80": "p4de.24xlarge",
    "h100": "p5.48xlarge",
    "h200": "p5e.48xlarge",
    "rtx-pro-6000": "g7e.48xlarge",
}
LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
PUBLISHED = (
    # (what, model, GPU, tp, sequences, context, measured ms per token, source)
    ("8B A100-40, one sequence", LLAMA_8B, "a100-40", 1, 1, 200, 1000 / 75, "johnmusgrave's blog"),
    ("8B L4, one sequence", LLAMA_8B, "l4", 1, 1, 200, 62.0, "blog"),
    ("8B A10G, one sequence", LLAMA_8B, "a10g", 1, 1, 200, 33.0, "blog"),
    ("8B H100", LLAMA_8B, "h100", 1, 8, 600, 8.9, "BLIS, vLLM 0.15.1"),
    ("8B H100 x 2", LLAMA_8B, "h100", 2, 8, 600, 5.9, "BLIS, vLLM 0.15.1"),
    ("14B H100", "Qwen/Qwen3-14B", "h100", 1, 8, 600, 15.8, "BLIS, vLLM 0.15.1"),
    ("34B H100 x 2", "codellama/CodeLlama-34b-Instruct-hf", "h100", 2, 8, 600, 15.8, "BLIS, vLLM 0.15.1"),
    ("70B H100 x 4", LLAMA_70B, "h100", 4, 8, 600, 18.3, "BLIS, vLLM 0.15.1"),
    ("Llama-2-70B H100 x 4", "meta-llama/Llama-2-70b-chat-hf", "h100", 4, 8, 600, 21.3, "BLIS, vLLM 0.15.1"),
    ("70B A100 x 4, 1", LLAMA_70B, "a100-80", 4, 1, 1024, 44.5, "Splitwise, an engine of 2023"),
    ("70B A100 x 4, 32", LLAMA_70B, "a100-80", 4, 32, 1024, 52.3, "Splitwise, an engine of 2023"),
    ("70B A100 x 4, 64", LLAMA_70B, "a100-80", 4, 64, 1024, 72.9, "Splitwise, an engine of 2023"),
    ("70B H100 x 4, 1", LLAMA_70B, "h100", 4, 1, 1024, 29.4, "Splitwise, an engine of 2023"),
    ("70B H100 x 4, 32", LLAMA_70B, "h100", 4, 32, 1024, 36.9, "Splitwise, an engine of 2023"),
    ("70B H100 x 4, 64", LLAMA_70B, "h100", 4, 64, 1024, 52.4, "Splitwise, an engine of 2023"),
    ("70B A100 x 8, 1", LLAMA_70B, "a100-80", 8, 1, 1024, 45.0, "Splitwise, an engine of 2023"),
    ("70B A100 x 8, 64", LLAMA_70B, "a100-80", 8, 64, 1024, 71.6, "Splitwise, an engine of 2023"),
    ("70B H100 x 8, 1", LLAMA_70B, "h100", 8, 1, 1024, 30.6, "Splitwise, an engine of 2023"),
    ("70B H100 x 8, 64", LLAMA_70B, "h100", 8, 64, 1024, 50.2, "Splitwise, an engine of 2023"),
)
FIRST_TOKEN = (
    # (what, model, GPU, tp, prompt tokens, measured ms, source)
    ("70B A100 x 4, first token", LLAMA_70B, "a100-80", 4, (512, 2048, 4096), (127, 403, 965)),
    ("70B H100 x 4, first token", LLAMA_70B, "h100", 4, (512, 2048, 4096), (59.7, 200.7, 463.5)),
    ("70B A100 x 8, first token", LLAMA_70B, "a100-80", 8, (512, 2048, 4096), (93, 274, 661)),
    ("70B H100 x 8, first token", LLAMA_70B, "h100", 8, (512, 2048, 4096), (53.9, 136.8, 390)),
)
RUNS = {"rtx4090": ("rtx-4090", 41408), "rtxpro6000": ("rtx-pro-6000", None)}


def instance_of(gpu: str) -> InstanceType:
    if gpu == "rtx-4090":  # in no EC2 type; CUDA sees 25.25 GB of it
        return replace(instance_of("l4"), name="rtx-4090", gpu_name="rtx-4090", gpu_memory_mib=24324)
    found = ec2.find(GPU_TYPES[gpu])
    assert found is not None
    return found


def rates_of(model: str, gpu: str, tp: int, *, use_tables: bool = True) -> Rates:
    serving = Serving(model=model, weights=model, gpus=tp, dispatch="balance", concurrency=256, max_batched_tokens=2048)
    return engines.rates(serving, instance_of(gpu), use_tables=use_tables)


def step_ms(rates: Rates, sequences: int, context: int, skew: float = 1.0) -> float:
    contexts = sequences * context * rates.step_s_per_kv_token / engines.SKEW * skew
    return 1e3 * (float(rates.step_s[sequences]) + contexts)


def kernel_points() -> Iterator[dict[str, object]]:
    """The table, and the same computed without it."""
    for row in engine_tables.ROWS:
        gpu_rates = rates_of(row.reference, row.gpu, row.tp)
        without = rates_of(row.reference, row.gpu, row.tp, use_tables=False)
        for sequences, measured in row.decode_ms.items():
            more = 1e3 * overheads_s(row, sequences)
            yield point(
                f"{row.reference.rpartition('/')[2]} {row.gpu} x {row.tp}, {sequences}",
                measured,
                step_ms(gpu_rates, sequences, engine_tables.CONTEXT) - more,
                computed_ms=round(step_ms(without, sequences, engine_tables.CONTEXT) - more, 2),
                computed_error=error(measured, step_ms(without, sequences, engine_tables.CONTEXT) - more),
            )
        if row.prompt_tokens_per_ms is not None and row.tp == 1:
            yield point(
                f"{row.reference.rpartition('/')[2]} {row.gpu}, prompt tokens/ms",
                row.prompt_tokens_per_ms,
                1e-3 / gpu_rates.prefill_s_per_token,
                computed_ms=round(1e-3 / without.prefill_s_per_token, 2),
                computed_error=error(row.prompt_tokens_per_ms, 1e-3 / without.prefill_s_per_token),
            )


def overheads_s(row: engine_tables.Row, sequences: int) -> float:
    """What the model adds to kernels: communication and the engine's own work."""
    model, gpu = models.models()[row.reference], gpus.gpus()[row.gpu]
    return engines.overheads_s(model, row.tp, gpu.link, sequences)


def published_points() -> Iterator[dict[str, object]]:
    for what, model, gpu, tp, sequences, context, measured, source in PUBLISHED:
        yield point(what, measured, step_ms(rates_of(model, gpu, tp), sequences, context, engines.SKEW), source=source)
    for what, model, gpu, tp, prompts, times in FIRST_TOKEN:
        rates = rates_of(model, gpu, tp)
        for tokens, measured in zip(prompts, times, strict=True):
            said = 1e3 * (rates.prefill_s_fixed + rates.step_s[0] + tokens * rates.prefill_s_per_token)
            yield point(f"{what} {tokens}", measured, said, source="Splitwise, an engine of 2023")


def gpu_points(file: Path) -> Iterator[dict[str, object]]:
    """As `gpu_points.py` wrote them."""
    read = json.loads(file.read_text())
    rates = rates_of(LLAMA_8B, "h100", 1)
    for sequences, (median, *_) in read["decode_ms"].items():
        said = step_ms(rates, int(sequences), read["context"])
        yield point(f"8B {read['gpu']}, {sequences} sequences", median, said, source=f"torch {read['torch']}")
    for tokens, (median, *_) in read["prefill_ms"].items():
        said = 1e3 * int(tokens) * rates.prefill_s_per_token
        yield point(f"8B {read['gpu']}, prompt of {tokens}", median, said, source=f"torch {read['torch']}")


def run_points(folder: Path) -> Iterator[dict[str, object]]:
    gpu, kv_tokens = next(value for key, value in RUNS.items() if folder.name.startswith(key))
    rates = rates_of(LLAMA_8B, gpu, 1)
    with open(folder / "requests.jsonl") as lines:
        requests = [json.loads(line) for line in lines]
    began = min(each["scheduled_ts"] for each in requests)
    span = max(each["last_token_ts"] for each in requests) - began
    decoding = sum(each["last_token_ts"] - each["first_token_ts"] for each in requests)
    tokens = sum(each["output_toks"] for each in requests)
    prompts_per_s = sum(each["input_toks"] for each in requests) / span
    contexts = sum(
        (each["input_toks"] + each["output_toks"] / 2) * (each["last_token_ts"] - each["first_token_ts"])
        for each in requests
    )
    tpot = statistics.mean(
        (each["last_token_ts"] - each["first_token_ts"]) / (each["output_toks"] - 1)
        for each in requests
        if each["output_toks"] > 1
    )
    said = token_s(rates, decoding / span, contexts / decoding, prompts_per_s)
    name = folder.name
    yield point(f"{name}, ms per token, means", 1e3 * tpot, 1e3 * said, concurrency=round(decoding / span, 1))
    yield point(f"{name}, tokens/s, means", tokens / span, decoding / span / said)
    by_second = sum(each for each in tokens_by_second(rates, requests, began, span))
    yield point(f"{name}, tokens/s, by second", tokens / span, by_second / span)
    if kv_tokens is not None:
        yield point(f"{name}, tokens of cache", kv_tokens, rates.kv_tokens)


def token_s(rates: Rates, sequences: float, context: float, prompts_per_s: float) -> float:
    """Between two tokens of a sequence: a step, and the prompts that come meanwhile."""
    below = int(sequences)
    high = min(below + 1, len(rates.step_s) - 1)
    empty = float(rates.step_s[below] + (sequences - below) * (rates.step_s[high] - rates.step_s[below]))
    step = empty + sequences * context * rates.step_s_per_kv_token
    busy = prompts_per_s * rates.prefill_s_per_token
    return step / (1 - min(busy, 0.95))


def tokens_by_second(rates: Rates, requests: list[dict[str, float]], began: float, span: float) -> Iterator[float]:
    """Tokens that the rates would give in each second, with the sequences and prompts that were there in it."""
    for second in range(int(span) + 1):
        begin, end = began + second, min(began + second + 1, began + span)
        sequences = context = prompts = 0.0
        for each in requests:
            first, last = each["first_token_ts"], each["last_token_ts"]
            here = max(0.0, min(end, last) - max(begin, first))
            sequences += here
            if here:
                done = (max(begin, first) + here / 2 - first) / (last - first)
                context += here * (each["input_toks"] + done * each["output_toks"])
            prefilling = max(first - each["scheduled_ts"], 1e-6)
            prompts += each["input_toks"] * max(0.0, min(end, first) - max(begin, each["scheduled_ts"])) / prefilling
        length = end - begin
        if sequences > 0 and length > 0:
            yield sequences / token_s(rates, sequences / length, context / sequences, prompts / length)


def point(what: str, measured: float, model: float, **more: object) -> dict[str, object]:
    return {
        "point": what,
        "measured": round(measured, 2),
        "model": round(float(model), 2),
        "error": error(measured, model),
        **more,
    }


def error(measured: float, model: float) -> float:
    return round(100 * (float(model) / measured - 1), 1)


def show(title: str, points: list[dict[str, object]]) -> None:
    print(f"\n{title}")
    for each in points:
        extra = [f"computed {each['computed_ms']} ({each['computed_error']:+.1f} %)"] if "computed_ms" in each else []
        extra += [str(each[key]) for key in ("source",) if key in each]
        extra += [f"{each['concurrency']} at once"] if "concurrency" in each else []
        print(
            f"  {each['point']:58} measured {each['measured']:10.2f}  model {each['model']:10.2f}  "
            f"{each['error']:+6.1f} %  {'; '.join(extra)}"
        )
    errors = [abs(float(str(each["error"]))) for each in points]
    print(f"  mean absolute error {statistics.mean(errors):.1f} %, largest {max(errors):.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="a folder with one folder per recorded run")
    parser.add_argument("--gpu", type=Path, default=Path(__file__).with_name("points-h100.json"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = {
        "kernels": list(kernel_points()),
        "published": list(published_points()),
        "gpu": list(gpu_points(asked.gpu)),
    }
    if asked.runs is not None:
        folders = [each for each in sorted(asked.runs.iterdir()) if (each / "requests.jsonl").exists()]
        found["runs"] = [each for folder in folders for each in run_points(folder)]
    for title, points in found.items():
        show(title, points)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

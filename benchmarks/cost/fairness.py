"""Whose engine time was it? Three ways of sharing out a replica's time, beside what the engine really spent.

    .venv/bin/python benchmarks/cost/fairness.py [--seeds 3] [--rate 3] [--seconds 900]

The truth is the simulator's: it computes each step of the engine (prompt tokens and decode steps of `simulate.engines`,
on the GPU that the manifests get) and shares it out over the requests that ran in it. Three tenants are mixed: long
prompts with short answers, short prompts with long answers, and long prompts of which nine tenths are in the cache. Of
what came out, only that is used which a usage record of a running platform has, too: when each request was sent, when
it ended, its replica and its tokens. Each way gives each tenant a share of the busy time; the figure is by how many
points of a hundred it is off, for the worst tenant, as median over models, rates and seeds.

- ours: `meter.timelines`, with a token's work as `meter.costs` has it (prompt : cached prompt : answer), and others
- tokens: all tokens alike, over the whole run
- list price: tokens at list price, over the whole run
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from stoker.manifests import reading
from stoker.meter import costs
from stoker.meter.timelines import Span, Timeline
from stoker.simulate.options import Options
from stoker.simulate.reading import read_scenario
from stoker.simulate.result import SERVED, Result
from stoker.simulate.run import simulate
from stoker.simulate.trace import Trace

ROOT = Path(__file__).parents[2]
MODELS = ("general", "code")
TENANTS = ("long prompts", "long answers", "cached prompts")
# Medians of prompt and answer tokens (log-normal, sigma 0.6), share of the prompt that is cached.
SHAPES = ((2000, 60, 0.0), (150, 500, 0.0), (2000, 150, 0.9))
WEIGHTS = {
    "1 : 0.02 : 12": (costs.PROMPT_WORK, costs.CACHED_WORK, costs.COMPLETION_WORK),
    "1 : 0.5 : 4 (prices)": (1.0, 0.5, 4.0),
    "1 : 0 : 4": (1.0, 0.0, 4.0),
    "1 : 0 : 40": (1.0, 0.0, 40.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", default="0.3,1,3,6", help="Requests a second.")
    parser.add_argument("--seconds", type=float, default=900.0)
    options = parser.parse_args()
    scenario = read_scenario(reading.read([str(ROOT / "examples/by-hand")]).manifests)
    off: dict[str, list[float]] = {}
    for model in MODELS:
        for seed, rate in product(range(options.seeds), map(float, options.rates.split(","))):
            trace = mixed(model, seed, rate, options.seconds)
            result = simulate(scenario, trace, Options(seed=seed))
            truth = normalised({tenant: result.costs.by_tenant.get(tenant, 0) for tenant in TENANTS})
            found = {f"ours, {name}": ours(result, trace, weights) for name, weights in WEIGHTS.items()}
            found["tokens"] = flat(result, trace, (1.0, 1.0, 1.0))
            found["list price"] = flat(result, trace, (1.0, 0.5, 4.0))
            said = "  ".join(f"{tenant} {100 * truth[tenant]:.1f} %" for tenant in TENANTS)
            print(f"{model}, {rate:g} a second, seed {seed}: {len(trace)} requests; the engine's time: {said}")
            for name, shares in found.items():
                off.setdefault(name, []).append(max(abs(shares[each] - truth[each]) for each in TENANTS) * 100)
    print(f"\n{'points off, the worst tenant':<32} {'median':>7} {'most':>7}")
    for name, values in sorted(off.items(), key=lambda item: statistics.median(item[1])):
        print(f"{name:<32} {statistics.median(values):7.1f} {max(values):7.1f}")


def mixed(model: str, seed: int, rate: float, seconds: float) -> Trace:
    random = np.random.default_rng(seed)
    count = int(rate * seconds)
    tenant = random.integers(0, len(TENANTS), count).astype(np.int32)
    shapes = np.array(SHAPES)[tenant]
    prompt = np.clip(shapes[:, 0] * random.lognormal(0, 0.6, count), 10, 8000).astype(np.int32)
    answer = np.clip(shapes[:, 1] * random.lognormal(0, 0.6, count), 5, 2000).astype(np.int32)
    return Trace(
        name="mixed",
        at_s=np.sort(random.uniform(0, seconds, count)),
        prompt_tokens=prompt,
        completion_tokens=answer,
        cached_tokens=(prompt * shapes[:, 2]).astype(np.int32),
        model=np.zeros(count, np.int16),
        tenant=tenant,
        models=(model,),
        tenants=TENANTS,
    )


def ours(result: Result, trace: Trace, weights: tuple[float, float, float]) -> dict[str, float]:
    by_replica: dict[int, list[Span[str]]] = {}
    each(
        result,
        trace,
        weights,
        lambda i, replica, began, ended, work: by_replica.setdefault(replica, []).append(
            Span(TENANTS[trace.tenant[i]], began, ended, work)
        ),
    )
    sums = dict.fromkeys(TENANTS, 0.0)
    for spans in by_replica.values():
        for tenant, seconds in Timeline(spans).seconds(0.0, 1e9).items():
            sums[tenant] += seconds
    return normalised(sums)


def flat(result: Result, trace: Trace, weights: tuple[float, float, float]) -> dict[str, float]:
    sums = dict.fromkeys(TENANTS, 0.0)

    def add(i: int, replica: int, began: float, ended: float, work: float) -> None:
        sums[TENANTS[trace.tenant[i]]] += work

    each(result, trace, weights, add)
    return normalised(sums)


def each(
    result: Result,
    trace: Trace,
    weights: Sequence[float],
    do: Callable[[int, int, float, float, float], object],
) -> None:
    of = result.outcomes
    for i in np.flatnonzero(of.state == SERVED):
        cached = int(of.cached_tokens[i])
        tokens = (int(trace.prompt_tokens[i]) - cached, cached, int(of.completion_tokens[i]))
        work = sum(weight * count for weight, count in zip(weights, tokens, strict=True))
        do(int(i), int(of.replica[i]), float(of.started_at[i]), float(of.done_at[i]), work)


def normalised(sums: Mapping[str, float]) -> dict[str, float]:
    whole = sum(sums.values())
    return {name: value / whole for name, value in sums.items()}


if __name__ == "__main__":
    main()

"""What no cluster could run is refused: which key, which value, what would be right."""

import pytest

from stoker.base.errors import InvalidInput
from stoker.render.run import render
from stoker.spec import loads

CPU_POOL = "karpenter: {{nodePools: {{gpu: {{}}, cpu: {{use: general, {}}}}}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("redis: {url: redis://127.0.0.1:6379/0}", "redis.url names 127.0.0.1, which in a pod is the pod itself"),
        ("ledger: {url: postgresql://u@localhost/db}", "ledger.url names localhost, which in a pod is the pod itself"),
        (
            "llm: {models: {general: {engine: {url: 'http://[::1]:8000/v1'}}}}",
            "llm.models.general.engine.url names ::1, which in a pod is the pod itself",
        ),
        (
            "llm: {models: {general: {engine: {url: 'https://a.example.com/v1', apiKeyEnv: STOKER_ENGINE_KEY}}}}",
            "llm.models.general.engine.apiKeyEnv is STOKER_ENGINE_KEY, which the platform itself sets in its pods",
        ),
        (
            "karpenter: {nodePools: {gpu: {instanceFamilies: [g66, g6]}}}",
            "karpenter.nodePools.gpu.instanceFamilies: g66 is no instance family that is known here",
        ),
        (
            "karpenter: {nodePools: {gpu: {instanceFamilies: [p5e]}}}",
            "karpenter.nodePools.gpu.instanceFamilies: p5e has no type with a price on demand and an x86 processor; "
            "what is sold as capacity blocks only is not chosen",
        ),
        (
            CPU_POOL.format("instanceFamilies: [c7i]") + "redis: {master: {persistence: {size: 200Gi}}}",
            "StatefulSet redis asks for 550m CPU and 64.1 GiB, and fits no type of karpenter.nodePools.cpu; the "
            "largest, c7i.8xlarge, has 55.3 GiB to give",
        ),
        (
            CPU_POOL.format("instanceFamilies: [m7i], maxUsdPerHour: 0.8"),
            "karpenter.nodePools.cpu: what needs no GPU may ask for 18 vCPU, and maxUsdPerHour 0.8 buys 15",
        ),
        (
            CPU_POOL.format("instanceFamilies: [m7i], maxUsdPerHour: 0.1"),
            "karpenter.nodePools.cpu.maxUsdPerHour is 0.1, and one m7i.xlarge may cost 0.20 USD an hour at most",
        ),
    ],
)
def test_it_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        render(loads(text))
    assert refused.value.message == message
    assert refused.value.hint


def test_names_of_the_greatest_length_are_cut_where_something_is_added() -> None:
    pool, model = "p" * 40, "m" * 40
    shared = "{count: 1, memory: 8Gi, sharing: mps}"
    text = f"""\
karpenter: {{nodePools: {{{pool}: {{}}}}}}
llm: {{models: {{{model}: {{serving: {{gpu: {shared}}}}}}}}}
"""
    texts = render(loads(text), only=["nodes"])
    names = [line.split()[-1] for text in texts.values() for line in text.splitlines() if line.startswith("  name: ")]
    assert max(map(len, names)) == 63

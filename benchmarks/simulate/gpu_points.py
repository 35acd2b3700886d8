"""What one GPU needs for a decode step and for a prompt of a model's shape, measured, beside what `engines.rates` says.

    python benchmarks/simulate/gpu_points.py [--layers N] [--json FILE]

Needs torch and a GPU, and nothing else: weights are random numbers of the shape of Llama-3.1-8B in bfloat16 (32
layers, hidden 4096, 32 heads, 8 of them for keys and values, 14336 between, 128256 tokens), caches hold 1,024 tokens
of context per sequence. Decode steps run as a CUDA graph. It is the physics without an engine: no scheduler, sampling
by the largest logit, no paged cache. A step cannot be faster than reading the weights once: that floor stands beside.
"""

import argparse
import json
import statistics
import sys

import torch
from torch.nn import functional

HIDDEN, HEADS, KV_HEADS, HEAD, BETWEEN, VOCABULARY = 4096, 32, 8, 128, 14336, 128256
CONTEXT = 1024
BATCHES = (1, 8, 32, 64, 128, 256)
PROMPTS = (512, 2048, 8192)
TRIES = 20


class Shape:
    def __init__(self, layers: int) -> None:
        def weight(rows: int, columns: int) -> torch.Tensor:
            return torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16) * 0.02

        self.layers = [
            (
                weight((HEADS + 2 * KV_HEADS) * HEAD, HIDDEN),
                weight(HIDDEN, HEADS * HEAD),
                weight(2 * BETWEEN, HIDDEN),
                weight(HIDDEN, BETWEEN),
            )
            for _ in range(layers)
        ]
        self.head = weight(VOCABULARY, HIDDEN)
        self.norm = torch.ones(HIDDEN, device="cuda", dtype=torch.bfloat16)

    @property
    def bytes(self) -> int:
        return 2 * (sum(each.numel() for layer in self.layers for each in layer) + self.head.numel())

    def _heads(self, x: torch.Tensor, qkv: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = functional.linear(functional.rms_norm(x, (HIDDEN,), self.norm), qkv)
        return out.split((HEADS * HEAD, KV_HEADS * HEAD, KV_HEADS * HEAD), dim=-1)

    def _rest(self, x: torch.Tensor, mixed: torch.Tensor, layer: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x = x + functional.linear(mixed, layer[1])
        gate, up = functional.linear(functional.rms_norm(x, (HIDDEN,), self.norm), layer[2]).chunk(2, dim=-1)
        return x + functional.linear(functional.silu(gate) * up, layer[3])

    def decode(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """x [batch, HIDDEN]; keys and values [batch, KV_HEADS, CONTEXT, HEAD], the same for each layer: reading them is
        what costs. Query heads of one key head go together, as four positions."""
        batch = len(x)
        for layer in self.layers:
            q, k, v = self._heads(x, layer[0])
            keys[:, :, -1] = k.view(batch, KV_HEADS, HEAD)
            values[:, :, -1] = v.view(batch, KV_HEADS, HEAD)
            grouped = q.view(batch, KV_HEADS, HEADS // KV_HEADS, HEAD)
            mixed = functional.scaled_dot_product_attention(grouped, keys, values)
            x = self._rest(x, mixed.reshape(batch, HEADS * HEAD), layer)
        return functional.linear(x, self.head).argmax(-1)

    def prefill(self, x: torch.Tensor) -> torch.Tensor:
        """x [tokens, HIDDEN]"""
        tokens = len(x)
        for layer in self.layers:
            q, k, v = self._heads(x, layer[0])
            q, k, v = (each.view(1, tokens, -1, HEAD).transpose(1, 2) for each in (q, k, v))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = self._rest(x, mixed.transpose(1, 2).reshape(tokens, HEADS * HEAD), layer)
        return functional.linear(x[-1:], self.head).argmax(-1)


def timed_ms(run: object) -> tuple[float, float, float]:
    """Median, least, most."""
    found = []
    for _ in range(TRIES):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        run()  # type: ignore[operator]
        ended.record()
        torch.cuda.synchronize()
        found.append(began.elapsed_time(ended))
    return statistics.median(found), min(found), max(found)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--json")
    asked = parser.parse_args()
    shape = Shape(asked.layers)
    big = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(big)
    for _ in range(3):
        other.copy_(big)
    copy_ms = timed_ms(lambda: other.copy_(big))[0]
    bandwidth = 2 * (1 << 31) / copy_ms / 1e6
    big = other = None
    found: dict[str, object] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "layers": asked.layers,
        "context": CONTEXT,
        "weights_gb": shape.bytes / 1e9,
        "copy_gb_per_s": bandwidth,
        "floor_ms": shape.bytes / bandwidth / 1e6,
        "decode_ms": {},
        "prefill_ms": {},
    }
    for batch in BATCHES:
        x = torch.randn(batch, HIDDEN, device="cuda", dtype=torch.bfloat16)
        keys = torch.randn(batch, KV_HEADS, CONTEXT, HEAD, device="cuda", dtype=torch.bfloat16)
        values = torch.randn_like(keys)
        for _ in range(3):
            shape.decode(x, keys, values)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            shape.decode(x, keys, values)
        graph.replay()
        found["decode_ms"][batch] = timed_ms(graph.replay)  # type: ignore[index]
        print(f"decode {batch:4}: {found['decode_ms'][batch][0]:7.2f} ms", file=sys.stderr)  # type: ignore[index]
        del graph
    for tokens in PROMPTS:
        x = torch.randn(tokens, HIDDEN, device="cuda", dtype=torch.bfloat16)
        for _ in range(3):
            shape.prefill(x)
        found["prefill_ms"][tokens] = timed_ms(lambda x=x: shape.prefill(x))  # type: ignore[index]
        ms = found["prefill_ms"][tokens][0]  # type: ignore[index]
        print(f"prefill {tokens:5}: {ms:8.2f} ms, {tokens / ms:6.1f} tokens/ms", file=sys.stderr)
    text = json.dumps(found, indent=1)
    print(text)
    if asked.json:
        with open(asked.json, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()

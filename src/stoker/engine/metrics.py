"""What the engine counts, under the names that vLLM gives it, so that one dashboard and one scaler read both.

(docs.vllm.ai, "Metrics"; the label `model_name` is vLLM's too.)
"""

from collections.abc import Callable

from stoker.telemetry.metrics import LATENCY_BUCKETS, Metrics

# Seconds between tokens: the embedded engine makes one in a millisecond, a large model in a hundred.
_TOKEN_BUCKETS = LATENCY_BUCKETS[:12]


class EngineMetrics:
    def __init__(self, metrics: Metrics, model: str, usage: Callable[[], tuple[int, int, float]]) -> None:
        """`usage` gives the requests running and waiting and the share of the cache in use, when asked."""
        self.metrics = metrics
        label, one = {"model_name": model}, ["model_name"]
        self._usage = usage
        self._running = metrics.gauge("vllm:num_requests_running", "Requests in the batch", one).labels(**label)
        self._waiting = metrics.gauge("vllm:num_requests_waiting", "Requests waiting for a slot", one).labels(**label)
        self._cache = metrics.gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1", one).labels(
            **label
        )
        self.prompt_tokens = metrics.counter("vllm:prompt_tokens_total", "Prompt tokens computed", one).labels(**label)
        self.generation_tokens = metrics.counter("vllm:generation_tokens_total", "Tokens generated", one).labels(
            **label
        )
        self.first_token = metrics.histogram("vllm:time_to_first_token_seconds", "Arrival to first token", one).labels(
            **label
        )
        self.inter_token = metrics.histogram(
            "vllm:inter_token_latency_seconds", "Between two tokens of a request", one, _TOKEN_BUCKETS
        ).labels(**label)
        self.per_token = metrics.histogram(
            "vllm:request_time_per_output_token_seconds", "Mean time per token after the first", one, _TOKEN_BUCKETS
        ).labels(**label)
        self.latency = metrics.histogram("vllm:e2e_request_latency_seconds", "Arrival to last token", one).labels(
            **label
        )
        self.queue_time = metrics.histogram("vllm:request_queue_time_seconds", "Arrival to a slot", one).labels(**label)
        finished = metrics.counter(
            "vllm:request_success_total", "Requests that ended, by how", ["model_name", "finished_reason"]
        )
        self.finished = {reason: finished.labels(model, reason) for reason in ("stop", "length", "abort", "error")}

    def text(self) -> bytes:
        running, waiting, cache = self._usage()
        self._running.set(running)
        self._waiting.set(waiting)
        self._cache.set(cache)
        return self.metrics.text()

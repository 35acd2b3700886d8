"""What the gateway counts, for Prometheus. Labels: a model of the platform, and words from short lists."""

from collections.abc import Iterable, Mapping
from typing import get_args

from stoker.meter import UsageRecord
from stoker.policy.breaker import State
from stoker.policy.budgets import Amounts
from stoker.queue import Depth
from stoker.telemetry.metrics import Metrics, Spread, Sum

MOST_CODES, OTHER = 100, "(other)"


class Measures:
    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._known: dict[tuple[str, str], tuple[Sum, Sum, Sum, Sum, Sum, Spread]] = {}
        self._requests = metrics.sums("stoker_requests_total", "Requests that ended.", ["model", "status"])
        self._refused = metrics.counter("stoker_refused_total", "Requests that were answered with an error.", ["code"])
        self._tokens = metrics.sums("stoker_tokens_total", "Tokens, by what they were.", ["model", "type"])
        self._cached = metrics.sums(
            "stoker_cached_tokens_total", "Tokens of the input that a prefix cache had, a part of it.", ["model"]
        )
        self._billed = metrics.sums(
            "stoker_billed_usd_total", "Dollars by the list prices of models.", ["model"], parts=10**9
        )
        self._duration = metrics.spreads("stoker_request_duration_seconds", "From request to end.", ["model"])
        self._replicas = metrics.gauge("stoker_replicas", "Replicas, by their circuit breaker.", ["model", "breaker"])
        self._codes = {"budget_exhausted"}
        self._refused.labels("budget_exhausted")  # from 0 on: an alert sees the first one
        # What replicas are scaled on: docs/autoscaling.md.
        self._in_flight = metrics.gauge(
            "stoker_requests_in_flight", "Requests that this gateway has on replicas, past the queue.", ["model"]
        )
        self._lag = metrics.gauge(
            "stoker_queue_lag", "Tasks that wait: the lag of the stream's group, as KEDA reads it.", ["model"]
        )
        self._pending = metrics.gauge("stoker_queue_pending", "Tasks that run: the group's pending entries.", ["model"])
        self._delayed = metrics.gauge("stoker_queue_delayed", "Tasks that wait for their next attempt.", ["model"])
        self._dead = metrics.gauge("stoker_queue_dead", "Dead letters: tasks that were given up.", ["model"])
        self._oldest = metrics.gauge(
            "stoker_queue_oldest_seconds", "How long the oldest task has waited since it was submitted.", ["model"]
        )
        self._waiting_tokens = metrics.gauge(
            "stoker_queue_waiting_tokens", "Tokens that are reserved for the tasks that wait.", ["model"]
        )
        self._set_aside_tokens = self._set_aside_nano_usd = 0
        metrics.gauge(
            "stoker_reserved_tokens", "Tokens set aside for requests that run; those of tasks are waiting_tokens."
        ).set_function(lambda: self._set_aside_tokens)
        metrics.gauge("stoker_reserved_usd", "Dollars set aside for requests that run.").set_function(
            lambda: self._set_aside_nano_usd / 1e9
        )
        self._per_token = metrics.spreads(
            "stoker_time_per_output_token_seconds",
            "Mean time from one token of a stream to the next, by request.",
            ["model"],
        )
        self._first = metrics.spreads(
            "stoker_time_to_first_token_seconds", "From request to the first token of a stream.", ["model"]
        )

    def ended(self, record: UsageRecord) -> None:
        model, status, first_at = record.model, record.status, record.first_token_at
        requests, prompt, cached, completion, billed, duration = self._known.get((model, status)) or self._of(
            model, status
        )
        requests.value += 1
        prompt.value += record.prompt_tokens
        cached.value += record.cached_tokens
        completion.value += record.completion_tokens
        billed.value += record.nano_usd
        duration.add(record.ended_at - record.started_at)
        if first_at is not None:
            self._first[(model,)].add(first_at - record.started_at)
            if record.completion_tokens > 1:
                self._per_token[(model,)].add((record.ended_at - first_at) / (record.completion_tokens - 1))

    def set_aside(self, most: Amounts) -> None:
        """A request was let in that may cost so much."""
        self._set_aside_tokens += most.tokens
        self._set_aside_nano_usd += most.nano_usd

    def set_free(self, most: Amounts) -> None:
        """It has ended, or a task holds it now."""
        self._set_aside_tokens -= most.tokens
        self._set_aside_nano_usd -= most.nano_usd

    def _of(self, model: str, status: str) -> tuple[Sum, Sum, Sum, Sum, Sum, Spread]:
        """What each request of this kind adds to, looked up once."""
        known = self._known[model, status] = (
            self._requests[model, status],
            self._tokens[model, "input"],
            self._cached[(model,)],
            self._tokens[model, "output"],
            self._billed[(model,)],
            self._duration[(model,)],
        )
        return known

    def replicas(self, models: Iterable[str], breakers: Mapping[tuple[str, str], int]) -> None:
        """How many replicas of a model have a breaker in a state, as it is when somebody asks."""
        for model in models:
            for state in get_args(State):
                self._replicas.labels(model, state).set(breakers.get((model, state), 0))

    def in_flight(self, models: Iterable[str], counted: Mapping[str, int]) -> None:
        for model in models:
            self._in_flight.labels(model).set(counted.get(model, 0))

    def queued(self, depths: Mapping[str, tuple[Depth, int]], oldest_s: Mapping[str, float]) -> None:
        """By model, how much there is in the queue, how many tokens wait, and for how long the oldest task has. What is
        not in it has no sample: whoever scales on it has to see that nobody knows, not a number of a while ago."""
        for gauge in (self._lag, self._pending, self._delayed, self._dead, self._waiting_tokens, self._oldest):
            gauge.clear()
        for model, seconds in oldest_s.items():
            self._oldest.labels(model).set(seconds)
        for model, (depth, tokens) in depths.items():
            self._lag.labels(model).set(depth.lag)
            self._pending.labels(model).set(depth.pending)
            self._delayed.labels(model).set(depth.delayed)
            self._dead.labels(model).set(depth.dead)
            self._waiting_tokens.labels(model).set(tokens)

    def refused(self, code: str) -> None:
        """A code may be that of somebody else's server, which says what it likes: after MOST_CODES they are one."""
        if code not in self._codes:
            code = code if len(self._codes) < MOST_CODES else OTHER
            self._codes.add(code)
        self._refused.labels(code).inc()

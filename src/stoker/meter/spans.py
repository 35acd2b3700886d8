"""What a span says of what a request or a task came to: for the gateway and the worker."""

from typing import Any

from stoker.meter.charge import Charge
from stoker.meter.cost import usd

OPERATIONS = {"/v1/completions": "text_completion", "/v1/embeddings": "embeddings"}
"""As OpenTelemetry calls what is asked at a path; all others are "chat"."""


def usage_attributes(charge: Charge) -> dict[str, Any]:
    first_s = None if charge.first_token_at is None else charge.first_token_at - charge.started_at
    return {
        "gen_ai.provider.name": "stoker",
        "gen_ai.response.model": charge.model,
        "gen_ai.usage.input_tokens": charge.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": charge.cached_tokens or None,
        "gen_ai.usage.output_tokens": charge.completion_tokens,
        "stoker.time_to_first_token_s": first_s,
        "stoker.replica": charge.replica,
        "stoker.attempts": charge.attempts,
        "stoker.cost_usd": float(usd(charge.nano_usd())),
    }

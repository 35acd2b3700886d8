"""What a redis-streams trigger counts."""

from stoker.lint.rules.keda._views import STREAMS, Trigger

LAG, PENDING, LENGTH = "lag", "pending", "length"
THRESHOLDS = {"lagCount": LAG, "pendingEntriesCount": PENDING, "streamLength": LENGTH}


def mode(trigger: Trigger) -> str:
    """1. a group and a lagCount: what the group has not read; 2. a group: what it has read and not acknowledged;
    3. no group: all entries of the stream."""
    if not trigger.metadata.get("consumerGroup", "").strip():
        return LENGTH
    return LAG if trigger.metadata.get("lagCount", "").strip() not in ("", "0") else PENDING


def stream(trigger: Trigger) -> tuple[str, str]:
    return trigger.metadata.get("stream", ""), trigger.metadata.get("consumerGroup", "")


def counts_work(trigger: Trigger) -> bool | None:
    """Whether the trigger's value includes what is being worked on; None where that is not known."""
    if trigger.type in STREAMS:
        return mode(trigger) != LAG
    if trigger.type == "aws-sqs-queue":
        return trigger.metadata.get("scaleOnInFlight", "true").strip().lower() not in ("false", "f", "0")
    return None

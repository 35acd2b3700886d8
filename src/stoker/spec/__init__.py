"""`platform.yaml`: what is wanted of the platform, as frozen types. Loaded once, handed down, never changed.

Everybody above imports from here. In YAML the keys are camelCase, in Python snake_case (`global` is `global_`).
"""

from stoker.spec.budgets import NO_BUDGETS, Budgets, Priority, Team, Tenant, WhenBusy, WhenRedisIsAway
from stoker.spec.guide import Architecture, Autoscaling, Global, Inference, Karpenter, Keda, NodePool, Training
from stoker.spec.llm import AUTO, EMBEDDED, TASKS, Limits, Llm, Model, Prices, Replicas, ServerEngine, Task
from stoker.spec.loading import dump, load, loads, read_section
from stoker.spec.platform import Platform
from stoker.spec.reference import template
from stoker.spec.schema import json_schema
from stoker.spec.secrets import engine_key
from stoker.spec.section import plain
from stoker.spec.services import RESERVED_ROUTES, Gateway, Ledger, MaxWaiting, Queue, Redis, Sessions, Timeouts
from stoker.spec.spot import Spot

__all__ = [
    "AUTO",
    "EMBEDDED",
    "NO_BUDGETS",
    "RESERVED_ROUTES",
    "TASKS",
    "Architecture",
    "Autoscaling",
    "Budgets",
    "Gateway",
    "Global",
    "Inference",
    "Karpenter",
    "Keda",
    "Ledger",
    "Limits",
    "Llm",
    "MaxWaiting",
    "Model",
    "NodePool",
    "Platform",
    "Prices",
    "Priority",
    "Queue",
    "Redis",
    "Replicas",
    "ServerEngine",
    "Sessions",
    "Spot",
    "Task",
    "Team",
    "Tenant",
    "Timeouts",
    "Training",
    "WhenBusy",
    "WhenRedisIsAway",
    "dump",
    "engine_key",
    "json_schema",
    "load",
    "loads",
    "plain",
    "read_section",
    "template",
]

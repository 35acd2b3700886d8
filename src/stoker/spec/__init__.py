"""`platform.yaml`: what is wanted of the platform, as frozen types. Loaded once, handed down, never changed.

Everybody above imports from here. In YAML the keys are camelCase, in Python snake_case (`global` is `global_`). The
types are made when the first of them is asked for: who only reads YAML (`stoker lint`) does not wait for them.
"""

from typing import TYPE_CHECKING

from stoker.base.lazy import names_of

if TYPE_CHECKING:
    from stoker.spec.agents import AGENT_STEPS, Agent, Agents, RunLimits, Tool
    from stoker.spec.budgets import NO_BUDGETS, Budgets, Priority, Team, Tenant, WhenBusy, WhenRedisIsAway
    from stoker.spec.costs import Costs
    from stoker.spec.edge import Edge
    from stoker.spec.guide import Architecture, Autoscaling, Global, Gpu, Inference, Keda, Mode
    from stoker.spec.llm import AUTO, EMBEDDED, TASKS, Limits, Llm, Model, Prices, Replicas, ServerEngine, Serving, Task
    from stoker.spec.loading import dump, load, load_chosen, load_run, loads, read_section, run_of
    from stoker.spec.nodes import Karpenter, NodePool
    from stoker.spec.platform import Platform
    from stoker.spec.reference import template
    from stoker.spec.run import Run
    from stoker.spec.schema import json_schema, run_json_schema
    from stoker.spec.secrets import engine_key
    from stoker.spec.section import plain
    from stoker.spec.services import RESERVED_ROUTES, Gateway, Ledger, MaxWaiting, Queue, Redis, Sessions, Timeouts
    from stoker.spec.spot import Spot
    from stoker.spec.training import Training

_HOMES = {
    "agents": ["AGENT_STEPS", "Agent", "Agents", "RunLimits", "Tool"],
    "budgets": ["NO_BUDGETS", "Budgets", "Priority", "Team", "Tenant", "WhenBusy", "WhenRedisIsAway"],
    "costs": ["Costs"],
    "edge": ["Edge"],
    "guide": ["Architecture", "Autoscaling", "Global", "Gpu", "Inference", "Keda", "Mode"],
    "llm": [
        "AUTO",
        "EMBEDDED",
        "TASKS",
        "Limits",
        "Llm",
        "Model",
        "Prices",
        "Replicas",
        "ServerEngine",
        "Serving",
        "Task",
    ],
    "loading": ["dump", "load", "load_chosen", "load_run", "loads", "read_section", "run_of"],
    "nodes": ["Karpenter", "NodePool"],
    "platform": ["Platform"],
    "reference": ["template"],
    "run": ["Run"],
    "schema": ["json_schema", "run_json_schema"],
    "secrets": ["engine_key"],
    "section": ["plain"],
    "services": ["RESERVED_ROUTES", "Gateway", "Ledger", "MaxWaiting", "Queue", "Redis", "Sessions", "Timeouts"],
    "spot": ["Spot"],
    "training": ["Training"],
}
__getattr__ = names_of(__name__, _HOMES)

__all__ = [
    "AGENT_STEPS",
    "AUTO",
    "EMBEDDED",
    "NO_BUDGETS",
    "RESERVED_ROUTES",
    "TASKS",
    "Agent",
    "Agents",
    "Architecture",
    "Autoscaling",
    "Budgets",
    "Costs",
    "Edge",
    "Gateway",
    "Global",
    "Gpu",
    "Inference",
    "Karpenter",
    "Keda",
    "Ledger",
    "Limits",
    "Llm",
    "MaxWaiting",
    "Mode",
    "Model",
    "NodePool",
    "Platform",
    "Prices",
    "Priority",
    "Queue",
    "Redis",
    "Replicas",
    "Run",
    "RunLimits",
    "ServerEngine",
    "Serving",
    "Sessions",
    "Spot",
    "Task",
    "Team",
    "Tenant",
    "Timeouts",
    "Tool",
    "Training",
    "WhenBusy",
    "WhenRedisIsAway",
    "dump",
    "engine_key",
    "json_schema",
    "load",
    "load_chosen",
    "load_run",
    "loads",
    "plain",
    "read_section",
    "run_json_schema",
    "run_of",
    "template",
]

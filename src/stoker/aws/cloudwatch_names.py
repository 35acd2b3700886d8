"""The metrics that Stoker puts into CloudWatch: their names, namespaces and dimensions, for who puts them and for who
asks for them.

The namespaces and, where it has a metric, its name are the guide's, spelled right (`AgenicAI` there). Asked for with
another set of dimensions than it is put with, a metric has no data.
"""

from collections.abc import Mapping
from types import MappingProxyType

TOKENS = "AgenticAI/Tokens"
COST = "AgenticAI/Cost"
QUEUE = "AgenticAI/Queue"
TRAINING = "AgenticAI/Training"

PROMPT, CACHED, COMPLETION = "PromptTokens", "CachedTokens", "CompletionTokens"
REQUESTS, ERRORS, FIRST_TOKEN = "Requests", "Errors", "TimeToFirstToken"
DROPPED = "MetricsDropped"
LIST_PRICE, INSTANCE_COST = "ListPrice", "GPUInstanceCost"
WAITING, RUNNING, IN_FLIGHT = "TasksWaiting", "TasksRunning", "RequestsInFlight"

CLUSTER, MODEL, TENANT = "ClusterName", "ModelName", "TenantName"
INSTANCE_TYPE, CAPACITY_TYPE = "InstanceType", "CapacityType"

_OF_REQUESTS = (
    *((TOKENS, name) for name in (PROMPT, CACHED, COMPLETION, REQUESTS, ERRORS, FIRST_TOKEN)),
    (COST, LIST_PRICE),
)

PUT: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        **dict.fromkeys(_OF_REQUESTS, ((CLUSTER, MODEL), (CLUSTER, TENANT))),
        (TOKENS, DROPPED): ((CLUSTER,),),
        (COST, INSTANCE_COST): (tuple(sorted((CLUSTER, INSTANCE_TYPE, CAPACITY_TYPE))),),
        **{(QUEUE, name): ((CLUSTER, MODEL),) for name in (WAITING, RUNNING, IN_FLIGHT)},
    }
)
"""(namespace, metric) -> the sets of dimensions, sorted, that the gateway puts it with. With TENANT only for tenants
that `global.observability.cloudwatchTenants` lists."""

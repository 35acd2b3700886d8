"""CloudWatch's alarms. Thresholds are those of the alerts for Prometheus where both know the same."""

from collections.abc import Iterator
from dataclasses import dataclass

from stoker.aws import cloudwatch_names as names
from stoker.policy.gpu_health import HOT_C, IDLE_PERCENT, MEMORY_PART
from stoker.render.hcl import Block, Raw
from stoker.render.monitoring_rules import capacities
from stoker.render.plan import Plan

INSIGHTS = "ContainerInsights"
SQS = "AWS/SQS"


@dataclass(frozen=True)
class Alarm:
    name: str
    """As in Terraform; with hyphens in CloudWatch."""
    says: str
    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str
    period_s: int
    periods: int
    above: float | None = None
    below: float | None = None
    why: str = ""

    def block(self, plan: Plan) -> Block:
        """Without data it stays as it is: no nodes, no tokens and no tasks are nothing wrong."""
        is_above = self.above is not None
        topic = [Raw("aws_sns_topic.alarms.arn")]
        attributes = {
            "alarm_name": f"{plan.cluster}-{self.name.replace('_', '-')}",
            "alarm_description": self.says,
            "namespace": self.namespace,
            "metric_name": self.metric,
            "dimensions": dict(self.dimensions),
            "statistic": self.statistic,
            "period": self.period_s,
            "evaluation_periods": self.periods,
            "comparison_operator": "GreaterThanThreshold" if is_above else "LessThanThreshold",
            "threshold": self.above if is_above else self.below,
            "treat_missing_data": "notBreaching",
            "alarm_actions": topic,
            "ok_actions": topic,
            "tags": plan.tags,
        }
        return Block("resource", ("aws_cloudwatch_metric_alarm", self.name), attributes)


def alarms(plan: Plan) -> Iterator[Alarm]:
    cluster = (("ClusterName", plan.cluster),)
    if plan.gpu_exporter == "addon":
        yield from _of_gpus(cluster)
    yield Alarm(
        "node_failed",
        "A node has a condition that makes it unfit, such as a GPU that the node monitoring agent holds for broken.",
        INSIGHTS,
        "cluster_failed_node_count",
        cluster,
        "Maximum",
        60,
        5,
        above=0,
        why="XID errors: the add-on's exporter has no metric of them. Where the EKS node monitoring agent runs (always "
        "in Auto Mode), those of the hardware make the node fail.",
    )
    for name, tasks in capacities(plan).items():
        yield Alarm(
            f"queue_{name.replace('-', '_')}",
            f"More tasks wait for {name} than all of its replicas can run at once.",
            names.QUEUE,
            names.WAITING,
            (*cluster, (names.MODEL, name)),
            "Maximum",
            60,
            10,
            above=tasks,
        )
    if plan.spec.keda.scalers.sqs:
        yield Alarm(
            "dead_letters",
            "Tasks were given up: see `stoker tasks dead`.",
            SQS,
            "ApproximateNumberOfMessagesVisible",
            (("QueueName", plan.spec.queue.dead_letters.sqs_queue),),
            "Maximum",
            300,
            1,
            above=0,
        )
    if watches_interruptions(plan):
        yield Alarm(
            "interruptions_unread",
            "Karpenter does not read what EC2 says of spot interruptions: nodes go without being drained.",
            SQS,
            "ApproximateAgeOfOldestMessage",
            (("QueueName", plan.interruption_queue),),
            "Maximum",
            60,
            5,
            above=120,
            why="Two minutes is all the notice that there is.",
        )


def watches_interruptions(plan: Plan) -> bool:
    """Whether there is a queue of interruptions: Auto Mode looks after its nodes without one."""
    return plan.spec.karpenter.enabled and plan.mode != "auto"


def _of_gpus(cluster: tuple[tuple[str, str], ...]) -> Iterator[Alarm]:
    yield Alarm(
        "gpu_memory",
        "A GPU has no memory left.",
        INSIGHTS,
        "node_gpu_memory_utilization",
        cluster,
        "Maximum",
        300,
        3,
        above=MEMORY_PART * 100,
        why="Per cent, and not 90: vLLM takes nine tenths at its start and keeps them.",
    )
    yield Alarm(
        "gpu_hot",
        "A GPU is so hot that it slows down.",
        INSIGHTS,
        "node_gpu_temperature",
        cluster,
        "Maximum",
        300,
        3,
        above=HOT_C,
    )
    yield Alarm(
        "gpu_idle",
        "All GPUs have been idle for two hours, and are paid for.",
        INSIGHTS,
        "node_gpu_utilization",
        cluster,
        "Average",
        3600,
        2,
        below=IDLE_PERCENT,
        why="Without nodes there is no data, and no alarm.",
    )

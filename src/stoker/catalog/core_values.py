"""What Kubernetes' published schemas of its own kinds leave out, since it is Go code there: values and required fields.

Only what holds in every supported minor. Names of definitions are written without `io.k8s.api.`.
"""

from typing import Any

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_API = "io.k8s.api."

_PULL = ("Always", "IfNotPresent", "Never")
_MESSAGES = ("File", "FallbackToLogsOnError")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_PROFILES = ("Unconfined", "RuntimeDefault", "Localhost")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MODES = ("Filesystem", "Block")
_ACCESS = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_HONOR = ("Honor", "Ignore")
_TRAFFIC = ("Cluster", "Local")
_KEEP = ("Retain", "Delete")
_PREEMPTION = ("Never", "PreemptLowerPriority")

ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "admissionregistration.v1.MutatingWebhook": {
        "failurePolicy": ("Ignore", "Fail"),
        "matchPolicy": ("Exact", "Equivalent"),
        "reinvocationPolicy": ("Never", "IfNeeded"),
        "sideEffects": ("None", "NoneOnDryRun"),
    },
    "admissionregistration.v1.ValidatingWebhook": {
        "failurePolicy": ("Ignore", "Fail"),
        "matchPolicy": ("Exact", "Equivalent"),
        "sideEffects": ("None", "NoneOnDryRun"),
    },
    "apps.v1.DaemonSetUpdateStrategy": {"type": ("RollingUpdate", "OnDelete")},
    "apps.v1.DeploymentStrategy": {"type": ("Recreate", "RollingUpdate")},
    "apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy": {"whenDeleted": _KEEP, "whenScaled": _KEEP},
    "apps.v1.StatefulSetSpec": {"podManagementPolicy": ("OrderedReady", "Parallel")},
    "apps.v1.StatefulSetUpdateStrategy": {"type": ("RollingUpdate", "OnDelete")},
    "autoscaling.v2.HPAScalingPolicy": {"type": ("Pods", "Percent")},
    "autoscaling.v2.HPAScalingRules": {"selectPolicy": ("Max", "Min", "Disabled")},
    "autoscaling.v2.MetricSpec": {"type": ("ContainerResource", "External", "Object", "Pods", "Resource")},
    "autoscaling.v2.MetricTarget": {"type": ("Utilization", "Value", "AverageValue")},
    "batch.v1.CronJobSpec": {"concurrencyPolicy": ("Allow", "Forbid", "Replace")},
    "batch.v1.JobSpec": {
        "completionMode": ("NonIndexed", "Indexed"),
        "podReplacementPolicy": ("TerminatingOrFailed", "Failed"),
    },
    "batch.v1.PodFailurePolicyOnExitCodesRequirement": {"operator": ("In", "NotIn")},
    "batch.v1.PodFailurePolicyRule": {"action": ("FailJob", "FailIndex", "Ignore", "Count")},
    "core.v1.AppArmorProfile": {"type": _PROFILES},
    "core.v1.Container": {
        "imagePullPolicy": _PULL,
        "restartPolicy": ("Always", "OnFailure", "Never"),
        "terminationMessagePolicy": _MESSAGES,
    },
    "core.v1.ContainerPort": {"protocol": _PROTOCOLS},
    "core.v1.EphemeralContainer": {"imagePullPolicy": _PULL, "terminationMessagePolicy": _MESSAGES},
    "core.v1.HTTPGetAction": {"scheme": ("HTTP", "HTTPS")},
    "core.v1.HostPathVolumeSource": {
        "type": ("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice")
    },
    "core.v1.NodeSelectorRequirement": {"operator": ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")},
    "core.v1.PersistentVolumeClaimSpec": {"accessModes": _ACCESS, "volumeMode": _MODES},
    "core.v1.PersistentVolumeSpec": {
        "accessModes": _ACCESS,
        "persistentVolumeReclaimPolicy": ("Retain", "Delete", "Recycle"),
        "volumeMode": _MODES,
    },
    "core.v1.PodOS": {"name": ("linux", "windows")},
    "core.v1.PodSecurityContext": {"fsGroupChangePolicy": ("OnRootMismatch", "Always")},
    "core.v1.PodSpec": {
        "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
        "preemptionPolicy": _PREEMPTION,
        "restartPolicy": ("Always", "OnFailure", "Never"),
    },
    "core.v1.SeccompProfile": {"type": _PROFILES},
    "core.v1.SecurityContext": {"procMount": ("Default", "Unmasked")},
    "core.v1.ServicePort": {"protocol": _PROTOCOLS},
    "core.v1.ServiceSpec": {
        "externalTrafficPolicy": _TRAFFIC,
        "internalTrafficPolicy": _TRAFFIC,
        "ipFamilies": ("IPv4", "IPv6"),
        "ipFamilyPolicy": ("SingleStack", "PreferDualStack", "RequireDualStack"),
        "sessionAffinity": ("None", "ClientIP"),
        "type": ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    },
    "core.v1.Taint": {"effect": _EFFECTS},
    # Lt and Gt stand behind a feature gate: a cluster may have them.
    "core.v1.Toleration": {"effect": _EFFECTS, "operator": ("Exists", "Equal", "Lt", "Gt")},
    "core.v1.TopologySpreadConstraint": {
        "nodeAffinityPolicy": _HONOR,
        "nodeTaintsPolicy": _HONOR,
        "whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    },
    "core.v1.VolumeMount": {
        "mountPropagation": ("None", "HostToContainer", "Bidirectional"),
        "recursiveReadOnly": ("Disabled", "IfPossible", "Enabled"),
    },
    "networking.v1.HTTPIngressPath": {"pathType": ("Exact", "Prefix", "ImplementationSpecific")},
    "networking.v1.NetworkPolicyPort": {"protocol": _PROTOCOLS},
    "networking.v1.NetworkPolicySpec": {"policyTypes": ("Ingress", "Egress")},
    "policy.v1.PodDisruptionBudgetSpec": {"unhealthyPodEvictionPolicy": ("IfHealthyBudget", "AlwaysAllow")},
    "rbac.v1.RoleRef": {"kind": ("Role", "ClusterRole")},
    "rbac.v1.Subject": {"kind": ("User", "Group", "ServiceAccount")},
    "scheduling.v1.PriorityClass": {"preemptionPolicy": _PREEMPTION},
    "storage.v1.StorageClass": {
        "reclaimPolicy": ("Retain", "Delete", "Recycle"),
        "volumeBindingMode": ("Immediate", "WaitForFirstConsumer"),
    },
    f"{_META}LabelSelectorRequirement": {"operator": ("In", "NotIn", "Exists", "DoesNotExist")},
}
"""Definition -> field -> what it may be; of a list, what its items may be."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "apps.v1.DaemonSet": ("spec",),
    "apps.v1.Deployment": ("spec",),
    "apps.v1.ReplicaSet": ("spec",),
    "apps.v1.StatefulSet": ("spec",),
    "autoscaling.v2.HorizontalPodAutoscaler": ("spec",),
    "batch.v1.CronJob": ("spec",),
    "batch.v1.Job": ("spec",),
    "core.v1.Container": ("image",),
    "core.v1.EphemeralContainer": ("image",),
    "core.v1.PersistentVolumeClaim": ("spec",),
    "core.v1.PersistentVolumeClaimSpec": ("accessModes", "resources"),
    "core.v1.PersistentVolumeSpec": ("accessModes", "capacity"),
    "core.v1.Pod": ("spec",),
    "core.v1.PodTemplateSpec": ("spec",),
    "core.v1.Service": ("spec",),
    "networking.v1.Ingress": ("spec",),
}
"""Definition -> fields that the API server demands although the published schema does not."""


def completed(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    """A definition with what stands here; the definition itself where nothing does."""
    short = name.removeprefix(_API)
    enums, required = ENUMS.get(short, {}), REQUIRED.get(short, ())
    properties = definition.get("properties")
    if not isinstance(properties, dict) or not (enums or required):
        return definition
    properties = dict(properties)
    for field, values in enums.items():
        tree = properties.get(field)
        if isinstance(tree, dict) and tree.get("type") == "array":
            properties[field] = {**tree, "items": {**tree.get("items", {}), "enum": list(values)}}
        elif isinstance(tree, dict):
            properties[field] = {**tree, "enum": list(values)}
    listed = dict.fromkeys([*definition.get("required", ()), *required])
    return {**definition, "properties": properties, "required": [each for each in listed if each in properties]}

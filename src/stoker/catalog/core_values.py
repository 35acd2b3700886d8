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
    "apps.v1.ReplicaSetSpec": ("template",),
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

OPTIONAL: dict[str, tuple[str, ...]] = {
    "core.v1.HTTPHeader": ("value",),
    "core.v1.LimitRangeSpec": ("limits",),
    "core.v1.PreferredSchedulingTerm": ("preference",),
    "core.v1.SleepAction": ("seconds",),
    "core.v1.Sysctl": ("value",),
}
"""Definition -> fields that the published schema demands although the API server takes them for empty or 0."""

_WORKLOADS = ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")
_RBAC = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
_GONE: dict[str, tuple[tuple[str, ...], str, str]] = {
    "apps/v1beta1": (_WORKLOADS, "1.16", "apps/v1"),
    "apps/v1beta2": (_WORKLOADS, "1.16", "apps/v1"),
    "autoscaling/v2beta1": (("HorizontalPodAutoscaler",), "1.25", "autoscaling/v2"),
    "autoscaling/v2beta2": (("HorizontalPodAutoscaler",), "1.26", "autoscaling/v2"),
    "batch/v1beta1": (("CronJob",), "1.25", "batch/v1"),
    "discovery.k8s.io/v1beta1": (("EndpointSlice",), "1.25", "discovery.k8s.io/v1"),
    "apiextensions.k8s.io/v1beta1": (("CustomResourceDefinition",), "1.22", "apiextensions.k8s.io/v1"),
    "networking.k8s.io/v1beta1": (("Ingress", "IngressClass"), "1.22", "networking.k8s.io/v1"),
    "node.k8s.io/v1beta1": (("RuntimeClass",), "1.25", "node.k8s.io/v1"),
    "policy/v1beta1": (("PodDisruptionBudget",), "1.25", "policy/v1"),
    "rbac.authorization.k8s.io/v1beta1": (_RBAC, "1.22", "rbac.authorization.k8s.io/v1"),
    "scheduling.k8s.io/v1beta1": (("PriorityClass",), "1.22", "scheduling.k8s.io/v1"),
    "storage.k8s.io/v1beta1": (
        ("CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"),
        "1.22",
        "storage.k8s.io/v1",
    ),
}
_EXTENSIONS = {**dict.fromkeys(_WORKLOADS, ("1.16", "apps/v1")), "NetworkPolicy": ("1.16", "networking.k8s.io/v1")}
_EXTENSIONS["Ingress"] = ("1.22", "networking.k8s.io/v1")


def gone(api_version: str, kind: str) -> str:
    """Since when Kubernetes no longer serves one of its own kinds in a version, and what to write; or an empty text."""
    if kind == "PodSecurityPolicy":
        return "Kubernetes 1.25 took PodSecurityPolicy away; label namespaces with pod-security.kubernetes.io/enforce"
    if api_version == "extensions/v1beta1" and kind in _EXTENSIONS:
        since, now = _EXTENSIONS[kind]
    elif kind in _GONE.get(api_version, ((),))[0]:
        _, since, now = _GONE[api_version]
    else:
        return ""
    return f"Kubernetes {since} took {api_version} {kind} away; write {now}"


def completed(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    """A definition with what stands here; the definition itself where nothing does."""
    short = name.removeprefix(_API)
    enums, required, optional = ENUMS.get(short, {}), REQUIRED.get(short, ()), OPTIONAL.get(short, ())
    properties = definition.get("properties")
    if not isinstance(properties, dict) or not (enums or required or optional):
        return definition
    properties = dict(properties)
    for field, values in enums.items():
        tree = properties.get(field)
        if isinstance(tree, dict) and tree.get("type") == "array":
            properties[field] = {**tree, "items": {**tree.get("items", {}), "enum": list(values)}}
        elif isinstance(tree, dict):
            properties[field] = {**tree, "enum": list(values)}
    listed = dict.fromkeys([*definition.get("required", ()), *required])
    return {
        **definition,
        "properties": properties,
        "required": [each for each in listed if each in properties and each not in optional],
    }

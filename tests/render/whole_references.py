"""Each selector finds something, each reference resolves: by plain look-ups over the objects."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from whole import OUTSIDE_NAMESPACES, Object, Output, Pod, Tree, matches, sections, strings

OUTSIDE_CLASSES = frozenset(("alb", "nvidia"))
_HOST = re.compile(
    r"\b([a-z](?:[a-z0-9-]*[a-z0-9])?)\.([a-z](?:[a-z0-9-]*[a-z0-9])?)\.svc(?:\.cluster\.local)?(?::(\d+))?"
)
_BUILT_IN_ROLES = frozenset(("view", "edit", "admin", "cluster-admin", "system:auth-delegator"))
_BUILT_IN_PRIORITIES = frozenset(("system-node-critical", "system-cluster-critical"))


def problems(output: Output) -> Iterator[str]:
    for check in (
        *(
            _accounts,
            _roles,
            _mounts,
            _secrets_and_maps,
            _claims,
            _classes,
            _services,
            _hosts,
            _scaled,
            _workload_selectors,
        ),
        *(_network, _monitors, _nodes, _routes, _ack, _stores, _queues, _training, _workflows, _argo, _networked_ports),
    ):
        yield from check(output)


def selected(output: Output, namespace: str, selector: Tree | None) -> list[Pod]:
    """The pods that a selector finds: those that are rendered, and those that a controller makes for a Gateway."""
    proxies = [
        Pod(each, {"containers": []}, {"gateway.networking.k8s.io/gateway-name": each.name})
        for each in output.of("Gateway")
        if each.namespace == namespace
    ]
    return [pod for pod in proxies if selector and matches(selector, pod.labels)] + [
        pod for pod in output.pods if pod.namespace == namespace and matches(selector, pod.labels)
    ]


# -- pods and what they name --


def _accounts(output: Output) -> Iterator[str]:
    for pod in output.pods:
        name = pod.spec.get("serviceAccountName")
        if name and "{" not in name and not output.has("ServiceAccount", pod.namespace, name):
            yield f"{pod}: there is no ServiceAccount {name}"
    for each in output.of("PodIdentityAssociation"):
        name, namespace = each.spec["serviceAccount"], each.spec["namespace"]
        if namespace in output.namespaces and not output.has("ServiceAccount", namespace, name):
            yield f"{each}: there is no ServiceAccount {namespace}/{name}"


def _roles(output: Output) -> Iterator[str]:
    for each in output.of("RoleBinding", "ClusterRoleBinding"):
        role = each.data["roleRef"]
        if role["name"] not in _BUILT_IN_ROLES and not output.has(role["kind"], each.namespace, role["name"]):
            yield f"{each}: there is no {role['kind']} {role['name']}"
        for subject in each.data.get("subjects", ()):
            if subject["kind"] == "ServiceAccount":
                namespace = subject.get("namespace", each.namespace)
                outside = namespace in OUTSIDE_NAMESPACES
                if not outside and not output.has("ServiceAccount", namespace, subject["name"]):
                    yield f"{each}: there is no ServiceAccount {namespace}/{subject['name']}"


def _mounts(output: Output) -> Iterator[str]:
    for pod in output.pods:
        claims = pod.owner.spec.get("volumeClaimTemplates", ()) if pod.owner.kind == "StatefulSet" else ()
        claims = [*claims, *(_leader_worker_claims(pod.owner))]
        there = {each["name"] for each in pod.spec.get("volumes") or ()} | {each["metadata"]["name"] for each in claims}
        mounted = {mount["name"] for each in pod.containers for mount in each.get("volumeMounts", ())}
        for name in mounted ^ there:
            yield f"{pod}: the volume {name} is {'mounted and not there' if name in mounted else 'never mounted'}"


def _leader_worker_claims(owner: Object) -> list[Tree]:
    return owner.spec.get("volumeClaimTemplates", []) if owner.kind == "LeaderWorkerSet" else []


def secret_keys(output: Output) -> dict[tuple[str, str], set[str] | None]:
    """The Secrets that there will be, with their keys; None where any key may be there."""
    found: dict[tuple[str, str], set[str] | None] = {}
    for each in output.of("Secret"):
        found[each.namespace, each.name] = {*each.data.get("data", {}), *each.data.get("stringData", {})}
    for each in output.of("ExternalSecret"):
        target = each.spec.get("target", {})
        keys: set[str] | None = {item["secretKey"] for item in each.spec.get("data", ())}
        if template := target.get("template", {}).get("data"):
            keys = set(template) | (keys or set() if target["template"].get("mergePolicy") == "Merge" else set())
        elif each.spec.get("dataFrom"):
            keys = None
        found[each.namespace, target.get("name", each.name)] = keys
    return found


def map_keys(output: Output) -> dict[tuple[str, str], set[str]]:
    """The ConfigMaps with their keys, those that ACK fills in among them."""
    found = {
        (each.namespace, each.name): {*each.data.get("data", {}), *each.data.get("binaryData", {})}
        for each in output.of("ConfigMap")
    }
    for each in output.of("FieldExport"):
        to = each.spec["to"]
        if to["kind"] == "configmap":
            found.setdefault((to.get("namespace", each.namespace), to["name"]), set()).add(to["key"])
    return found


def _secrets_and_maps(output: Output) -> Iterator[str]:
    secrets = secret_keys(output)
    maps = map_keys(output)
    for owner, kind, namespace, name, key, optional in _named(output):
        known: Mapping[tuple[str, str], set[str] | None] = secrets if kind == "Secret" else maps
        if "{" in name or optional or namespace in OUTSIDE_NAMESPACES:
            continue
        if (namespace, name) not in known:
            yield f"{owner}: there is no {kind} {namespace}/{name}"
            continue
        keys = known[namespace, name]
        if key is not None and keys is not None and key not in keys:
            yield f"{owner}: the {kind} {name} has no key {key}; it has {sorted(keys)}"


def _named(output: Output) -> Iterator[tuple[Object, str, str, str, str | None, bool]]:
    """Every mention of a Secret or ConfigMap: by whom, kind, namespace, name, key, whether it may be missing."""
    for each in output.objects:
        if each.kind == "ResourceGraphDefinition":
            continue
        for tree in sections(each.data):
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if isinstance(ref := tree.get(field), dict) and "name" in ref:
                    yield each, kind, each.namespace, ref["name"], ref.get("key"), ref.get("optional", False)
            for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if isinstance(ref := tree.get(field), dict) and "name" in ref and each.kind != "SecretStore":
                    yield each, kind, each.namespace, ref["name"], None, ref.get("optional", False)
        for ref in each.spec.get("secretTargetRef", ()) if "TriggerAuthentication" in each.kind else ():
            yield each, "Secret", each.namespace, ref["name"], ref["key"], False
        for ref in each.spec.get("configMapTargetRef", ()) if "TriggerAuthentication" in each.kind else ():
            yield each, "ConfigMap", each.namespace, ref["name"], ref["key"], False
        if each.group.endswith("services.k8s.aws"):
            for tree in sections(each.spec):
                if {"key", "name"} <= set(tree) and set(tree) <= {"key", "name", "namespace"} and "tags" not in tree:
                    yield each, "Secret", tree.get("namespace", each.namespace), tree["name"], tree["key"], False
    for pod in output.pods:
        for ref in pod.spec.get("imagePullSecrets", ()):
            yield pod.owner, "Secret", pod.namespace, ref["name"], None, False
        for volume in pod.spec.get("volumes") or ():
            sources = [volume, *volume.get("projected", {}).get("sources", ())]
            for source in sources:
                for field, kind, name_key in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
                    if ref := source.get(field):
                        name = ref.get(name_key) or ref.get("name")
                        for item in ref.get("items", ({"key": None},)):
                            yield pod.owner, kind, pod.namespace, name, item["key"], ref.get("optional", False)


def _claims(output: Output) -> Iterator[str]:
    for pod in output.pods:
        for volume in pod.spec.get("volumes") or ():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and "{" not in claim and not output.has("PersistentVolumeClaim", pod.namespace, claim):
                yield f"{pod}: there is no PersistentVolumeClaim {claim}"
    for each in output.of("PersistentVolumeClaim"):
        volume = each.spec.get("volumeName")
        if volume and not output.has("PersistentVolume", "", volume):
            yield f"{each}: there is no PersistentVolume {volume}"
        if not any(
            volume.get("persistentVolumeClaim", {}).get("claimName") == each.name
            for pod in output.pods
            if pod.namespace == each.namespace
            for volume in pod.spec.get("volumes") or ()
        ):
            yield f"{each}: nobody mounts it"


def _classes(output: Output) -> Iterator[str]:
    for each in output.objects:
        for tree in sections(each.data):
            name = tree.get("storageClassName")
            if isinstance(name, str) and name and "{" not in name and not output.has("StorageClass", "", name):
                yield f"{each}: there is no StorageClass {name}"
            name = tree.get("priorityClassName")
            is_own = isinstance(name, str) and name not in _BUILT_IN_PRIORITIES and "{" not in name
            if is_own and not output.has("PriorityClass", "", name):
                yield f"{each}: there is no PriorityClass {name}"


# -- services and their addresses --


def _ports_of(pods: list[Pod]) -> tuple[set[str], set[int]]:
    ports = [port for pod in pods for each in pod.containers for port in each.get("ports", ())]
    # A worker declares no port, since nothing but Prometheus comes there: its arguments say it.
    arguments = [each.get("args", ()) for pod in pods for each in pod.containers]
    said = {int(args[args.index("--metrics-port") + 1]) for args in arguments if "--metrics-port" in args}
    return {port["name"] for port in ports if "name" in port}, {port["containerPort"] for port in ports} | said


def _services(output: Output) -> Iterator[str]:
    for each in output.of("Service"):
        if each.spec.get("type") == "ExternalName":
            continue
        pods = selected(output, each.namespace, {"matchLabels": each.spec.get("selector") or {"": ""}})
        if not pods:
            yield f"{each}: its selector finds no pods"
            continue
        names, numbers = _ports_of(pods)
        for port in each.spec["ports"]:
            target = port.get("targetPort", port["port"])
            if target not in (names if isinstance(target, str) else numbers):
                yield f"{each}: its pods have no port {target}"
    for each in output.of("StatefulSet"):
        name = each.spec.get("serviceName")
        if name and not output.has("Service", each.namespace, name):
            yield f"{each}: there is no Service {name}"


def _hosts(output: Output) -> Iterator[str]:
    """`NAME.NAMESPACE.svc:PORT` wherever it stands, and `POD.NAME.NAMESPACE.svc` of a StatefulSet."""
    for each in output.objects:
        if each.kind == "ResourceGraphDefinition":
            continue
        for _, text in strings(each.data):
            for name, namespace, port in _HOST.findall(text):
                if namespace not in output.namespaces:
                    continue
                service = output.by_name.get(("Service", namespace, name))
                if service is None:
                    yield f"{each}: there is no Service {namespace}/{name}, which {text[:80]!r} names"
                elif service.spec.get("clusterIP") == "None" or not port:
                    continue
                elif int(port) not in {each["port"] for each in service.spec["ports"]}:
                    yield f"{each}: the Service {namespace}/{name} has no port {port}"


def backend(output: Output, namespace: str, name: str, port: Any) -> str:
    """What is wrong with a reference to a port of a Service; empty for nothing."""
    service = output.by_name.get(("Service", namespace, name))
    if service is None:
        return f"there is no Service {namespace}/{name}"
    ports = [value for each in service.spec["ports"] for value in (each["port"], each.get("name"))]
    return "" if port is None or port in ports else f"the Service {name} has no port {port}"


def _routes(output: Output) -> Iterator[str]:
    for each in output.of("Ingress"):
        for tree in sections(each.spec):
            service = tree.get("service")
            if isinstance(service, dict) and service.get("port") != {"name": "use-annotation"}:
                port = service["port"].get("number", service["port"].get("name"))
                if wrong := backend(output, each.namespace, service["name"], port):
                    yield f"{each}: {wrong}"
        if (name := each.spec.get("ingressClassName")) not in OUTSIDE_CLASSES and not output.has(
            "IngressClass", "", str(name)
        ):
            yield f"{each}: there is no IngressClass {name}"
    for each in output.of("HTTPRoute", "GRPCRoute"):
        for ref in each.spec.get("parentRefs", ()):
            gateway = output.by_name.get(("Gateway", ref.get("namespace", each.namespace), ref["name"]))
            if gateway is None:
                yield f"{each}: there is no Gateway {ref['name']}"
            elif "sectionName" in ref and ref["sectionName"] not in [one["name"] for one in gateway.spec["listeners"]]:
                yield f"{each}: the Gateway {ref['name']} has no listener {ref['sectionName']}"
        for tree in sections(each.spec):
            for ref in tree.get("backendRefs", ()):
                kind, namespace = ref.get("kind", "Service"), ref.get("namespace", each.namespace)
                if kind != "Service":
                    if not output.has(kind, namespace, ref["name"]):
                        yield f"{each}: there is no {kind} {namespace}/{ref['name']}"
                elif wrong := backend(output, namespace, ref["name"], ref.get("port")):
                    yield f"{each}: {wrong}"
    for each in output.of("InferencePool"):
        selector = each.spec.get("selector", {})
        pods = selected(output, each.namespace, selector if "matchLabels" in selector else {"matchLabels": selector})
        if not pods:
            yield f"{each}: its selector finds no pods"
        numbers = _ports_of(pods)[1]
        for port in [one["number"] for one in each.spec.get("targetPorts", ())]:
            if pods and port not in numbers:
                yield f"{each}: its pods have no port {port}"
        ref = each.spec.get("endpointPickerRef") or each.spec.get("extensionRef") or {}
        if ref.get("kind", "Service") == "Service" and "name" in ref:
            port = ref.get("port", {}).get("number") if isinstance(ref.get("port"), dict) else ref.get("portNumber")
            if wrong := backend(output, each.namespace, ref["name"], port):
                yield f"{each}: {wrong}"
    for each in output.of("TargetGroupBinding"):
        ref = each.spec["serviceRef"]
        if wrong := backend(output, each.namespace, ref["name"], ref["port"]):
            yield f"{each}: {wrong}"


# -- what scales, guards and watches --


def _scaled(output: Output) -> Iterator[str]:
    for each in output.of("ScaledObject", "ScaledJob", "HorizontalPodAutoscaler"):
        ref = each.spec.get("scaleTargetRef")
        if ref:
            target = output.by_name.get((ref.get("kind", "Deployment"), each.namespace, ref["name"]))
            if target is None:
                yield f"{each}: there is no {ref.get('kind', 'Deployment')} {ref['name']}"
            elif ref.get("apiVersion", "apps/v1") != target.data["apiVersion"]:
                yield f"{each}: {target} is of {target.data['apiVersion']}, not {ref.get('apiVersion', 'apps/v1')}"
            elif "replicas" in target.spec:
                yield f"{target}: its replicas are fixed, and {each} scales it"
        for trigger in each.spec.get("triggers", ()):
            auth = trigger.get("authenticationRef")
            if auth and not output.has(auth.get("kind", "TriggerAuthentication"), each.namespace, auth["name"]):
                yield f"{each}: there is no {auth.get('kind', 'TriggerAuthentication')} {auth['name']}"
            variables = {
                variable["name"]
                for pod in output.pods
                if ref
                and (pod.owner.kind, pod.owner.namespace, pod.owner.name)
                == (ref.get("kind", "Deployment"), each.namespace, ref["name"])
                for container in pod.containers
                for variable in container.get("env", ())
            }
            for key, value in trigger.get("metadata", {}).items():
                if key.endswith("FromEnv") and value not in variables:
                    yield f"{each}: no container of its target has the variable {value}"
    for each in output.of("TriggerAuthentication"):
        if not any(
            trigger.get("authenticationRef", {}).get("name") == each.name
            for scaler in output.of("ScaledObject", "ScaledJob")
            if scaler.namespace == each.namespace
            for trigger in scaler.spec["triggers"]
        ):
            yield f"{each}: nobody uses it"
    scaled = [
        (e.namespace, ref.get("kind", "Deployment"), ref["name"])
        for e in output.of("ScaledObject", "HorizontalPodAutoscaler")
        if (ref := e.spec.get("scaleTargetRef"))
    ]
    for key in {each for each in scaled if scaled.count(each) > 1}:
        yield f"two scalers of {key}"


def _workload_selectors(output: Output) -> Iterator[str]:
    for pod in output.pods:
        selector = pod.owner.spec.get("selector")
        if pod.owner.kind in ("Deployment", "StatefulSet", "DaemonSet", "Rollout") and not matches(
            selector, pod.labels
        ):
            yield f"{pod}: its selector does not find its own pods"
        elif pod.owner.kind in ("Deployment", "StatefulSet", "DaemonSet", "Rollout"):
            others = {str(each.owner) for each in selected(output, pod.namespace, selector)} - {str(pod.owner)}
            for other in others:
                yield f"{pod}: its selector finds the pods of {other}, too"
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            if not matches(spread.get("labelSelector"), pod.labels):
                yield f"{pod}: a topologySpreadConstraint does not count its own pods"
        affinity = pod.spec.get("affinity", {})
        for kind in ("podAffinity", "podAntiAffinity"):
            for tree in sections(affinity.get(kind, {})):
                if "labelSelector" in tree and not selected(output, pod.namespace, tree["labelSelector"]):
                    yield f"{pod}: a term of {kind} finds no pods"
    for each in output.of("PodDisruptionBudget"):
        if not selected(output, each.namespace, each.spec["selector"]):
            yield f"{each}: its selector finds no pods"


def _network(output: Output) -> Iterator[str]:
    """Selectors of NetworkPolicies: an empty one means all pods of a namespace."""
    labels_of = {
        each.name: {"kubernetes.io/metadata.name": each.name, **each.labels} for each in output.of("Namespace")
    }
    for each in output.of("NetworkPolicy"):
        own = each.spec["podSelector"]
        targets = selected(output, each.namespace, own)
        if own and not targets:
            yield f"{each}: its podSelector finds no pods"
        for way, field in (("ingress", "from"), ("egress", "to")):
            for rule in each.spec.get(way) or ():
                peers: list[Pod] = []
                outside = field not in rule
                for peer in rule.get(field, ()):
                    if "ipBlock" in peer:
                        outside = True
                        continue
                    spaces = [each.namespace]
                    if "namespaceSelector" in peer:
                        spaces = [
                            name for name, labels in labels_of.items() if matches(peer["namespaceSelector"], labels)
                        ]
                        named = peer["namespaceSelector"].get("matchLabels", {}).get("kubernetes.io/metadata.name")
                        expressed = {
                            value
                            for one in peer["namespaceSelector"].get("matchExpressions", ())
                            for value in one.get("values", ())
                        }
                        if not spaces:
                            if not ({named, *expressed} - {None}) & OUTSIDE_NAMESPACES:
                                yield f"{each}: a namespaceSelector finds no namespace: {peer}"
                            outside = True
                            continue
                        outside = outside or peer["namespaceSelector"] == {}
                    pods = [pod for space in spaces for pod in selected(output, space, peer.get("podSelector", {}))]
                    if not pods and peer.get("podSelector") and not (outside or peer.get("namespaceSelector") == {}):
                        yield f"{each}: a podSelector of {way} finds no pods: {peer['podSelector']}"
                    peers += pods
                receivers = targets if way == "ingress" else peers
                names, numbers = _ports_of(receivers)
                for port in rule.get("ports", ()):
                    number = port.get("port")
                    if number is None or (way == "egress" and outside) or not numbers:
                        continue
                    if "endPort" not in port and number not in (names if isinstance(number, str) else numbers):
                        yield f"{each}: no pod that {way} leads to has the port {number}"


def _networked_ports(output: Output) -> Iterator[str]:
    """Probes and lifecycle handlers that name a port."""
    for pod in output.pods:
        for container in pod.containers:
            names = {port["name"]: port["containerPort"] for port in container.get("ports", ()) if "name" in port}
            for tree in sections({k: v for k, v in container.items() if k.endswith("Probe") or k == "lifecycle"}):
                for field in ("httpGet", "tcpSocket", "grpc"):
                    port = tree.get(field, {}).get("port") if isinstance(tree.get(field), dict) else None
                    if isinstance(port, str) and port not in names:
                        yield f"{pod}: a probe of {container['name']} names the port {port}, which it does not have"


def _monitors(output: Output) -> Iterator[str]:
    for each in output.of("ServiceMonitor", "PodMonitor"):
        among = each.spec.get("namespaceSelector", {})
        spaces = among.get("matchNames", [each.namespace])
        outside = bool(set(spaces) & OUTSIDE_NAMESPACES) or among.get("any")
        if each.kind == "ServiceMonitor":
            services = [
                one
                for one in output.of("Service")
                if one.namespace in spaces and matches(each.spec["selector"], one.labels)
            ]
            if not services and not outside:
                yield f"{each}: its selector finds no Service"
            for endpoint in each.spec["endpoints"]:
                names = [port.get("name") for one in services for port in one.spec["ports"]]
                if services and "port" in endpoint and endpoint["port"] not in names:
                    yield f"{each}: no Service that it selects has a port {endpoint['port']}; they have {names}"
        else:
            pods = [pod for space in spaces for pod in selected(output, space, each.spec["selector"])]
            if not pods and not outside:
                yield f"{each}: its selector finds no pods"
            names = sorted(_ports_of(pods)[0])
            for endpoint in each.spec["podMetricsEndpoints"]:
                if pods and "port" in endpoint and endpoint["port"] not in names:
                    yield f"{each}: no pod that it selects has a port {endpoint['port']}; they have {names}"


# -- nodes, AWS, queues, training, Argo --


def _nodes(output: Output) -> Iterator[str]:
    used = set()
    for each in output.of("NodePool"):
        ref = each.spec["template"]["spec"]["nodeClassRef"]
        used.add((ref["kind"], ref["name"]))
        node_class = output.by_name.get((ref["kind"], "", ref["name"]))
        if node_class is None:
            yield f"{each}: there is no {ref['kind']} {ref['name']}"
        elif node_class.group != ref["group"]:
            yield f"{each}: {node_class} is not of the group {ref['group']}"
    for each in output.of("EC2NodeClass", "NodeClass"):
        if (each.kind, each.name) not in used:
            yield f"{each}: no pool uses it"


def _ack(output: Output) -> Iterator[str]:
    """`bucketRef: {from: {name: x}}` names an ACK object of the same namespace."""
    there = {(each.namespace, each.name) for each in output.objects if each.group.endswith(".services.k8s.aws")}
    for each in output.objects:
        if each.group.endswith(".services.k8s.aws"):
            for tree in sections(each.spec):
                ref = tree.get("from")
                if (
                    isinstance(ref, dict)
                    and "name" in ref
                    and (ref.get("namespace", each.namespace), ref["name"]) not in there
                ):
                    yield f"{each}: there is no ACK object {ref['name']}"


def _stores(output: Output) -> Iterator[str]:
    for each in output.of("ExternalSecret"):
        ref = each.spec["secretStoreRef"]
        if not output.has(ref.get("kind", "SecretStore"), each.namespace, ref["name"]):
            yield f"{each}: there is no {ref.get('kind', 'SecretStore')} {ref['name']}"
    for each in output.of("SecretStore", "ClusterSecretStore"):
        if not any(one.spec["secretStoreRef"]["name"] == each.name for one in output.of("ExternalSecret")):
            yield f"{each}: no ExternalSecret uses it"


def _queues(output: Output) -> Iterator[str]:
    for each in output.of("LocalQueue"):
        if not output.has("ClusterQueue", "", each.spec["clusterQueue"]):
            yield f"{each}: there is no ClusterQueue {each.spec['clusterQueue']}"
    flavors = set()
    for each in output.of("ClusterQueue"):
        for flavor in [one for group in each.spec.get("resourceGroups", ()) for one in group["flavors"]]:
            flavors.add(flavor["name"])
            if not output.has("ResourceFlavor", "", flavor["name"]):
                yield f"{each}: there is no ResourceFlavor {flavor['name']}"
    for each in output.of("ResourceFlavor"):
        if each.name not in flavors:
            yield f"{each}: no ClusterQueue has it"
        labels, taken = each.spec.get("nodeLabels", {}), False
        for pool in output.of("NodePool"):
            given = pool.spec["template"].get("metadata", {}).get("labels", {})
            taken = taken or all(given.get(key, value) == value for key, value in labels.items())
        if output.of("NodePool") and not taken:
            yield f"{each}: no NodePool gives its labels {labels}"
    for each in output.objects:
        queue = each.labels.get("kueue.x-k8s.io/queue-name")
        if queue and not output.has("LocalQueue", each.namespace, queue):
            yield f"{each}: there is no LocalQueue {queue}"
        priority = each.labels.get("kueue.x-k8s.io/priority-class")
        if priority and not output.has("WorkloadPriorityClass", "", priority):
            yield f"{each}: there is no WorkloadPriorityClass {priority}"


def _training(output: Output) -> Iterator[str]:
    for each in output.of("TrainJob"):
        ref = each.spec["runtimeRef"]
        if not output.has(ref.get("kind", "ClusterTrainingRuntime"), each.namespace, ref["name"]):
            yield f"{each}: there is no {ref.get('kind', 'ClusterTrainingRuntime')} {ref['name']}"


def _workflows(output: Output) -> Iterator[str]:
    for each in output.of("Workflow", "WorkflowTemplate", "CronWorkflow"):
        spec = each.spec.get("workflowSpec", each.spec)
        names = [template["name"] for template in spec.get("templates", ())]
        asked = [spec["entrypoint"]] if "entrypoint" in spec and names else []
        asked += [spec["onExit"]] if "onExit" in spec else []
        tasks = [task for template in spec.get("templates", ()) for task in template.get("dag", {}).get("tasks", ())]
        steps = [step for template in spec.get("templates", ()) for row in template.get("steps", ()) for step in row]
        asked += [step["template"] for step in (*tasks, *steps) if "template" in step]
        for name in set(asked) - set(names):
            yield f"{each}: there is no template {name}; there are {names}"
        for tree in sections(spec):
            for field, key in (("templateRef", "name"), ("workflowTemplateRef", "name")):
                ref = tree.get(field)
                if isinstance(ref, dict) and not output.has("WorkflowTemplate", each.namespace, ref[key]):
                    yield f"{each}: there is no WorkflowTemplate {ref[key]}"
        account = spec.get("serviceAccountName")
        if account and not output.has("ServiceAccount", each.namespace, account):
            yield f"{each}: there is no ServiceAccount {account}"


def _argo(output: Output) -> Iterator[str]:
    for each in output.of("Application"):
        if each.spec["project"] != "default" and not any(
            one.name == each.spec["project"] for one in output.of("AppProject")
        ):
            yield f"{each}: there is no AppProject {each.spec['project']}"
    for each in output.of("Rollout"):
        for key in ("canaryService", "stableService"):
            name = each.spec.get("strategy", {}).get("canary", {}).get(key)
            if name and not output.has("Service", each.namespace, name):
                yield f"{each}: there is no Service {name}"
        for tree in sections(each.spec.get("strategy")):
            for ref in tree.get("templates", ()):
                if "templateName" in ref and not output.has("AnalysisTemplate", each.namespace, ref["templateName"]):
                    yield f"{each}: there is no AnalysisTemplate {ref['templateName']}"

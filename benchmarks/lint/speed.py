"""How long `stoker lint` takes for a folder, beside kubernetes-validate and checkov on the same one.

    .venv/bin/python benchmarks/lint/speed.py [--manifests 1000] [--rounds 5] [--only stoker,kubernetes-validate]

A folder of --manifests files, one object each: NodePools, EC2NodeClasses, Deployments, ScaledObjects,
TriggerAuthentications, Services, PodDisruptionBudgets and ServiceAccounts, as a team's repository holds them. Each run
is a new process, pinned to one core; figures are medians of the rounds, which take turns; wall time.

kubernetes-validate checks core kinds against their schemas; checkov applies its security policies for Kubernetes.
Neither knows the other kinds, CEL, or anything between two objects: they are here for the scale, not as a match.

Goals: 1,000 manifests in at most 3 s; one file in at most 0.4 s.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("up", "shared"))
from machine import describe
from peers import environment, versions

GOAL_S = 3.0
GOAL_ONE_S = 0.4

POOL = """\
apiVersion: karpenter.sh/v1
kind: NodePool
metadata:
  name: pool-{n}
spec:
  template:
    metadata:
      labels:
        team: team-{n}
    spec:
      requirements:
      # spot, and on-demand when there is none
      - key: karpenter.sh/capacity-type
        operator: In
        values: ["spot", "on-demand"]
      - key: karpenter.k8s.aws/instance-family
        operator: In
        values: ["g5", "g6", "g6e"]
      - key: topology.kubernetes.io/zone
        operator: In
        values: ["us-west-2a", "us-west-2b"]
      nodeClassRef:
        group: karpenter.k8s.aws
        kind: EC2NodeClass
        name: class-{n}
      expireAfter: 720h
      taints:
      - key: nvidia.com/gpu
        value: "true"
        effect: NoSchedule
  limits:
    cpu: "1000"
    memory: 4000Gi
    nvidia.com/gpu: "32"
  disruption:
    consolidationPolicy: WhenEmptyOrUnderutilized
    consolidateAfter: 30s
    budgets:
    - nodes: "10%"
"""
CLASS = """\
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata:
  name: class-{n}
spec:
  amiSelectorTerms:
  - alias: al2023@v20260801
  role: node-role
  subnetSelectorTerms:
  - tags:
      karpenter.sh/discovery: cluster
  securityGroupSelectorTerms:
  - tags:
      karpenter.sh/discovery: cluster
  blockDeviceMappings:
  - deviceName: /dev/xvda
    ebs:
      volumeSize: 500Gi
      volumeType: gp3
      iops: 16000
      throughput: 1000
      encrypted: true
  metadataOptions:
    httpPutResponseHopLimit: 2
    httpTokens: required
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: chat-{n}
  namespace: team-{n}
  labels:
    app: chat-{n}
spec:
  selector:
    matchLabels:
      app: chat-{n}
  template:
    metadata:
      labels:
        app: chat-{n}
    spec:
      serviceAccountName: chat
      nodeSelector:
        team: team-{n}
      tolerations:
      - key: nvidia.com/gpu
        operator: Exists
        effect: NoSchedule
      containers:
      - name: server
        image: registry.example.com/chat:v1.2.3
        ports:
        - name: http
          containerPort: 8080
        env:
        - name: REDIS_ADDRESS
          value: redis.team-{n}.svc:6379
        resources:
          requests:
            cpu: "4"
            memory: 16Gi
            nvidia.com/gpu: 1
          limits:
            memory: 16Gi
            nvidia.com/gpu: 1
        readinessProbe:
          httpGet:
            path: /health
            port: http
"""
SCALER = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: chat-{n}
  namespace: team-{n}
spec:
  scaleTargetRef:
    name: chat-{n}
  minReplicaCount: 1
  maxReplicaCount: 8
  triggers:
  - type: redis-streams
    metadata:
      addressFromEnv: REDIS_ADDRESS
      stream: tasks
      consumerGroup: workers
      lagCount: "5"
    authenticationRef:
      name: redis
"""
AUTHENTICATION = """\
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  name: redis
  namespace: team-{n}
spec:
  secretTargetRef:
  - parameter: password
    name: redis
    key: password
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: chat-{n}
  namespace: team-{n}
spec:
  selector:
    app: chat-{n}
  ports:
  - name: http
    port: 8080
    targetPort: http
"""
BUDGET = """\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: chat-{n}
  namespace: team-{n}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app: chat-{n}
"""
ACCOUNT = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: chat
  namespace: team-{n}
"""
KINDS = {
    "nodepool": POOL,
    "ec2nodeclass": CLASS,
    "deployment": DEPLOYMENT,
    "scaledobject": SCALER,
    "triggerauthentication": AUTHENTICATION,
    "service": SERVICE,
    "poddisruptionbudget": BUDGET,
    "serviceaccount": ACCOUNT,
}
CORE = ("deployment", "service", "poddisruptionbudget", "serviceaccount")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="stoker,kubernetes-validate,checkov")
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "manifests"
        lines = write(folder, options.manifests)
        print(f"{options.manifests} manifests, {lines} lines, on one core\n")
        commands = dict(contenders(folder, options.only.split(",")))
        one = [*STOKER, str(folder / "0000-nodepool.yaml")]
        times: dict[str, list[float]] = {name: [] for name in [*commands, "one file"]}
        for _ in range(options.rounds):
            for name, command in commands.items():
                times[name].append(seconds(command))
            times["one file"].append(seconds(one))
        report(times)


STOKER = (sys.executable, "-m", "stoker.cli.app", "lint")


def write(folder: Path, number: int) -> int:
    """The folder of the benchmark; returns how many lines it holds."""
    folder.mkdir()
    lines = 0
    for i in range(number):
        kind = list(KINDS)[i % len(KINDS)]
        text = KINDS[kind].format(n=i // len(KINDS))
        (folder / f"{i:04}-{kind}.yaml").write_text(text)
        lines += text.count("\n")
    return lines


def contenders(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    if "stoker" in names:
        yield "stoker lint", [*STOKER, str(folder)]
    if "kubernetes-validate" in names:
        python = environment("kubernetes-validate", ["kubernetes-validate"])
        if python:
            print(versions(python, ["kubernetes-validate"]))
            core = [str(path) for path in sorted(folder.iterdir()) if path.stem.partition("-")[2] in CORE]
            yield (
                f"kubernetes-validate ({len(core)} core)",
                [str(python.parent / "kubernetes-validate"), "--quiet", *core],
            )
    if "checkov" in names:
        python = environment("checkov", ["checkov"])
        if python:
            print(versions(python, ["checkov"]))
            flags = ["--skip-download", "--framework", "kubernetes", "--compact", "--quiet", "--soft-fail"]
            yield "checkov", [str(python.parent / "checkov"), *flags, "-d", str(folder)]


def seconds(command: Sequence[str]) -> float:
    """Wall time of a new process on one core. Exit code 1 is an answer, too; any other is a failure."""
    core = min(os.sched_getaffinity(0))
    began = time.perf_counter()
    done = subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    took = time.perf_counter() - began
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return took


def report(times: dict[str, list[float]]) -> None:
    print(f"\nPython {platform.python_version()}\n{'':34} {'median':>9} {'lowest':>9} {'highest':>9}")
    for name, each in times.items():
        print(f"{name:34} {statistics.median(each):8.2f}s {min(each):8.2f}s {max(each):8.2f}s")
    for name, goal in (("stoker lint", GOAL_S), ("one file", GOAL_ONE_S)):
        if times.get(name):
            met = statistics.median(times[name]) <= goal
            print(f"{name}: at most {goal} s: {'met' if met else 'NOT met'}")


if __name__ == "__main__":
    main()

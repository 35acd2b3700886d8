# ruff: noqa: E501  (a message is one line: broken up, it could not be compared by eye or searched for)
"""Story: somebody wrote platform.yaml wrongly, and is told where, what, and what would be right."""

import json
import re
import traceback
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stoker.base.errors import SpecInvalid
from stoker.spec import load, load_run, loads, yaml


def refused(text: str | bytes) -> SpecInvalid:
    with pytest.raises(SpecInvalid) as caught:
        loads(text, "p.yaml")
    return caught.value


MODEL = "llm: {models: {general: "  # closed by "}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # keys
        ("kedda: {}", "p.yaml:1:1: kedda: no such key; did you mean keda?"),
        ("gateway:\n  prt: 1", "p.yaml:2:3: gateway.prt: no such key; did you mean port?"),
        ("queue: {lease_seconds: 1}", "p.yaml:1:9: queue.lease_seconds: no such key; did you mean leaseSeconds?"),
        ("queue: {LEASESECONDS: 1}", "p.yaml:1:9: queue.LEASESECONDS: no such key; did you mean leaseSeconds?"),
        (
            '"<server>": 1',
            'p.yaml:1:1: "<server>": no such key; the keys here are: agents, composition, costs, deploy, edge, gateway, global, karpenter, keda, ledger, llm, queue, redis, spot, tenants, training',
        ),
        (
            '"[key]": 1',
            'p.yaml:1:1: "[key]": no such key; the keys here are: agents, composition, costs, deploy, edge, gateway, global, karpenter, keda, ledger, llm, queue, redis, spot, tenants, training',
        ),
        (
            MODEL + "{engine: {'<server>': 1, url: 'http://h'}}}}",
            'p.yaml:1:35: llm.models.general.engine."<server>": no such key; the keys here are: apiKeyEnv, continues, model, url',
        ),
        (
            "ledger: {wholly: 1}",
            "p.yaml:1:10: ledger.wholly: no such key; the keys here are: auditDays, passwordEnv, retentionDays, url",
        ),
        (
            'ledger: {"a.b": 1}',
            'p.yaml:1:10: ledger."a.b": no such key; the keys here are: auditDays, passwordEnv, retentionDays, url',
        ),
        # types
        ("[]", "p.yaml:1:1: the file is a list; it must be keys with values"),
        ("hello", 'p.yaml:1:1: the file is "hello"; it must be keys with values'),
        ("gateway: 1", "p.yaml:1:10: gateway: 1 does not fit; it must be a section with keys such as host"),
        ("gateway: []", "p.yaml:1:10: gateway: a list does not fit; it must be a section with keys such as host"),
        (
            'gateway: {port: "8080"}',
            'p.yaml:1:17: gateway.port: "8080" does not fit; it must be a whole number from 0 to 65535; take the quotes away',
        ),
        (
            "gateway: {port: x}",
            'p.yaml:1:17: gateway.port: "x" does not fit; it must be a whole number from 0 to 65535',
        ),
        (
            "gateway: {port: 1.0}",
            "p.yaml:1:17: gateway.port: 1.0 does not fit; it must be a whole number from 0 to 65535",
        ),
        (
            "gateway: {port: yes}",
            "p.yaml:1:17: gateway.port: true does not fit; it must be a whole number from 0 to 65535",
        ),
        (
            "gateway: {port: }",
            "p.yaml:1:17: gateway.port: nothing does not fit; it must be a whole number from 0 to 65535; "
            "leave the key out for its default",
        ),
        ("keda: {enabled: 1}", "p.yaml:1:17: keda.enabled: 1 does not fit; it must be true or false"),
        ("keda: {enabled: 'no'}", 'p.yaml:1:17: keda.enabled: "no" does not fit; it must be true or false'),
        (
            "tenants: {a: {description: 3}}",
            "p.yaml:1:28: tenants.a.description: 3 does not fit; it must be text of at most 500 characters; put it in quotes",
        ),
        (
            "redis: {architecture: cluster}",
            'p.yaml:1:23: redis.architecture: "cluster" does not fit; it must be replication or standalone',
        ),
        (
            "gateway: {routes: {a: 1}}",
            "p.yaml:1:23: gateway.routes.a: 1 does not fit; it must be a name of 1 to 40 lower-case letters, digits and hyphens that begins with a letter",
        ),
        # amounts
        (
            "gateway: {port: 99999}",
            "p.yaml:1:17: gateway.port: 99999 does not fit; it must be a whole number from 0 to 65535",
        ),
        (
            "gateway: {port: -1}",
            "p.yaml:1:17: gateway.port: -1 does not fit; it must be a whole number from 0 to 65535",
        ),
        (
            "queue: {maxAttempts: " + "9" * 100 + "}",
            "p.yaml:1:22: queue.maxAttempts: a number of more than 30 digits does not fit; it must be a whole number from 1 to 100",
        ),
        (
            "queue: {leaseSeconds: .nan}",
            "p.yaml:1:23: queue.leaseSeconds: nan does not fit; it must be a number above 0 and at most 604800",
        ),
        (
            "queue: {leaseSeconds: .inf}",
            "p.yaml:1:23: queue.leaseSeconds: inf does not fit; it must be a number above 0 and at most 604800",
        ),
        (
            "queue: {leaseSeconds: 1e999}",
            "p.yaml:1:23: queue.leaseSeconds: inf does not fit; it must be a number above 0 and at most 604800",
        ),
        (
            "queue: {leaseSeconds: 0}",
            "p.yaml:1:23: queue.leaseSeconds: 0 does not fit; it must be a number above 0 and at most 604800",
        ),
        # budgets
        (
            "tenants: {a: {budgets: {tokensTotal: 0}}}",
            "p.yaml:1:38: tenants.a.budgets.tokensTotal: 0 does not fit; it must be a whole number from 1 to 1000000000000000 (0 would refuse every request; leave it out for no limit)",
        ),
        (
            "tenants: {a: {budgets: {usdTotal: 0}}}",
            "p.yaml:1:35: tenants.a.budgets.usdTotal: 0 does not fit; it must be an amount in US dollars above 0 and at most 1000000 with at most 9 decimals, as a number (0 would refuse every request; leave it out for no limit)",
        ),
        (
            "tenants: {a: {sessionBudgets: {usdPerDay: 0.0000000001}}}",
            "p.yaml:1:43: tenants.a.sessionBudgets.usdPerDay: 1e-10 does not fit; it must be an amount in US dollars above 0 and at most 1000000 with at most 9 decimals, as a number (0 would refuse every request; leave it out for no limit)",
        ),
        (
            "tenants: {a: {runBudgets: {requestsPerMinute: 1.5}}}",
            "p.yaml:1:47: tenants.a.runBudgets.requestsPerMinute: 1.5 does not fit; it must be a whole number from 1 to 1000000000 (0 would refuse every request; leave it out for no limit)",
        ),
        (
            "tenants: {a: {budgets: {usd_per_day: 1}}}",
            "p.yaml:1:25: tenants.a.budgets.usd_per_day: no such key; did you mean usdPerDay?",
        ),
        (
            "tenants: {a: {teams: {b: {budgets: {concurrentRequests: -1}}}}}",
            "p.yaml:1:57: tenants.a.teams.b.budgets.concurrentRequests: -1 does not fit; it must be a whole number from 1 to 1000000 (0 would refuse every request; leave it out for no limit)",
        ),
        (
            "tenants: {a: {whenRedisIsAway: maybe}}",
            'p.yaml:1:32: tenants.a.whenRedisIsAway: "maybe" does not fit; it must be closed or open',
        ),
        (
            "tenants: {a: {weight: 0}}",
            "p.yaml:1:23: tenants.a.weight: 0 does not fit; it must be a whole number from 1 to 1000",
        ),
        (
            "tenants: {a: {maxPriority: urgent}}",
            'p.yaml:1:28: tenants.a.maxPriority: "urgent" does not fit; it must be interactive, normal or batch',
        ),
        (
            "tenants: {a: {whenBusy: 202}}",
            "p.yaml:1:25: tenants.a.whenBusy: 202 does not fit; it must be wait, async or refuse",
        ),
        (
            "gateway: {sessions: {idleSeconds: 0}}",
            "p.yaml:1:35: gateway.sessions.idleSeconds: 0 does not fit; it must be a number above 0 and at most 604800",
        ),
        (
            "tenants: {}",
            "p.yaml:1:10: tenants: a section does not fit; it must be a section of 1 to 100000 names with their values",
        ),
        (
            "karpenter: {nodePools: {gpu: {instanceFamilies: []}}}",
            "p.yaml:1:49: karpenter.nodePools.gpu.instanceFamilies: a list does not fit; it must be a list of 1 to 50 values",
        ),
        (
            "karpenter: {nodePools: {gpu: {instanceFamilies: [g5, G6]}}}",
            'p.yaml:1:54: karpenter.nodePools.gpu.instanceFamilies[1]: "G6" does not fit; it must be an EC2 instance family, such as g5',
        ),
        (
            "llm: {inference: {gpu: {memory: 24GB}}}",
            'p.yaml:1:33: llm.inference.gpu.memory: "24GB" does not fit; it must be an amount of bytes as Kubernetes writes it, such as 24Gi',
        ),
        # models
        (
            "llm: {models: {My Model: {}}}",
            'p.yaml:1:16: llm.models."My Model": "My Model" cannot be a name; it must be a name of 1 to 40 lower-case letters, digits and hyphens that begins with a letter',
        ),
        (
            "llm: {models: {auto: {}}}",
            "p.yaml:1:22: llm.models.auto: auto asks Stoker to choose a model; give the model another name",
        ),
        (
            MODEL + "{task: chat}}}",
            'p.yaml:1:32: llm.models.general.task: "chat" does not fit; it must be general, code or vision',
        ),
        (
            MODEL + "{engine: 5}}}",
            'p.yaml:1:34: llm.models.general.engine: 5 does not fit; it must be "embedded", or a section with the url of a server that speaks the OpenAI API',
        ),
        (
            MODEL + "{engine: vllm}}}",
            'p.yaml:1:34: llm.models.general.engine: "vllm" does not fit; it must be "embedded", or a section with the url of a server that speaks the OpenAI API',
        ),
        (
            MODEL + "{engine: {model: m}}}}",
            "p.yaml:1:26: llm.models.general.engine.url: is missing; it must be an http or https URL without user, password or query, such as http://127.0.0.1:8000/v1",
        ),
        (
            MODEL + "{engine: {url: 'ftp://h/v1'}}}}",
            'p.yaml:1:40: llm.models.general.engine.url: "ftp://h/v1" does not fit; it must be an http or https URL without user, password or query, such as http://127.0.0.1:8000/v1',
        ),
        (
            MODEL + "{engine: {url: 'http://h:99999'}}}}",
            'p.yaml:1:40: llm.models.general.engine.url: "http://h:99999" does not fit; it must be an http or https URL without user, password or query, such as http://127.0.0.1:8000/v1',
        ),
        (
            MODEL + "{engine: {url: 'http://h', apiKey: k}}}}",
            "p.yaml:1:52: llm.models.general.engine.apiKey: no such key; did you mean apiKeyEnv?",
        ),
        (
            MODEL + "{engine: {url: 'http://api.example.com/v1', apiKeyEnv: K}}}}",
            "p.yaml:1:80: llm.models.general.engine.apiKeyEnv: the key would cross the network unencrypted, since url is http and its host is not a private one; write https, or leave apiKeyEnv out",
        ),
        (
            MODEL + "{replicas: {min: 3, max: 1}}}}",
            "p.yaml:1:42: llm.models.general.replicas.min: 3 is more than max (1); min must be at most max",
        ),
        (
            MODEL + "{replicas: {min: 0, max: 0}}}}",
            "p.yaml:1:50: llm.models.general.replicas.max: 0 never serves a request; must be at least 1, or take the model out of llm.models",
        ),
        (
            MODEL + "{limits: {contextTokens: 8193}}}}",
            "p.yaml:1:50: llm.models.general.limits.contextTokens: 8193 is more than the embedded engine can hold; must be at most 8192 (a server named by engine.url may hold more)",
        ),
        (
            MODEL + "{serving: {nodes: 3, gpu: {count: 0}}}}}",
            "p.yaml:1:43: llm.models.general.serving.nodes: 3 nodes for a replica need GPUs: with gpu.count 0 the embedded engine serves it, which runs on one; write nodes 1, or gpu.count at least 1",
        ),
        (
            MODEL + "{serving: {nodes: 2}}}, inference: {gpu: {count: 0}}}",
            "p.yaml:1:43: llm.models.general.serving.nodes: 2 nodes for a replica need GPUs: with gpu.count 0 the embedded engine serves it, which runs on one; write nodes 1, or gpu.count at least 1",
        ),
        (
            MODEL + "{limits: {contextTokens: 512, maxOutputTokens: 512}}}}",
            "p.yaml:1:72: llm.models.general.limits.maxOutputTokens: 512 leaves no room for a prompt; must be less than contextTokens (512)",
        ),
        (
            MODEL + "{prices: {inputUsdPerMillionTokens: 1, outputUsdPerMillionTokens: 2}}}}",
            "p.yaml:1:26: llm.models.general.prices.cachedInputUsdPerMillionTokens: is missing; it must be an amount in US dollars from 0 to 1000000 with at most 6 decimals, as a number",
        ),
        (
            "llm: {models: {a: {aliases: [b]}, b: {}}}",
            'p.yaml:1:30: llm.models.a.aliases[0]: "b" is the name of a model already; choose another alias',
        ),
        (
            "llm: {models: {a: {aliases: [x]}, b: {aliases: [x]}}}",
            'p.yaml:1:49: llm.models.b.aliases[0]: "x" is an alias of a already; an alias leads to one model',
        ),
        (
            "llm: {models: {a: {aliases: [auto]}}}",
            "p.yaml:1:30: llm.models.a.aliases[0]: auto asks Stoker to choose a model; choose another alias",
        ),
        (
            "llm: {models: {a: {aliases: [a b]}}}",
            'p.yaml:1:30: llm.models.a.aliases[0]: "a b" does not fit; it must be a model name as clients write it, such as gpt-4o: letters, digits and . _ : / -, at most 128',
        ),
        (
            "llm: {inference: {autoscaling: {minReplicas: 51}}}",
            "p.yaml:1:46: llm.inference.autoscaling.minReplicas: 51 is more than maxReplicas (50); must be at most that",
        ),
        (
            "llm: {inference: {autoscaling: {minReplicas: 0, maxReplicas: 0}}}",
            "p.yaml:1:62: llm.inference.autoscaling.maxReplicas: 0 never serves a request; must be at least 1, or "
            "write llm.inference.enabled false",
        ),
        (
            "llm: {inference: {replicas: 0, autoscaling: {enabled: false}}}",
            "p.yaml:1:29: llm.inference.replicas: 0 never serves a request; must be at least 1, or "
            "write llm.inference.enabled false",
        ),
        # gateway
        (
            "llm: {models: {a: {fallback: a}}}",
            "p.yaml:1:30: llm.models.a.fallback: a model cannot stand in for itself; name another one",
        ),
        (
            "llm: {models: {a: {fallback: b}}}",
            'p.yaml:1:30: llm.models.a.fallback: "b" is not a model; the models are: a',
        ),
        (
            "llm: {models: {vision: {fallback: a}, a: {}}}",
            'p.yaml:1:35: llm.models.vision.fallback: "a" has the task general; what stands in for a model with '
            "`task: vision` must look at images, too",
        ),
        (
            "llm: {models: {a: {fallback: b, replicas: {min: 0}}, b: {}}}",
            "p.yaml:1:30: llm.models.a.fallback: with replicas.min 0 the other model would answer everything, so that "
            "this one never starts; write replicas.min 1, or leave fallback out",
        ),
        (
            "{keda: {minReplicaCount: 0}, llm: {models: {a: {fallback: b}, b: {}}}}",
            "p.yaml:1:59: llm.models.a.fallback: with keda.minReplicaCount 0 the other model would answer everything, "
            "so that this one never starts; write replicas.min 1, or leave fallback out",
        ),
        # keda
        (
            "keda: {minReplicaCount: 3, maxReplicaCount: 2}",
            "p.yaml:1:25: keda.minReplicaCount: 3 is more than maxReplicaCount (2); must be at most that",
        ),
        (
            "keda: {minReplicaCount: 0, scalers: {redis: false}}",
            "p.yaml:1:45: keda.scalers.redis: false wakes nobody, and general may be at zero replicas; write true, or "
            "let it keep one",
        ),
        (
            "gateway: {routes: {chat: code}}",
            "p.yaml:1:26: gateway.routes.chat: /v1/chat is a path of the API itself; choose another word",
        ),
        (
            "gateway: {routes: {fast: tiny}}",
            'p.yaml:1:26: gateway.routes.fast: "tiny" is not a model; the models are: general, code, vision',
        ),
        (
            "gateway: {routes: {vision: code}}",
            'p.yaml:1:28: gateway.routes.vision: "code" has the task code; must lead to a model with `task: vision`',
        ),
        (
            "gateway: {defaultModel: tiny}",
            'p.yaml:1:25: gateway.defaultModel: "tiny" is not a model; the models are: general, code, vision',
        ),
        (
            "gateway: {timeouts: {connectSeconds: 90}}",
            "p.yaml:1:38: gateway.timeouts.connectSeconds: 90 is more than firstTokenSeconds (60); must be at most that",
        ),
        (
            "gateway: {maxWaiting: {perTenant: 10000, perModel: 500}}",
            "p.yaml:1:35: gateway.maxWaiting.perTenant: 10000 is more than perModel (500); must be at most that",
        ),
        (
            "gateway: {files: {maxFileBytes: 2000, maxTenantBytes: 1999}}",
            "p.yaml:1:33: gateway.files.maxFileBytes: 2000 is more than maxTenantBytes (1999); must be at most that",
        ),
        (
            "gateway: {auto: {hard: big}}",
            'p.yaml:1:24: gateway.auto.hard: "big" is not a model; the models are: general, code, vision',
        ),
        (
            "gateway: {weights: {code: {general: 1}}}",
            'p.yaml:1:27: gateway.weights.code: "code" is the name of a model already; choose another name',
        ),
        (
            "gateway: {weights: {auto: {general: 1}}}",
            "p.yaml:1:27: gateway.weights.auto: auto asks Stoker to choose a model; choose another name",
        ),
        (
            "gateway: {weights: {chat: {general: 1}}}\nllm: {models: {general: {aliases: [chat]}}}",
            'p.yaml:1:27: gateway.weights.chat: "chat" is an alias of general already; take it out there',
        ),
        (
            "gateway: {weights: {chat: {general: 1, next: 2}}}",
            'p.yaml:1:46: gateway.weights.chat.next: "next" is not a model; the models are: general, code, vision',
        ),
        (
            "gateway: {weights: {chat: {general: 0}}}",
            "p.yaml:1:27: gateway.weights.chat: no model has a share; at least one must be more than 0",
        ),
        # redis, queue, ledger
        (
            "redis: {enabled: false}",
            "p.yaml:1:18: redis.enabled: false leaves no place for tasks; write the url of your own Redis, or true",
        ),
        (
            "redis: {passwordEnv: P}",
            "p.yaml:1:22: redis.passwordEnv: there is no url that it belongs to; write redis.url too, or leave it out",
        ),
        (
            "ledger: {passwordEnv: P}",
            "p.yaml:1:23: ledger.passwordEnv: there is no url that it belongs to; write ledger.url too, or leave it out",
        ),
        (
            "ledger: {url: 'mysql://h/d'}",
            'p.yaml:1:15: ledger.url: "mysql://h/d" does not fit; it must be a sqlite:///FILE or postgresql://USER@HOST/DATABASE URL without a password (passwordEnv names the variable that holds it)',
        ),
        (
            "spot: {watch: sometimes}",
            'p.yaml:1:15: spot.watch: "sometimes" does not fit; it must be auto, true (or on) or false (or off)',
        ),
        (
            "spot: {watch: 1}",
            "p.yaml:1:15: spot.watch: 1 does not fit; it must be auto, true (or on) or false (or off)",
        ),
        (
            "spot: {reserveSeconds: 111}",
            "p.yaml:1:24: spot.reserveSeconds: 111 does not fit; it must be a number from 0 to 110",
        ),
        (
            "llm: {inference: {image: vllm/vllm-openai}}",
            'p.yaml:1:26: llm.inference.image: "vllm/vllm-openai" does not fit; it must be a container image with a tag '
            "other than latest, or a digest, such as llm-inference:v1.0.0",
        ),
        (
            "global: {images: {tag: latest}}",
            "p.yaml:1:24: global.images.tag: latest moves, so that pods differ by when they started; write a version",
        ),
        (
            "global: {cluster: {namespace: keda}}",
            "p.yaml:1:31: global.cluster.namespace: keda is where something else runs, which the platform's policies "
            "would shut in; write a name of its own",
        ),
        (
            "karpenter: {nodePools: {gpu: {zones: [us-east-1a]}}}",
            "p.yaml:1:39: karpenter.nodePools.gpu.zones[0]: us-east-1a is not in the region us-west-2",
        ),
        # deploy
        (
            "deploy: {network: {cidr: 10.0.0.1/16}}",
            "p.yaml:1:26: deploy.network.cidr: 10.0.0.1/16 does not begin where a /16 begins; write 10.0.0.0/16",
        ),
        (
            "deploy: {network: {cidr: 10.0.0.0/19}}",
            "p.yaml:1:26: deploy.network.cidr: 10.0.0.0/19 has to be a /16, /17 or /18: subnets of pods are parts of it",
        ),
        *(
            (
                f"deploy: {{network: {{cidr: {cidr}}}}}",
                f"p.yaml:1:26: deploy.network.cidr: {cidr} is no range of IPv4 addresses; such as 10.0.0.0/16",
            )
            for cidr in ("10.0.256.0/16", "10.0.0.0/33")
        ),
        (
            "deploy: {network: {publicAccess: [203.0.113.7/24]}}",
            "p.yaml:1:35: deploy.network.publicAccess[0]: 203.0.113.7/24 does not begin where a /24 begins; write "
            "203.0.113.0/24",
        ),
        *(
            (
                f"deploy: {{network: {{publicAccess: [0.0.0.0/0, {cidr}]}}}}",
                f"p.yaml:1:46: deploy.network.publicAccess[1]: {cidr} is no address that the internet routes, so that "
                "nobody would come from it; write the public one that your network goes out by, such as 203.0.113.7/32",
            )
            for cidr in (
                "192.168.1.5/32",
                "10.0.0.0/8",
                "172.31.0.0/16",
                "100.127.0.0/16",
                "127.0.0.1/32",
                "169.254.0.0/16",
            )
        ),
        (
            "edge: {certificateArn: 'arn:aws:s3:us-west-2:111122223333:bucket'}",
            "p.yaml:1:24: edge.certificateArn: arn:aws:s3:us-west-2:111122223333:bucket is of s3; must be an ARN of acm",
        ),
        (
            "edge: {wafAclArn: 'arn:aws:wafv2:us-east-1:111122223333:global/webacl/a/1'}",
            "p.yaml:1:19: edge.wafAclArn: arn:aws:wafv2:us-east-1:111122223333:global/webacl/a/1 is for CloudFront; a "
            "load balancer takes a regional web ACL",
        ),
        (
            "composition: {argocd: {path: ../other}}",
            'p.yaml:1:30: composition.argocd.path: "../other" does not fit; it must be a folder within the repository, '
            "such as clusters/manifests",
        ),
        (
            "llm: {models: {general: {serving: {args: [--port=9000]}}}}",
            "p.yaml:1:43: llm.models.general.serving.args[0]: --port=9000 is what the platform, whose probes and workers "
            "ask port 8000, says; write it there",
        ),
        (
            "llm: {models: {general: {serving: {args: [--max_model_len, '99']}}}}",
            "p.yaml:1:43: llm.models.general.serving.args[0]: --max_model_len is what limits.contextTokens says; write "
            "it there",
        ),
        (
            "queue: {retryBaseSeconds: 61}",
            "p.yaml:1:27: queue.retryBaseSeconds: 61 is more than retryCapSeconds (60); must be at most that",
        ),
    ],
)
def test_one_fault(text: str, message: str) -> None:
    refusal = refused(text)
    assert refusal.message == message
    assert refusal.exit_code == 2
    assert refusal.hint == "docs/spec.md lists every key with its default; `stoker init` writes a commented file"


@pytest.mark.parametrize("cidr", ["203.0.113.7/32", "172.32.0.0/16", "100.128.0.0/9", "11.0.0.0/8", "0.0.0.0/0"])
def test_ranges_that_the_internet_routes_are_let_in(cidr: str) -> None:
    """What is beside private ranges, and what is more than they."""
    assert loads(f"deploy: {{network: {{publicAccess: [{cidr}]}}}}").deploy.network.public_access == (cidr,)


def test_a_fault_names_the_path_of_its_key_for_programs_too() -> None:
    assert refused("gateway: {port: -1}").param == "gateway.port"


def test_several_faults_are_listed_in_the_order_of_the_text() -> None:
    refusal = refused("""\
tenants: {Default: {}}
gateway:
  port: 99999
  prot: 1
llm:
  models:
    code: {replicas: {min: 2}}
""")
    assert refusal.message == (
        "4 faults in p.yaml:\n"
        'p.yaml:1:11: tenants.Default: "Default" cannot be a name; '
        "it must be a name of 1 to 40 lower-case letters, digits and hyphens that begins with a letter\n"
        "p.yaml:3:9: gateway.port: 99999 does not fit; it must be a whole number from 0 to 65535\n"
        "p.yaml:4:3: gateway.prot: no such key; did you mean port?\n"
        "p.yaml:7:28: llm.models.code.replicas.min: 2 is more than max (1); min must be at most max"
    )
    assert refusal.param == "tenants.Default"


def test_a_hundred_faults_are_not_all_listed() -> None:
    message = refused("\n".join(f"wrong{number}: 1" for number in range(100))).message
    assert message.splitlines()[0] == "100 faults in p.yaml:"
    assert message.splitlines()[-1] == "and 80 more"
    assert len(message.splitlines()) == 22


SECRET = "sk-live-0123456789abcdef"  # shaped like a key, made up here


@pytest.mark.parametrize(
    "text",
    [
        MODEL + f"{{engine: {{url: 'https://h/v1', apiKey: {SECRET}}}}}}}}}",
        MODEL + f"{{engine: {{url: 'https://h/v1', apiKeyEnv: {SECRET}}}}}}}}}",
        MODEL + f"{{engine: {{url: 'https://u:{SECRET}@h/v1'}}}}}}}}",
        MODEL + f"{{engine: {{url: 'https://h/v1?key={SECRET}'}}}}}}}}",
        MODEL + f"{{engine: {{url: {SECRET}}}}}}}}}",
        f"redis: {{url: 'redis://:{SECRET}@h:6379'}}",
        f"redis: {{url: 'redis://h:6379?password={SECRET}'}}",
        f"ledger: {{url: 'postgresql://u:{SECRET}@h/d'}}",
        f"ledger: {{url: 'postgresql://u@h/d?password={SECRET}'}}",
        f"ledger: {{passwordEnv: {SECRET}}}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_repeated(text: str) -> None:
    refusal = refused(text)
    assert SECRET not in refusal.message
    assert SECRET not in "".join(traceback.format_exception(refusal))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load(tmp_path / "none.yaml")
    assert caught.value.message == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    assert caught.value.hint == "`stoker init` writes one"


def test_a_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_bytes(b"#" * (3 << 20))
    with pytest.raises(SpecInvalid, match="at most 1048576 are read"):
        load(path)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        loads("").gateway.port = 1  # type: ignore[misc]  # what mypy refuses is what is tested


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://10.1.2.3/v1",
        "http://vllm/v1",
        "http://vllm.models.svc/v1",
        "http://vllm.models.svc.cluster.local:8000/v1",
        "https://api.example.com/v1",
    ],
)
def test_a_key_may_go_to_a_private_host_or_over_https(url: str) -> None:
    engine = loads(MODEL + f"{{engine: {{url: '{url}', apiKeyEnv: K}}}}}}}}").llm.models["general"].engine
    assert engine != "embedded"
    assert (engine.url, engine.api_key_env) == (url, "K")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "unix:///run/redis.sock", "rediss://u@h:6380"])
def test_urls_of_redis(url: str) -> None:
    assert loads(f"redis: {{enabled: false, url: '{url}'}}").redis.url == url


@pytest.mark.parametrize(
    "url", ["sqlite:////var/lib/stoker.db", "sqlite:///here.db", "postgresql+psycopg://u@h:5432/d"]
)
def test_urls_of_the_ledger(url: str) -> None:
    assert loads(f"ledger: {{url: '{url}'}}").ledger.url == url


KEYS = st.sampled_from(
    (
        *("global", "cluster", "name", "karpenter", "nodePools", "gpu", "instanceFamilies", "keda", "scalers", "llm"),
        *("models", "general", "engine", "url", "aliases", "replicas", "min", "max", "limits", "prices", "gateway"),
        *(
            "routes",
            "code",
            "timeouts",
            "redis",
            "queue",
            "leaseSeconds",
            "ledger",
            "tenants",
            "x-1",
            "Über",
            "[key]",
            "<server>",
        ),
    )
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("general")
TREES = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@example({"tenants": {"[key]": "general"}})  # pydantic's own mark of a wrong key
@given(st.dictionaries(KEYS, TREES, max_size=5))
def test_whatever_is_written_loads_or_is_refused_with_words_of_our_own(data: dict[str, object]) -> None:
    try:
        loads(yaml.dump(data))
    except SpecInvalid as refusal:
        message = refusal.message
    else:
        return
    for foreign in ("Input should", "validation error", "type=", "Value error", "another value"):
        assert foreign not in message


def test_the_embedded_engine_holds_as_much_context_as_its_model_knows_positions() -> None:
    config = json.loads((resources.files("stoker") / "nn" / "weights" / "config.json").read_text())
    most = config["max_position_embeddings"]
    assert (
        loads(MODEL + f"{{limits: {{contextTokens: {most}}}}}}}}}").llm.models["general"].limits.context_tokens == most
    )
    with pytest.raises(SpecInvalid):
        loads(MODEL + f"{{limits: {{contextTokens: {most + 1}}}}}}}}}")
    own = "{engine: {url: 'https://h/v1'}, limits: {contextTokens: 128000}}}}"
    assert loads(MODEL + own).llm.models["general"].limits.context_tokens == 128000


# --- the other file ---------------------------------------------------------------------------------------------------


def test_a_file_of_the_other_kind_is_told_as_that_and_not_by_each_of_its_keys(tmp_path: Path) -> None:
    run, platform = tmp_path / "run.yaml", tmp_path / "platform.yaml"
    run.write_text("name: a\ndata: a.jsonl\nspot: {watch: off}\n")
    platform.write_text("llm: {}\nspot: {watch: off}\n")
    with pytest.raises(SpecInvalid) as caught:
        load_run(platform)
    assert caught.value.message == f"{platform}: is a platform.yaml, and not the run file that is wanted here"
    with pytest.raises(SpecInvalid) as caught:
        load(run)
    assert caught.value.message == (
        f"{run}: is a run file of `stoker train`, and not the platform.yaml that is wanted here"
    )


def test_the_faults_of_a_run_file_lead_to_its_own_page(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for text, said in [
        ("data: a.jsonl\n", ":1:1: name: is missing; it must be a name of"),
        ("[]\n", ":1:1: the file is a list; it must be keys with values"),
        (
            "name: a\ndata: a\ndropout: 1\n",
            ":3:10: dropout: 1 does not fit; it must be a number from 0 to below 1",
        ),
        ("name: a\ndata: a\ndpo: {beta: 0}\n", "a number above 0 and at most 1e+09"),
        (
            "name: a\ndata: a\nprices: {region: mars}\n",
            '"mars" does not fit; it must be a region, such as us-east-1',
        ),
    ]:
        file.write_text(text)
        with pytest.raises(SpecInvalid, match=re.escape(said)) as caught:
            load_run(file)
        assert caught.value.hint == (
            "examples/finetune.yaml is a run file; docs/training/run-file.md lists every key with its default"
        )

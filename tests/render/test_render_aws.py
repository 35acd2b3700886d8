"""ACK objects, roles and secrets in Terraform."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.base.errors import InvalidInput
from stoker.render import aws
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.render.run import render
from stoker.render.writing import files
from stoker.spec import Mode, loads

ACCOUNT = 'global: {cluster: {name: Atelier, account: "111122223333"}, tags: {Team: ml}}\n'
TRAINING = "training: {enabled: true, data: s3://corpus/train.jsonl}\n"
SAGEMAKER = "composition: {ack: {sagemaker: true}}\n"


def objects(text: str = "", mode: Mode = "karpenter") -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name."""
    items = [each for each in aws.render(Plan(loads(text), mode)) if isinstance(each, Resource)]
    found = {(each.object["kind"], each.object["metadata"]["name"]): each.object for each in items}
    assert len(found) == len(items)
    return found


def of_kind(kind: str, text: str = "", mode: Mode = "karpenter") -> dict[str, dict[str, Any]]:
    return {name: each["spec"] for (of, name), each in objects(text, mode).items() if of == kind}


def rights(name: str, text: str) -> dict[str, tuple[list[str], list[str]]]:
    """Actions and resources of a role, by the name of the statement."""
    (document,) = of_kind("Role", text)[name]["inlinePolicies"].values()
    return {each["Sid"]: (each["Action"], each["Resource"]) for each in json.loads(document)["Statement"]}


def terraform(text: str = "") -> str:
    return files(aws.render(Plan(loads(text), "karpenter")))["terraform/secrets.tf"]


def test_a_bucket_is_encrypted_private_versioned_and_stays_when_its_object_goes() -> None:
    found = objects(ACCOUNT)["Bucket", "models"]
    assert found["metadata"]["annotations"] == {"services.k8s.aws/deletion-policy": "retain"}
    spec = found["spec"]
    assert spec["name"] == "atelier-models-111122223333"
    assert spec["createBucketConfiguration"] == {"locationConstraint": "us-west-2"}
    assert spec["encryption"]["rules"][0]["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "aws:kms"}
    assert set(spec["publicAccessBlock"].values()) == {True}
    assert spec["versioning"] == {"status": "Enabled"}
    assert spec["lifecycle"]["rules"][0]["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}
    assert spec["tagging"]["tagSet"] == [
        {"key": "Project", "value": "Atelier"},
        {"key": "ManagedBy", "value": "stoker"},
        {"key": "Team", "value": "ml"},
    ]


def test_a_bucket_is_reached_over_tls_alone() -> None:
    (statement,) = json.loads(of_kind("Bucket", ACCOUNT)["models"]["policy"])["Statement"]
    assert statement == {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::atelier-models-111122223333", "arn:aws:s3:::atelier-models-111122223333/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def test_buckets_are_made_where_they_are_used_and_have_a_name() -> None:
    assert of_kind("Bucket") == {}
    assert list(of_kind("Bucket", ACCOUNT)) == ["models"]
    assert list(of_kind("Bucket", ACCOUNT + "training: {enabled: true}")) == ["models", "checkpoints"]
    assert of_kind("Bucket", ACCOUNT + "llm: {inference: {cache: {kind: node}}}") == {}
    mine = of_kind("Bucket", "training: {enabled: true, checkpointing: {s3Bucket: mine}}")
    assert mine["checkpoints"]["name"] == "mine"
    assert mine["checkpoints"]["lifecycle"]["rules"][0]["noncurrentVersionExpiration"] == {"noncurrentDays": 7}


def test_one_bucket_for_weights_and_checkpoints_is_made_once() -> None:
    text = "llm: {inference: {cache: {bucket: all}}}\ntraining: {enabled: true, checkpointing: {s3Bucket: all}}"
    assert list(of_kind("Bucket", text)) == ["models"]


def test_us_east_1_is_not_named_as_a_location() -> None:
    text = 'global: {cluster: {region: us-east-1, account: "111122223333"}}'
    assert "createBucketConfiguration" not in of_kind("Bucket", text)["models"]


def test_arns_are_of_the_partition() -> None:
    text = 'global: {cluster: {region: cn-north-1, account: "111122223333"}}'
    assert rights("models", text)["ReadWeights"][1] == ["arn:aws-cn:s3:::agentic-ai-cluster-models-111122223333/*"]


def test_nothing_of_ack_is_rendered_when_it_is_off() -> None:
    assert objects(ACCOUNT + "composition: {ack: {enabled: false}}") == {}


def test_dead_letters_have_a_queue_that_no_other_queue_may_feed() -> None:
    assert of_kind("Queue", ACCOUNT) == {}
    spec = of_kind("Queue", ACCOUNT + "keda: {scalers: {sqs: true}}")["dead-letters"]
    (statement,) = json.loads(spec.pop("policy"))["Statement"]
    assert statement["Resource"] == ["arn:aws:sqs:us-west-2:111122223333:stoker-dead-letters"]
    assert spec == {
        "queueName": "stoker-dead-letters",
        "messageRetentionPeriod": "1209600",
        "sqsManagedSSEEnabled": "true",
        "redriveAllowPolicy": '{"redrivePermission": "denyAll"}',
        "tags": {"Project": "Atelier", "ManagedBy": "stoker", "Team": "ml"},
    }


def test_a_fifo_queue_says_that_it_is_one_and_without_an_account_there_is_no_policy() -> None:
    text = "keda: {scalers: {sqs: true}}\nqueue: {deadLetters: {sqsQueue: letters.fifo}}"
    spec = of_kind("Queue", text)["dead-letters"]
    assert (spec["queueName"], spec["fifoQueue"]) == ("letters.fifo", "true")
    assert "policy" not in spec


def test_repositories_are_made_unless_images_are_elsewhere() -> None:
    found = of_kind("Repository", ACCOUNT)
    assert list(found) == ["stoker-gateway", "stoker-worker"]
    assert found["stoker-worker"]["imageTagMutability"] == "IMMUTABLE"
    assert found["stoker-worker"]["imageScanningConfiguration"] == {"scanOnPush": True}
    assert [each["rulePriority"] for each in json.loads(found["stoker-worker"]["lifecyclePolicy"])["rules"]] == [1, 2]
    assert list(of_kind("Repository", ACCOUNT + "training: {enabled: true}"))[-1] == "stoker-trainer"
    own = ACCOUNT + "training: {enabled: true, image: trainer:1.0}"
    assert list(of_kind("Repository", own)) == ["stoker-gateway", "stoker-worker"]
    assert of_kind("Repository", "global: {images: {registry: registry.example.com/stoker}}") == {}


def test_every_role_is_for_one_service_account_of_this_cluster() -> None:
    text = ACCOUNT + "keda: {scalers: {sqs: true, cloudwatch: true}}\n" + TRAINING
    found = of_kind("PodIdentityAssociation", text)
    accounts = {name: (each["namespace"], each["serviceAccount"]) for name, each in found.items()}
    assert accounts == {
        "models": ("agentic-ai", "models"),
        "weights": ("agentic-ai", "weights"),
        "gateway": ("agentic-ai", "gateway"),
        "node-watcher": ("agentic-ai", "node-watcher"),
        "keda-operator": ("keda", "keda-operator"),
        "external-secrets": ("external-secrets", "external-secrets"),
        "training": ("agentic-ai-training", "training"),
        "pipeline": ("agentic-ai-training", "pipeline"),
    }
    roles = of_kind("Role", text)
    for name, (namespace, account) in accounts.items():
        assert found[name]["roleRef"] == {"from": {"name": name}}
        assert found[name]["clusterName"] == "Atelier"
        (trust,) = json.loads(roles[name]["assumeRolePolicyDocument"])["Statement"]
        assert trust == {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {
                "StringEquals": {
                    "aws:RequestTag/eks-cluster-name": "Atelier",
                    "aws:RequestTag/kubernetes-namespace": namespace,
                    "aws:RequestTag/kubernetes-service-account": account,
                }
            },
        }


def test_roles_are_named_by_cluster_and_region_and_never_too_long() -> None:
    assert of_kind("Role", ACCOUNT)["models"]["name"] == "Atelier-models-us-west-2"
    long = f'global: {{cluster: {{name: {"a" * 100}, account: "111122223333"}}}}'
    assert {len(each["name"]) for each in of_kind("Role", long).values()} == {64}


def test_no_statement_allows_a_wildcard_action() -> None:
    text = ACCOUNT + "keda: {scalers: {sqs: true, cloudwatch: true}}\n" + TRAINING + SAGEMAKER
    roles = of_kind("Role", text)
    documents = [text for role in roles.values() for text in role.get("inlinePolicies", {}).values()]
    statements = [each for text in documents for each in json.loads(text)["Statement"]]
    assert len(statements) > 20
    assert [each for each in statements for action in each["Action"] if "*" in action] == []
    anywhere = {action for each in statements if "*" in each["Resource"] for action in each["Action"]}
    assert anywhere == {
        "cloudwatch:GetMetricData",
        "cloudwatch:GetMetricStatistics",
        "cloudwatch:PutMetricData",
        "ec2:DescribeSpotPriceHistory",
        "ecr:GetAuthorizationToken",
    }


def test_replicas_read_the_bucket_of_models_and_what_their_weights_name() -> None:
    text = ACCOUNT + "llm: {models: {a: {serving: {weights: s3://lake/a/}}, b: {serving: {weights: s3://lake/b}}}}"
    assert rights("models", text) == {
        "ListWeights": (["s3:ListBucket"], ["arn:aws:s3:::atelier-models-111122223333", "arn:aws:s3:::lake"]),
        "ReadWeights": (
            ["s3:GetObject"],
            [
                "arn:aws:s3:::atelier-models-111122223333/*",
                "arn:aws:s3:::lake/a/*",
                "arn:aws:s3:::lake/b",
                "arn:aws:s3:::lake/b/*",
            ],
        ),
    }
    assert "models" not in of_kind("Role")


def test_jobs_write_to_the_bucket_of_models() -> None:
    actions, places = rights("weights", ACCOUNT)["WriteWeights"]
    assert {"s3:GetObject", "s3:PutObject"} <= set(actions)
    assert places == ["arn:aws:s3:::atelier-models-111122223333/*"]
    theirs = ACCOUNT + "llm: {models: {a: {serving: {weights: s3://lake/a/}}}}"
    assert "weights" not in of_kind("Role", theirs)


def test_dead_letters_are_the_gateways_and_keda_reads_other_queues() -> None:
    text = ACCOUNT + "keda: {scalers: {sqs: true}}\nqueue: {deadLetters: {sqsQueue: letters}}"
    queue = ["arn:aws:sqs:us-west-2:111122223333:letters"]
    assert rights("gateway", text)["DeadLetters"] == (
        [
            "sqs:GetQueueUrl",
            "sqs:GetQueueAttributes",
            "sqs:SendMessage",
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:ChangeMessageVisibility",
        ],
        queue,
    )
    assert "keda-operator" not in of_kind("Role", text)
    own = ACCOUNT + "keda: {scalers: {sqs: true}, sqsQueue: jobs}\nllm: {models: {a: {}, b: {}}}"
    assert rights("keda-operator", own) == {
        "QueueLength": (
            ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"],
            ["arn:aws:sqs:us-west-2:111122223333:jobs-a", "arn:aws:sqs:us-west-2:111122223333:jobs-b"],
        )
    }
    off = of_kind("Role", ACCOUNT + "keda: {enabled: false, scalers: {cloudwatch: true}}")
    assert "keda-operator" not in off
    assert "gateway" not in off


def test_an_account_that_is_not_known_is_a_star_in_the_arn_and_is_said() -> None:
    spec = of_kind("Role")["external-secrets"]
    (document,) = spec["inlinePolicies"].values()
    (statement,) = json.loads(document)["Statement"]
    assert statement["Resource"] == ["arn:aws:secretsmanager:us-west-2:*:secret:agentic-ai-cluster/*"]
    texts = files(aws.render(Plan(loads(""), "karpenter")))
    assert "ARNs have * for the account" in texts["aws/identity-external-secrets.yaml"]
    assert "ARNs have *" not in files(aws.render(Plan(loads(ACCOUNT), "karpenter")))["aws/identity-models.yaml"]


def test_training_writes_checkpoints_and_reads_data_and_only_the_pipeline_writes_models() -> None:
    found = rights("training", ACCOUNT + TRAINING)
    assert found["WriteCheckpoints"][1] == ["arn:aws:s3:::atelier-checkpoints-111122223333/*"]
    assert "s3:PutObject" in found["WriteCheckpoints"][0]
    assert found["ReadData"] == (
        ["s3:GetObject"],
        ["arn:aws:s3:::corpus/train.jsonl", "arn:aws:s3:::corpus/train.jsonl/*"],
    )
    assert "WriteModels" not in found
    assert rights("pipeline", ACCOUNT + TRAINING)["WriteModels"][1] == ["arn:aws:s3:::atelier-models-111122223333/*"]
    assert "pipeline" not in of_kind("Role", ACCOUNT + "training: {enabled: true, pipeline: {enabled: false}}")
    assert "training" not in of_kind("Role", ACCOUNT + "training: {enabled: true, kubeflow: false}")


def test_add_ons_are_those_that_the_mode_lacks() -> None:
    assert list(of_kind("Addon")) == ["eks-pod-identity-agent", "aws-ebs-csi-driver"]
    assert list(of_kind("Addon", mode="hybrid")) == ["eks-pod-identity-agent"]
    assert list(of_kind("Addon", mode="auto")) == []
    efs = "llm: {inference: {cache: {kind: efs, fileSystem: fs-0123abcd}}}"
    assert list(of_kind("Addon", efs, "auto")) == ["aws-efs-csi-driver"]
    fsx = "llm: {inference: {cache: {kind: fsx, fileSystem: fs-0123abcd}}}"
    assert list(of_kind("Addon", fsx, "auto")) == ["aws-fsx-csi-driver"]
    data = "training: {enabled: true, storage: {enabled: true, fileSystem: fs-0123abcd}}"
    assert list(of_kind("Addon", ACCOUNT + data, "auto")) == ["aws-fsx-csi-driver"]


def test_the_driver_of_ebs_gets_its_role_by_name() -> None:
    (account,) = of_kind("Addon")["aws-ebs-csi-driver"]["podIdentityAssociations"]
    assert account == {"serviceAccount": "ebs-csi-controller-sa", "roleRef": {"from": {"name": "ebs-csi-controller"}}}
    managed = of_kind("Role")["ebs-csi-controller"]["policies"]
    assert managed == ["arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"]


def test_data_on_a_file_system_needs_no_right_on_s3() -> None:
    fsx = "training: {enabled: true, data: /fsx/a.jsonl, storage: {enabled: true, fileSystem: fs-0123abcd}}\n"
    found = rights("training", ACCOUNT + fsx)
    assert "WriteCheckpoints" in found
    assert not {"ListData", "ReadData"} & set(found)


def test_kro_is_a_capability_where_it_is_asked_for_and_the_account_is_known() -> None:
    assert of_kind("Capability", ACCOUNT) == {}
    assert of_kind("Capability", "composition: {kro: true}") == {}
    spec = of_kind("Capability", ACCOUNT + "composition: {kro: true}")["kro"]
    assert (spec["type"], spec["clusterName"], spec["roleRef"]) == ("KRO", "Atelier", {"from": {"name": "kro"}})


def test_sagemaker_trains_on_the_types_of_the_pool_and_serves_the_first_model() -> None:
    found = objects(ACCOUNT + TRAINING + SAGEMAKER)
    (job,) = (each["spec"] for (kind, _), each in found.items() if kind == "TrainingJob")
    assert job["roleARN"] == "arn:aws:iam::111122223333:role/Atelier-sagemaker-us-west-2"
    assert job["resourceConfig"] == {"instanceType": "ml.p4d.24xlarge", "instanceCount": 2, "volumeSizeInGB": 200}
    assert job["inputDataConfig"][0]["dataSource"]["s3DataSource"]["s3URI"] == "s3://corpus/train.jsonl"
    assert job["enableManagedSpotTraining"] is True
    assert job["stoppingCondition"]["maxWaitTimeInSeconds"] >= job["stoppingCondition"]["maxRuntimeInSeconds"]
    (model,) = (each["spec"] for (kind, _), each in found.items() if kind == "Model")
    container = model["primaryContainer"]
    assert container["environment"]["SM_VLLM_MODEL"] == "/opt/ml/model"
    source = container["modelDataSource"]["s3DataSource"]
    assert source["s3URI"] == "s3://atelier-models-111122223333/general/"
    (config,) = (each["spec"] for (kind, _), each in found.items() if kind == "EndpointConfig")
    assert config["productionVariants"][0]["modelName"] == model["modelName"]
    assert config["productionVariants"][0]["instanceType"] == "ml.g6.xlarge"
    assert found["Endpoint", "atelier-general"]["spec"]["endpointConfigName"] == config["endpointConfigName"]


def test_what_sagemaker_starts_at_once_is_applied_by_hand() -> None:
    made = render(loads(ACCOUNT + TRAINING + SAGEMAKER), mode="karpenter")
    listed = yaml.safe_load(made["kustomization.yaml"])["resources"]
    kinds = {each["kind"]: name for name in made if "sagemaker" in name for each in yaml.safe_load_all(made[name])}
    applied = {kind for kind, name in kinds.items() if name in listed}
    assert applied == {"Role", "Model", "EndpointConfig"}
    by_hand = {"TrainingJob": "on-demand/sagemaker-train.yaml", "Endpoint": "on-demand/sagemaker-endpoint.yaml"}
    assert {kind: name for kind, name in kinds.items() if kind not in applied} == by_hand
    assert "costs 2 x ml.p4d.24xlarge while it runs" in made["on-demand/sagemaker-train.yaml"]
    for name in by_hand.values():
        assert f"# kubectl apply -f {name}\n" in made[name]


def test_sagemakers_job_reads_s3_alone() -> None:
    fsx = "training: {enabled: true, data: /fsx/a.jsonl, storage: {enabled: true, fileSystem: fs-0123abcd}}\n"
    with pytest.raises(InvalidInput, match=r"training\.data is /fsx/a\.jsonl: SageMaker's job reads S3"):
        objects(ACCOUNT + fsx + SAGEMAKER)


def test_another_spec_makes_another_model_of_sagemaker_and_the_same_endpoint_goes_over_to_it() -> None:
    text = ACCOUNT + SAGEMAKER
    before, after = of_kind("Model", text), of_kind("Model", text + "llm: {inference: {cache: {kind: node}}}")
    assert set(before).isdisjoint(after)
    (model,) = after.values()
    assert model["primaryContainer"]["environment"]["SM_VLLM_MODEL"] == "Qwen/Qwen3-8B"
    assert "modelDataSource" not in model["primaryContainer"]
    assert list(of_kind("Endpoint", text)) == ["atelier-general"]
    assert of_kind("TrainingJob", text) == {}


def test_sagemaker_follows_the_model_and_the_training() -> None:
    model = (
        "llm: {models: {m: {replicas: {min: 3, max: 3}, limits: {contextTokens: 4096}, "
        "serving: {weights: s3://lake/m, gpu: {count: 4, memory: 80Gi}}}}}\n"
    )
    job = "training: {enabled: true, image: trainer:1.0, nodes: 1, gpus: 4, efa: false}\n"
    pools = "karpenter: {nodePools: {gpu: {}, train: {use: training, spotEnabled: false, instanceFamilies: [g6]}}}\n"
    text = ACCOUNT + SAGEMAKER + model + job + pools
    (container,) = (each["primaryContainer"] for each in of_kind("Model", text).values())
    assert container["environment"] == {
        "SM_VLLM_MODEL": "/opt/ml/model",
        "SM_VLLM_SERVED_MODEL_NAME": "m",
        "SM_VLLM_TENSOR_PARALLEL_SIZE": "4",
        "SM_VLLM_MAX_MODEL_LEN": "4096",
    }
    assert container["modelDataSource"]["s3DataSource"]["s3URI"] == "s3://lake/m/"
    (config,) = of_kind("EndpointConfig", text).values()
    assert config["productionVariants"][0]["initialInstanceCount"] == 3
    assert config["productionVariants"][0]["instanceType"] == "ml.g6.12xlarge"
    (training,) = of_kind("TrainingJob", text).values()
    assert training["algorithmSpecification"]["trainingImage"] == "trainer:1.0"
    assert training["resourceConfig"]["instanceType"] == "ml.g6.12xlarge"
    assert training["resourceConfig"]["instanceCount"] == 1
    assert training["enableManagedSpotTraining"] is False
    assert "maxWaitTimeInSeconds" not in training["stoppingCondition"]


def test_without_pools_sagemaker_has_the_whole_catalogue() -> None:
    text = ACCOUNT + SAGEMAKER + "karpenter: {enabled: false}\n"
    (one,) = of_kind("EndpointConfig", text).values()
    assert one["productionVariants"][0]["instanceType"] == "ml.g6.xlarge"
    four = text + "llm: {inference: {gpu: {count: 4, memory: 80Gi}}}"
    (config,) = of_kind("EndpointConfig", four).values()
    assert config["productionVariants"][0]["instanceType"] == "ml.g6.12xlarge"


def test_sagemaker_has_nothing_to_do_without_a_gpu_and_without_training() -> None:
    text = ACCOUNT + SAGEMAKER + "llm: {inference: {gpu: {count: 0}}}"
    assert of_kind("Endpoint", text) == {}
    assert "sagemaker" not in of_kind("Role", text)


def test_sagemaker_needs_the_account_and_types_that_it_has() -> None:
    with pytest.raises(InvalidInput, match=r"composition\.ack\.sagemaker"):
        loads(SAGEMAKER)
    loads("composition: {ack: {enabled: false, sagemaker: true}}")
    pool = "karpenter: {nodePools: {gpu: {}, train: {use: training, instanceFamilies: [p6-b200]}}}\n"
    with pytest.raises(InvalidInput, match="no type of its node pool is one that SageMaker has"):
        objects(ACCOUNT + TRAINING + SAGEMAKER + pool)
    china = 'global: {cluster: {region: cn-north-1, account: "111122223333"}}\n' + SAGEMAKER
    with pytest.raises(InvalidInput, match="not in cn-north-1"):
        objects(china)


def test_secrets_that_nobody_needs_to_know_are_made_by_terraform_and_not_kept() -> None:
    text = terraform()
    for name in ("redis", "ledger", "engine", "admin"):
        assert f'resource "aws_secretsmanager_secret" "{name}"' in text
        assert f'"agentic-ai-cluster/{name}"' in text
        assert f"ephemeral.aws_secretsmanager_random_password.{name}.random_password" in text
    assert "secret_string_wo " in text
    assert "secret_string " not in text


def test_secrets_of_servers_of_ones_own_are_made_empty() -> None:
    hosted = "llm: {models: {big: {engine: {url: https://api.example.com/v1, apiKeyEnv: BIG_KEY}}}}\n"
    redis = "redis: {url: redis://cache.internal:6379, passwordEnv: REDIS_PASSWORD}\n"
    ledger = "ledger: {url: postgresql://stoker@db.internal/stoker, passwordEnv: LEDGER_PASSWORD}\n"
    found = of_kind("Secret", hosted + redis + ledger)
    assert {name: each["name"] for name, each in found.items()} == {
        "redis": "agentic-ai-cluster/redis",
        "ledger": "agentic-ai-cluster/ledger",
        "engine-big": "agentic-ai-cluster/engine-big",
    }
    assert [each for each in found.values() if "secretString" in each] == []
    text = terraform(hosted + redis + ledger)
    assert '"redis"' not in text
    assert '"ledger"' not in text
    by_terraform = terraform(hosted + "composition: {ack: {enabled: false}}")
    assert 'resource "aws_secretsmanager_secret" "engine-big"' in by_terraform
    assert 'resource "aws_secretsmanager_secret_version" "engine-big"' not in by_terraform
    assert of_kind("Secret", "redis: {url: redis://cache.internal:6379}") == {}


def test_what_callbacks_are_signed_with_is_made_empty() -> None:
    tenants = "tenants: {a: {callbackSecretEnv: A_SECRET}, b: {callbackSecretEnv: B_SECRET}}\n"
    assert of_kind("Secret", tenants)["callbacks"]["name"] == "agentic-ai-cluster/callbacks"
    by_terraform = terraform(tenants + "composition: {ack: {enabled: false}}")
    assert 'resource "aws_secretsmanager_secret" "callbacks"' in by_terraform
    assert 'Empty until somebody writes {"A_SECRET": "...", "B_SECRET": "..."} into it.' in by_terraform


def test_elasticache_writes_its_own_secret() -> None:
    assert '"redis"' not in terraform("redis: {elasticache: {enabled: true}}")


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on PATH")
def test_terraform_finds_nothing_to_format(tmp_path: Path) -> None:
    hosted = "llm: {models: {big: {engine: {url: https://api.example.com/v1, apiKeyEnv: BIG_KEY}}}}\n"
    for name, text in render(loads(ACCOUNT + hosted + "composition: {ack: {enabled: false}}"), only=["aws"]).items():
        path = tmp_path / Path(name).name
        path.write_text(text)
    result = subprocess.run(["terraform", "fmt", "-check", "-diff", str(tmp_path)], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")

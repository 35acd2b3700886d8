"""STK-SCRIPTS: the edges of its rules, beside the examples in their docstrings."""

from typing import Any

import pytest
from linted import container, messages, node_class, pod, pool, said


def python(code: str, **more: Any) -> dict[str, Any]:
    return pod(container(command=["python3", "-c", code], **more))


def shell(code: str, **more: Any) -> dict[str, Any]:
    return pod(container(command=["/bin/bash", "-ec", code], **more))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print(os.getcwd())", ["line 1 uses the module os, which is never imported: NameError when it runs"]),
        ("import os.path\nprint(os.sep)", []),
        (
            "import numpy as np\nprint(np.pi)\nprint(numpy.pi)",
            ["line 3 uses the module numpy, which is never imported: NameError when it runs"],
        ),
        ("from os import *\nprint(getcwd())", []),
        ("def f(a, *b, c=1, **d):\n  return [x for x in b if x] + [a, c, d]\nf(1)", []),
        ("try:\n  pass\nexcept ValueError as e:\n  print(e)", []),
        ("with open('a') as f, open('b') as g:\n  print(f, g)", []),
        ("match 1:\n  case [a, *b]:\n    print(a, b)\n  case {'k': c, **d}:\n    print(c, d)", []),
        ("print((y := 1), y, __name__)", []),
        ("global z\nprint(z)", []),
        ("exec('q = 1')\nprint(q)", []),
        ("print(serve)", ["line 1 uses serve, which nothing defines: NameError when it runs"]),
        ("print(", []),  # which is another rule's
    ],
)
def test_names_of_inline_python(code: str, expected: list[str]) -> None:
    assert messages("STK-SCRIPTS-001", python(code)) == expected


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("import os print(1)", "error"),
        ("print(1)", ""),
        ("type A = list[int]\nprint(", "warning"),  # of Python 3.12
        ("{{ code }", ""),  # filled in by a template
        ("a = '\\d'", ""),
        ("\0", "error"),
    ],
)
def test_inline_python_that_does_not_parse(code: str, severity: str) -> None:
    assert [how for _, _, how in said("STK-SCRIPTS-002", python(code))] == ([severity] if severity else [])


@pytest.mark.parametrize(
    "command", [["python2", "-c", "print 1"], ["python", "main.py", "-c"], ["python", "-m", "torch.distributed.run"]]
)
def test_what_is_no_inline_python(command: list[str]) -> None:
    assert said("STK-SCRIPTS-002", pod(container(command=command))) == []


def test_code_behind_another_program() -> None:
    wrapped = pod(container(command=["/sbin/tini", "--", "python", "-u", "-c"], args=["print(os.sep)"]))
    assert said("STK-SCRIPTS-001", wrapped) == [("Pod ai/chat", "spec.containers[0].args[0]", "warning")]


READS = "import os\nprint(os.environ['POD_NAME'])"


@pytest.mark.parametrize(
    ("code", "more", "is_said"),
    [
        (READS, {}, True),
        (READS, {"env": [{"name": "POD_NAME", "value": "a"}]}, False),
        (READS, {"envFrom": [{"configMapRef": {"name": "a"}}]}, False),
        ("import os\nos.environ['POD_NAME'] = 'a'\n" + READS, {}, False),
        ("import os\nos.environ.setdefault('POD_NAME', 'a')\n" + READS, {}, False),
        ("import os\nif 'POD_NAME' in os.environ:\n  print(os.environ['POD_NAME'])", {}, False),
        ("import os\ntry:\n  print(os.environ['POD_NAME'])\nexcept KeyError:\n  pass", {}, False),
        ("import os\nprint(os.environ.get('POD_NAME'))", {}, False),
        ("from os import environ\nprint(environ['POD_NAME'])", {}, True),
        ("import os\nprint(os.environ['AWS_REGION'], os.environ['RANK'], os.environ['HOME'])", {}, False),
    ],
)
def test_variables_that_inline_python_reads(code: str, more: dict[str, Any], is_said: bool) -> None:
    found = said("STK-SCRIPTS-003", python(code, **more))
    assert found == ([("Pod ai/chat", "spec.containers[0].env", "warning")] if is_said else [])


@pytest.mark.parametrize(
    ("command", "severity"),
    [
        (["server", "--rank=$RANK"], "warning"),
        (["server", "--rank=${RANK}"], "warning"),
        (["server", "--rank=$(RANK)"], ""),
        (["server", "--rank=$OTHER"], "info"),  # the image may have it, and the program may replace it
        (["sh", "-c", "server --rank=$RANK"], ""),
        (["awk", "{print $NF}"], ""),
        (["server", "^a$"], ""),
        (["server", "$$RANK"], ""),
    ],
)
def test_variables_that_no_shell_reads(command: list[str], severity: str) -> None:
    env = [{"name": "RANK", "value": "0"}]
    found = said("STK-SCRIPTS-004", pod(container(command=command, env=env)))
    assert [how for _, _, how in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--model", "$(MODEL_NAME)"], []),
        (["--model", "$(MODEL)"], ["env has no MODEL, so the text $(MODEL) stays as it is"]),
        (["--model", "$$(MODEL)"], []),
        (["--redis", "$(REDIS_SERVICE_HOST)"], []),  # of the Service
        (["--now", "$(date)"], []),
    ],
)
def test_references_in_arguments(args: list[str], expected: list[str]) -> None:
    env = [{"name": "MODEL_NAME", "value": "a"}]
    assert messages("STK-SCRIPTS-005", pod(container(args=args, env=env))) == expected


ASKS = "curl -s http://169.254.169.254/latest/meta-data/spot/instance-action"


@pytest.mark.parametrize(
    ("code", "is_said"),
    [
        (ASKS, True),
        (f'curl -H "X-aws-ec2-metadata-token: $T" {ASKS[8:]}', False),
        ("curl -H 'Metadata-Flavor: Google' http://169.254.169.254/computeMetadata/v1/", False),
        ("echo 169.254.169.254 is the address", False),
    ],
)
def test_asking_the_metadata_service(code: str, is_said: bool) -> None:
    assert (said("STK-SCRIPTS-006", shell(code)) != []) is is_said
    assert said("STK-SCRIPTS-006", shell(code), node_class(metadataOptions={"httpTokens": "optional"})) == []


def test_user_data_that_asks() -> None:
    assert said("STK-SCRIPTS-006", node_class(userData=ASKS)) == [("EC2NodeClass gpu", "spec.userData", "warning")]
    assert said("STK-SCRIPTS-006", node_class(userData=ASKS, metadataOptions={"httpTokens": "optional"})) == []


@pytest.mark.parametrize(
    ("code", "is_said"),
    [
        ("pkill -TERM -f train.py", True),
        ("killall -9 train", True),
        ("kill -TERM $(pgrep -f train.py)", True),
        ("train.py & sleep 5; pkill -f train.py", False),  # its own
        ("kill $!", False),
    ],
)
def test_signals_to_other_containers(code: str, is_said: bool) -> None:
    sidecar = container("listener", command=["sh", "-c", code])
    assert (said("STK-SCRIPTS-007", pod(container(), sidecar)) != []) is is_said
    assert said("STK-SCRIPTS-007", pod(container(), sidecar, shareProcessNamespace=True)) == []
    assert said("STK-SCRIPTS-007", pod(sidecar)) == []  # alone, it can only mean itself


@pytest.mark.parametrize(("slept", "is_said"), [("5", False), ("59", False), ("60", True), ("2m", True)])
def test_sleeping_through_the_notice(slept: str, is_said: bool) -> None:
    assert (said("STK-SCRIPTS-008", shell(f"{ASKS}; sleep {slept}")) != []) is is_said
    assert said("STK-SCRIPTS-008", shell(f"sleep {slept}")) == []


def test_one_hop_too_far() -> None:
    near, far = node_class(), node_class(metadataOptions={"httpPutResponseHopLimit": 2})
    place = ("Pod ai/chat", "spec.containers[0].command[2]", "warning")
    assert said("STK-SCRIPTS-009", shell(ASKS), pool(), near) == [place]
    assert said("STK-SCRIPTS-009", shell(ASKS), pool(), far) == []
    assert said("STK-SCRIPTS-009", shell(ASKS), pool()) == []  # whatever its class says
    host = shell(ASKS)
    host["spec"]["hostNetwork"] = True
    assert said("STK-SCRIPTS-009", host, pool(), near) == []


@pytest.mark.parametrize(
    ("code", "is_said"),
    [
        ("prepare\ntorchrun train.py", True),
        ("prepare\nexec torchrun train.py", False),
        ("torchrun train.py", False),
        ("trap 'kill $P' TERM; torchrun train.py & P=$!; wait", False),
        ("prepare && python train.py", True),
    ],
)
def test_a_shell_in_between(code: str, is_said: bool) -> None:
    assert (said("STK-SCRIPTS-010", shell(code, resources={"limits": {"nvidia.com/gpu": 1}})) != []) is is_said

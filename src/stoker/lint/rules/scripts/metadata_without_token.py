"""A script asks the metadata service without a token.

Nodes that Karpenter launches require IMDSv2 (`httpTokens: required` is the default): a request without a token is
answered with 401. A loop that waits for the code 200 of a spot notice waits for ever.

Symptom: a spot listener runs, and never sees a notice
Symptom: curl of 169.254.169.254 gives 401

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: listener}
    spec:
      hostNetwork: true
      containers:
      - name: listener
        image: example.com/shell:v1
        command:
        - sh
        - -c
        - |
          until curl -sf http://169.254.169.254/latest/meta-data/spot/instance-action; do sleep 5; done

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: listener}
    spec:
      hostNetwork: true
      containers:
      - name: listener
        image: example.com/shell:v1
        command:
        - sh
        - -c
        - |
          I=http://169.254.169.254/latest
          token() { curl -sX PUT $I/api/token -H "X-aws-ec2-metadata-token-ttl-seconds: 300"; }
          until curl -sf -H "X-aws-ec2-metadata-token: $(token)" $I/meta-data/spot/instance-action; do sleep 5; done

Source: Amazon EC2 user guide, use the Instance Metadata Service (IMDSv2)
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/nodeclasses.md (metadataOptions)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import Script
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import IMDS, OTHER_CLOUDS, judged

_ASKS = re.compile(r"\b(curl|wget|urlopen|requests\.|httpx\.|http\.client|aiohttp)")
_WITH_TOKEN = re.compile(r"metadata-token|imdsutils|ec2-metadata\b|InstanceMetadata", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    classes = [each.get("spec", "metadataOptions", "httpTokens") for each in cluster.of("EC2NodeClass")]
    all_optional = bool(classes) and all(each == "optional" for each in classes)
    for script in judged(cluster):
        if script.place != "userData" and all_optional:
            continue
        if script.place == "userData" and script.manifest.get("spec", "metadataOptions", "httpTokens") == "optional":
            continue
        if IMDS.search(script.text) and _asks_without_token(script):
            yield Problem(
                script.manifest,
                script.path,
                "asks 169.254.169.254 without a token: with IMDSv2 required, Karpenter's default, the answer is 401",
                hint="PUT /latest/api/token first, and send it as X-aws-ec2-metadata-token",
            )


def _asks_without_token(script: Script) -> bool:
    text = script.text
    return bool(_ASKS.search(text)) and not _WITH_TOKEN.search(text) and not OTHER_CLOUDS.search(text)


RULE = Rule(
    "STK-SCRIPTS-006",
    Severity.WARNING,
    "A script asks the metadata service without a token",
    check,
    __name__,
    guide=("R19",),
)

"""Certificates are not verified.

The connection is encrypted, but to whom is not known: whoever sits between reads and changes what is sent, keys and
prompts included.

Symptom: none; the warning about the certificate is gone

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      containers:
      - name: api
        image: registry.example.com/api:1.0
        env:
        - {name: NODE_TLS_REJECT_UNAUTHORIZED, value: "0"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      containers:
      - name: api
        image: registry.example.com/api:1.0
        env:
        - {name: NODE_EXTRA_CA_CERTS, value: /etc/ca/ca.pem}

Source: Node.js documentation, command-line API: NODE_TLS_REJECT_UNAUTHORIZED
Source: kedacore/keda-docs content/docs: unsafeSsl of triggers
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import containers, variables, words
from stoker.manifests.objects import sections

_OFF = ("0", "false", "no", "off")
_ON = ("1", "true", "yes", "on")
_VARIABLES = {
    "NODE_TLS_REJECT_UNAUTHORIZED": _OFF,
    "PYTHONHTTPSVERIFY": _OFF,
    "GIT_SSL_NO_VERIFY": _ON,
    "VAULT_SKIP_VERIFY": _ON,
    "REDIS_TLS_INSECURE": _ON,
    "HF_HUB_DISABLE_SSL_VERIFY": _ON,
    "SSL_VERIFY": _OFF,
    "VERIFY_SSL": _OFF,
}
_FLAGS = (
    "--insecure-skip-tls-verify",
    "--insecure-skip-verify",
    "--tls-insecure-skip-verify",
    "--no-check-certificate",
)
_TRIGGER = ("unsafeSsl",)


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster):
        for i, name, value in variables(container):
            if value.lower() in _VARIABLES.get(name, ()):
                yield Problem(
                    workload.manifest,
                    (*path, "env", i, "value"),
                    f"{name}={value}: certificates are not verified, so anybody between can read and change it all",
                    hint="the certificate of your authority (NODE_EXTRA_CA_CERTS, SSL_CERT_FILE)",
                )
        for part, text in words(container):
            if text.removesuffix("=true") in _FLAGS:
                yield Problem(
                    workload.manifest, (*path, *part), f"{text}: certificates are not verified", hint="a CA file"
                )
    for scaler in cluster.of("ScaledObject", "ScaledJob", group="keda.sh"):
        for i, trigger in sections(scaler.get("spec", "triggers")):
            options = trigger.get("metadata")
            for key in _TRIGGER:
                if isinstance(options, dict) and str(options.get(key)).lower() == "true":
                    yield Problem(
                        scaler,
                        ("spec", "triggers", i, "metadata", key),
                        f"{key}: the certificate of the source is not verified, while its credentials are sent to it",
                        hint="the CA of the source in a TriggerAuthentication (parameter ca)",
                    )


RULE = Rule("STK-SECURITY-027", Severity.WARNING, "Certificates are not verified", check, __name__)

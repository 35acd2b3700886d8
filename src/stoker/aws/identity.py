"""Who asks, and signing in to EKS: both by STS. Errors of boto3 become NotPermitted or Unavailable here.

A token of EKS is a signed request to STS that only EKS sends off (aws-iam-authenticator, "API Authorization from
Outside a Cluster"): base64 of the URL of GetCallerIdentity, with the cluster's name in a signed header.
"""

import base64
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stoker.aws.away import unreachable
from stoker.base.errors import InvalidInput, NotPermitted, Unavailable

TOKEN_S = 840.0
"""Seconds that a token is good for, of the 15 minutes that EKS takes it."""
_URL_S = 60
_HEADER = "x-k8s-aws-id"


@dataclass(frozen=True)
class Caller:
    account: str
    arn: str


def caller(region: str) -> Caller:
    """Raises NotPermitted where there are no credentials or STS refuses them, and Unavailable."""
    botocore = _botocore()
    try:
        said = _session().client("sts", region_name=region).get_caller_identity()
    except (botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.ClientError) as error:
        raise NotPermitted(
            f"AWS does not know who asks: {error}", hint="sign in: `aws sso login`, AWS_PROFILE"
        ) from error
    except unreachable() as error:
        raise Unavailable(f"STS cannot be asked: {error}") from error
    return Caller(said["Account"], said["Arn"])


def cluster_token(cluster: str, region: str) -> str:
    """What EKS takes as bearer for `TOKEN_S`. Signed here; nothing is asked. Raises NotPermitted without
    credentials."""
    from botocore.signers import RequestSigner

    session = _session()
    credentials = session.get_credentials()
    if credentials is None:
        raise NotPermitted("no AWS credentials", hint="sign in: `aws sso login`, AWS_PROFILE")
    client = session.client("sts", region_name=region)
    signer = RequestSigner(client.meta.service_model.service_id, region, "sts", "v4", credentials, session.events)
    url = signer.generate_presigned_url(
        {
            "method": "GET",
            "url": f"{client.meta.endpoint_url}/?Action=GetCallerIdentity&Version=2011-06-15",
            "body": {},
            "headers": {_HEADER: cluster},
            "context": {},
        },
        region_name=region,
        expires_in=_URL_S,
        operation_name="",
    )
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def main(cluster: str, region: str) -> None:
    """As a plug-in for credentials of a kubeconfig: an ExecCredential on stdout."""
    until = datetime.now(UTC) + timedelta(seconds=TOKEN_S)
    status = {"token": cluster_token(cluster, region), "expirationTimestamp": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    said = {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": status}
    sys.stdout.write(json.dumps(said))


def _session() -> Any:
    _botocore()
    import boto3

    return boto3.Session()


def _botocore() -> Any:
    try:
        from botocore import exceptions
    except ImportError as error:
        raise InvalidInput("deploying needs boto3", hint="pip install 'stoker[deploy]'") from error
    return exceptions


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

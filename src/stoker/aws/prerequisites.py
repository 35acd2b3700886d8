"""Is in AWS what a deploy needs there and only people can bring? Images in ECR, values of secrets. Errors of boto3
become Unavailable or NotPermitted here."""

from collections.abc import Iterable
from typing import Any

from stoker.aws.away import unreachable
from stoker.base.errors import InvalidInput, NotPermitted, Unavailable


def missing_images(region: str, images: Iterable[tuple[str, str]]) -> list[str]:
    """Those of (repository, tag) that the account's ECR does not have, as repository:tag."""
    missing = []
    for repository, tag in sorted(set(images)):
        request = {"repositoryName": repository, "imageIds": [{"imageTag": tag}]}
        there = _answers(
            "ecr", region, "describe_images", request, ("ImageNotFoundException", "RepositoryNotFoundException")
        )
        if not there:
            missing.append(f"{repository}:{tag}")
    return missing


def empty_secrets(region: str, names: Iterable[str]) -> list[str]:
    """Those that Secrets Manager does not have, or has without a value. The value itself is not asked for."""
    found = []
    for name in sorted(set(names)):
        said = _answers("secretsmanager", region, "describe_secret", {"SecretId": name}, ("ResourceNotFoundException",))
        stages = (said or {}).get("VersionIdsToStages") or {}
        if not any("AWSCURRENT" in each for each in stages.values()):
            found.append(name)
    return found


def _answers(service: str, region: str, call: str, request: dict[str, Any], absent: tuple[str, ...]) -> Any:
    """What AWS says; None where it says that there is no such thing."""
    try:
        import boto3
        from botocore.exceptions import ClientError
    except ImportError as error:
        raise InvalidInput("deploying needs boto3", hint="pip install 'stoker[deploy]'") from error
    try:
        return getattr(boto3.client(service, region_name=region), call)(**request)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if code in absent:
            return None
        if "AccessDenied" in code:
            raise NotPermitted(f"AWS refuses {service}:{call}: {error}") from error
        raise Unavailable(f"AWS does not answer {service}:{call}: {error}") from error
    except unreachable() as error:
        raise Unavailable(f"AWS cannot be asked: {error}") from error

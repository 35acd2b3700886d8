"""What `platform.yaml` only names: the secrets that stand in environment variables."""

from collections.abc import Mapping

from stoker.base.errors import InvalidInput
from stoker.base.process import ENGINE_KEY
from stoker.spec.llm import ServerEngine
from stoker.spec.platform import Platform


def engine_key(platform: Platform, model: str, environ: Mapping[str, str]) -> str | None:
    """The key of the engine that runs `model`; None when it has none. Raises InvalidInput when its variable is not
    set: each request would be refused by that server, with an error that names nothing here."""
    engine = platform.llm.models[model].engine
    if not isinstance(engine, ServerEngine):
        return environ.get(ENGINE_KEY)
    if engine.api_key_env is None:
        return None
    key = environ.get(engine.api_key_env)
    if not key:
        path = f"llm.models.{model}.engine.apiKeyEnv"
        raise InvalidInput(
            f"{path} names the environment variable {engine.api_key_env}, which is not set",
            param=path,
            hint=f"export {engine.api_key_env}=... before it starts, or leave apiKeyEnv out",
        )
    return key

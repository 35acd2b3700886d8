"""What the processes of agents are told by their environment: addresses that may hold passwords, and the secret of
grants."""

from collections.abc import Mapping
from dataclasses import dataclass

from stoker.base.errors import InvalidInput
from stoker.meter.grants import SECRET, secret_of

REDIS_URL = "STOKER_REDIS_URL"
DATABASE_URL = "STOKER_AGENTS_DB"
GATEWAY_URL = "STOKER_GATEWAY_URL"


@dataclass(frozen=True, slots=True)
class Settings:
    redis_url: str
    database_url: str
    gateway_url: str
    secret: str

    @classmethod
    def of(cls, environ: Mapping[str, str], *, gateway: bool) -> "Settings":
        """Raises InvalidInput for what is missing. `gateway`: its address is needed, too."""
        wanted = [REDIS_URL, DATABASE_URL, SECRET, *([GATEWAY_URL] if gateway else [])]
        missing = [name for name in wanted if not environ.get(name)]
        if missing:
            raise InvalidInput(f"{', '.join(missing)} must be set in the environment", param=missing[0])
        secret = secret_of(environ) or ""
        return cls(environ[REDIS_URL], environ[DATABASE_URL], environ.get(GATEWAY_URL, ""), secret)

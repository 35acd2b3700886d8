"""How pods reach Redis, as environment variables: a password is never in a manifest or on a command line."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from stoker.base.errors import InvalidInput
from stoker.render.facts import REDIS_SECRET
from stoker.render.objects import Object, from_secret
from stoker.render.plan import Plan
from stoker.spec import ServerEngine

REDIS_URL = "STOKER_REDIS_URL"
REDIS_PASSWORD = "STOKER_REDIS_PASSWORD"  # noqa: S105 - the name of a variable


def check_hosts(plan: Plan) -> None:
    """Raises InvalidInput for a URL of the spec that names the machine it is used on: in a pod that is the pod."""
    urls = {"redis.url": plan.spec.redis.url, "ledger.url": plan.spec.ledger.url}
    urls["global.observability.otlp.endpoint"] = plan.spec.global_.observability.otlp.endpoint
    if plan.has_agents:
        urls["agents.store.url"] = plan.spec.agents.store.url
        urls |= {
            f"agents.tools.{name}.mcp.url": tool.mcp.url for name, tool in plan.spec.agents.tools.items() if tool.mcp
        }
    for name in plan.hosted:
        engine = plan.spec.llm.models[name].engine
        if isinstance(engine, ServerEngine):
            urls[f"llm.models.{name}.engine.url"] = engine.url
    for key, url in urls.items():
        host = urlsplit(url or "").hostname or ""
        if _is_own(host):
            raise InvalidInput(
                f"{key} names {host}, which in a pod is the pod itself",
                param=key,
                hint="name a host that pods reach, or leave the key out in the file for the cluster",
            )


def _is_own(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def redis_env(plan: Plan) -> list[Object]:
    """STOKER_REDIS_URL, after whatever it is made of."""
    if plan.redis == "elasticache":
        return [from_secret(REDIS_URL, REDIS_SECRET, "url")]
    if plan.redis == "cluster":
        return with_password(REDIS_URL, f"redis://{plan.redis_address}/0", REDIS_PASSWORD, REDIS_SECRET)
    url = plan.spec.redis.url or ""
    if urlsplit(url).scheme == "unix":
        raise InvalidInput(
            f"redis.url is {url}, a socket of one machine, which no pod reaches",
            param="redis.url",
            hint="name a server with redis:// or rediss://, or leave redis.url out for Redis in the cluster",
        )
    if plan.spec.redis.password_env is None:
        return [{"name": REDIS_URL, "value": url}]
    return with_password(REDIS_URL, url, REDIS_PASSWORD, REDIS_SECRET)


def with_password(variable: str, url: str, password: str, secret: str) -> list[Object]:
    """The variable with a URL, and before it the one with the password: the kubelet puts $(NAME) in when it stands
    further up in the list. It is not escaped, so a password here is letters, digits, - and _
    (docs/render/platform.md)."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    user = ""
    if "@" in host:
        user, _, _ = host.partition("@")
        rest = rest[len(user) + 1 :]
    return [
        from_secret(password, secret, "password"),
        {"name": variable, "value": f"{scheme}://{user}:$({password})@{rest}"},
    ]

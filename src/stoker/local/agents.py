"""Whether agents run on this machine."""

from importlib.util import find_spec

from stoker.base.errors import InvalidInput
from stoker.spec import Platform


def decide(platform: Platform) -> Platform:
    """The platform with `agents.enabled` said. Raises InvalidInput when they are to run and what they need is not
    installed."""
    is_enabled = platform.agents.enabled
    if is_enabled and not is_installed():
        raise InvalidInput(
            "agents.enabled is true, and LangGraph is not installed, which runs them",
            param="agents.enabled",
            hint='pip install "stoker[agents]", or leave agents.enabled out',
        )
    if is_enabled is None:
        is_enabled = is_installed()
    return platform.model_copy(update={"agents": platform.agents.model_copy(update={"enabled": is_enabled})})


def is_installed() -> bool:
    """Without importing it, which takes a second."""
    return find_spec("langgraph") is not None

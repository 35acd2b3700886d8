"""Which platform a command talks to, and with which key.

What is said wins over what is set, and what is set over what lies around:

1. `--url` and `--key`
2. `--state DIR`: its credentials.json
3. STOKER_URL and STOKER_KEY
4. STOKER_STATE, or .stoker in the current directory: its credentials.json
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput, NotFound


@dataclass(frozen=True)
class Asked:
    """The three options, as given."""

    url: str | None = None
    key: str | None = None
    state: Path | None = None


@dataclass(frozen=True)
class Target:
    url: str
    key: str
    state: Path | None
    """The state directory that this was read from; None when it was named by its URL."""


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that talks to a running platform. They arrive as `url`, `key` and `state`."""
    for decorate in (
        click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform."),
        click.option("--key", help="API key. Default: STOKER_KEY, or the state directory's."),
        click.option("--url", help="URL of the platform. Default: STOKER_URL, or the state directory's."),
    ):
        command = decorate(command)
    return command


def find(asked: Asked, *, admin: bool = False, environ: Mapping[str, str] = os.environ) -> Target:
    """The platform that is meant. `admin`: the command needs the admin key, where there is a choice. Raises NotFound
    when there is none, InvalidInput when a URL has no key."""
    if asked.url is not None:
        key = asked.key or environ.get("STOKER_KEY")
        if not key:
            # Never the key of some state directory: it would be sent to whatever stands at that URL.
            raise InvalidInput("--url is given without a key", param="key", hint="add --key KEY, or set STOKER_KEY")
        return Target(_root(asked.url), key, None)
    target = _found(asked, admin=admin, environ=environ)
    return Target(target.url, asked.key, target.state) if asked.key else target


def default_state(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("STOKER_STATE") or ".stoker")


def _found(asked: Asked, *, admin: bool, environ: Mapping[str, str]) -> Target:
    if asked.state is not None:
        return _of_state(asked.state, admin=admin)
    url, key = environ.get("STOKER_URL"), asked.key or environ.get("STOKER_KEY")
    if url and key:
        return Target(_root(url), key, None)
    if url:
        raise InvalidInput("STOKER_URL is set without a key", param="key", hint="add --key KEY, or set STOKER_KEY")
    return _of_state(default_state(environ), admin=admin)


def _root(url: str) -> str:
    """Where the platform's paths begin: what `stoker up` prints for SDKs ends in /v1, and is taken too. Raises
    InvalidInput for what is no URL."""
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(
            f"the platform's URL is {url!r}; it must begin with http:// or https://",
            param="url",
            hint=f"did you mean http://{url}?",
        )
    return url.rstrip("/").removesuffix("/v1")


def _of_state(path: Path, *, admin: bool) -> Target:
    from stoker.local.state import StateDirectory

    credentials = StateDirectory(path).read_credentials()
    if credentials is None:
        raise NotFound(
            f"no platform was started in {path}",
            hint="start one with `stoker up`, or name one with --state DIR, or with --url and --key",
        )
    return Target(credentials.url, credentials.admin_key if admin else credentials.key, path)

"""Calls to the stand-in, as they are recorded, and what a test lets go wrong with them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

How = Literal["refuse", "lose"] | int
"""`refuse`: the connection is closed before anything is done. `lose`: it is done, and the answer is lost. A number:
that is answered, and nothing is done."""

MUTATING = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Call:
    """One request. `status`: 0 until it is answered, and where the connection was closed instead."""

    number: int
    """Among all calls, from 1."""
    changing: int
    """Among those that change something (no dry run), from 1; 0 for others."""
    method: str
    path: str
    query: dict[str, str]
    user_agent: str
    status: int = 0

    @property
    def changes(self) -> bool:
        return self.changing > 0


@dataclass
class Fault:
    """`when` may be the number of a call that changes something: the first is 1."""

    when: Callable[[Call], bool] | int
    how: How
    times: int = 1

    def strikes(self, call: Call) -> bool:
        hit = call.changing == self.when if isinstance(self.when, int) else self.when(call)
        if not hit or self.times < 1:
            return False
        self.times -= 1
        return True


def changes_something(method: str, path: str, query: dict[str, str]) -> bool:
    """Questions that are put as a POST (an access review) change nothing."""
    return method in MUTATING and query.get("dryRun") != "All" and not path.endswith("reviews")

"""A stand-in for a cluster: its API server on loopback HTTP, its controllers in small, and a program called helm."""

from stoker.testing.kubernetes.faults import Call
from stoker.testing.kubernetes.server import ApiServer, api_server

__all__ = ["ApiServer", "Call", "api_server"]

"""A stand-in for a cluster: its API server on loopback HTTPS, its controllers in small, and a program called helm.

`server` answers HTTPS, `verbs` is what it does with objects, `apply` and `fields` are server-side apply, `validation`
and `defaults` what is refused and filled in, `controllers` and `states` what becomes of it, `faults` what goes wrong.
"""

from stoker.testing.kubernetes.faults import Call
from stoker.testing.kubernetes.server import ApiServer, api_server

__all__ = ["ApiServer", "Call", "api_server"]

"""HTTP, and the one home of its libraries: the server loop, OpenAI's error shape, server-sent events, the client.

Knows nothing of models, tasks or keys; the gateway and the engine are applications on top of it.
"""

"""Engines: the embedded one, and the client of any.

The embedded engine, from the socket down:

    __main__    the process
    app         OpenAI's endpoints           parsing, images: body -> Generation; shapes: answers
    loop        the thread, the way in and out
    runner      the batch and its step       scheduler: what a step computes
    sequences   one request in the batch     stops: where its text ends
    metrics     vLLM's names
"""

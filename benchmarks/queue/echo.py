"""An engine that says what it was told, at once: a process of its own, so that it can be killed.

python benchmarks/queue/echo.py PORT
"""

import asyncio
import signal
import sys

from stoker.base.process import say_ready
from stoker.testing.engine import EchoEngine
from stoker.web import server


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    engine = EchoEngine("general", port=int(sys.argv[1]))
    async with engine:
        say_ready(url=engine.url)
        await stop.wait()


if __name__ == "__main__":
    server.run(main())

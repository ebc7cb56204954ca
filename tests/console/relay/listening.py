"""A listener that leaves nothing open."""

import asyncio
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def listening(serve, path=""):
    """The port (0 on a Unix socket) where `serve(reader, writer)` answers, each call as a task that ends with this."""
    tasks, writers = [], []

    async def keep(reader, writer):
        tasks.append(asyncio.current_task())
        writers.append(writer)
        with suppress(asyncio.CancelledError):
            await serve(reader, writer)

    listener = await (asyncio.start_unix_server(keep, path) if path else asyncio.start_server(keep, "127.0.0.1", 0))
    try:
        yield 0 if path else listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)  # the loop's turn in which aborted transports close

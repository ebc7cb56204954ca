"""A mail server that tests read: the portal's processes send to it by SMTP."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from threading import Thread

from aiosmtpd.smtp import SMTP


class Postbox:
    """What arrived, in its order."""

    def __init__(self) -> None:
        self.letters: list[Message] = []
        self.url = ""

    async def handle_DATA(self, server, session, envelope) -> str:
        self.letters.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"

    def to(self, address: str) -> list[str]:
        """The texts of those to this address."""
        return [letter.get_body(("plain",)).get_content() for letter in self.letters if address in str(letter["To"])]


@contextmanager
def mail_server() -> Iterator[Postbox]:
    postbox, loop = Postbox(), asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(loop.create_server(lambda: SMTP(postbox, loop=loop), "127.0.0.1", 0), loop).result()
    host, port = server.sockets[0].getsockname()
    postbox.url = f"smtp://{host}:{port}"
    try:
        yield postbox
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(server.wait_closed(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

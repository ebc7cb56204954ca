"""A WebSocket read as a stream of bytes, as pveproxy passes it on: text and binary frames alike, framing lost."""

from aiohttp import WSMsgType


class Gone(Exception):
    """The other side went away."""


class Wire:
    def __init__(self, socket):
        self._socket, self._unread = socket, b""

    async def _more(self):
        message = await self._socket.receive()
        if message.type is WSMsgType.TEXT:
            self._unread += message.data.encode()
        elif message.type is WSMsgType.BINARY:
            self._unread += message.data
        else:
            raise Gone

    async def read(self, size):
        while len(self._unread) < size:
            await self._more()
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    async def until(self, mark):
        """What comes before the mark, which is dropped."""
        while mark not in self._unread:
            await self._more()
        data, _, self._unread = self._unread.partition(mark)
        return data

    async def send(self, data):
        try:
            await self._socket.send_bytes(data)
        except ConnectionError as error:
            raise Gone from error

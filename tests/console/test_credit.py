"""A flood waits for the browser to draw."""

import asyncio
import json

import pytest

from console import credit
from console.credit import Credit


@pytest.fixture
def wire(monkeypatch):
    monkeypatch.setattr(credit, "WINDOW", 100)
    incoming, sent = asyncio.Queue(), []

    async def send(message):
        sent.append(message)

    return Credit(incoming.get, send), incoming, sent


def ack(count):
    return {"type": "websocket.receive", "text": json.dumps({"type": "ack", "bytes": count})}


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_beyond_the_window_waits_for_an_acknowledgement(wire):
    held, incoming, sent = wire
    reading = asyncio.create_task(held.receive())
    incoming.put_nowait(ack(0))
    await settle()
    await held.send({"bytes": b"x" * 100})
    second = asyncio.create_task(held.send({"bytes": b"y"}))
    await settle()
    assert not second.done() and len(sent) == 1
    incoming.put_nowait(ack(60))
    await second
    assert [message["bytes"][:1] for message in sent] == [b"x", b"y"]
    reading.cancel()


async def test_a_browser_that_never_acknowledges_is_not_held_back(wire):
    held, _, sent = wire
    for _ in range(5):
        await held.send({"bytes": b"x" * 100})
    assert len(sent) == 5


async def test_the_last_words_do_not_wait(wire):
    held, incoming, sent = wire
    reading = asyncio.create_task(held.receive())
    incoming.put_nowait(ack(0))
    await settle()
    await held.send({"bytes": b"x" * 100})
    await held.send({"type": "websocket.close", "code": 1000})
    assert sent[-1]["type"] == "websocket.close"
    reading.cancel()


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "resize", "cols": 80, "rows": 24}',
        '{"type": "ack"}',
        '{"type": "ack", "bytes": -1}',
        '{"type": "ack", "bytes": "1"}',
        '"ack"',
        '["ack"',
        '{"type": "ack", "bytes": 1' + " " * 100 + "}",
    ],
)
async def test_everything_else_passes_on_to_the_relay(wire, text):
    held, incoming, _ = wire
    incoming.put_nowait({"type": "websocket.receive", "text": text})
    assert (await held.receive())["text"] == text


async def test_key_presses_and_the_farewell_pass(wire):
    held, incoming, _ = wire
    incoming.put_nowait(ack(5))
    incoming.put_nowait({"type": "websocket.receive", "bytes": b"ls\n"})
    incoming.put_nowait({"type": "websocket.disconnect"})
    assert (await held.receive())["bytes"] == b"ls\n"
    assert (await held.receive())["type"] == "websocket.disconnect"

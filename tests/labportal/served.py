"""An application with one path for every habit a server must live with. Run: python -m tests.labportal.served"""

import asyncio
import json
import os
import time

from labportal.server import HIGH_WATER, Server, WebSocketProtocol

POUR = 64 * 1024 * 1024  # bytes that /pour has to say
PIECE = 64 * 1024

poured = 0
go_on = asyncio.Event()


async def application(scope, receive, send):
    path = scope["path"]
    if path == "/whoami":
        await whoami(scope, receive, send)
    else:
        await {"websocket": socket, "http": page}[scope["type"]](path, receive, send)


async def whoami(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["client"][0]})
    await send({"type": "websocket.close"})


async def socket(path, receive, send):
    global poured
    await receive()
    if path == "/refused":
        await send({"type": "websocket.close"})
        return
    if path == "/broken":
        raise RuntimeError("a bug")
    if path == "/hesitates":
        await receive()
        return
    await send({"type": "websocket.accept", "stream": path.startswith("/stream")})
    match path:
        case "/pour" | "/stream/pour":
            for at in range(0, POUR, PIECE):
                await send({"type": "websocket.send", "bytes": bytes([at // PIECE % 256]) * PIECE})
                poured += PIECE
            await send({"type": "websocket.close", "code": 4000, "reason": "done"})
        case "/stalled":
            go_on.clear()
            await go_on.wait()
            size = 0
            while (event := await receive())["type"] == "websocket.receive" and event.get("text") != "end":
                size += len(event.get("bytes") or "")
            await send({"type": "websocket.send", "text": str(size)})
        case "/closes":
            await send({"type": "websocket.close", "code": 4001, "reason": "revoked"})
            await send({"type": "websocket.send", "text": "too late"})
            await send({"type": "websocket.close", "code": 4002})
        case "/sizes":  # how messages arrive
            while (event := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": str(len(event["bytes"]))})
        case _:
            while (event := await receive())["type"] == "websocket.receive":
                await send(event | {"type": "websocket.send"})


async def page(path, receive, send):
    global poured
    body = b""
    match path:
        case "/held":
            body = json.dumps(held()).encode()
        case "/go-on":
            go_on.set()
        case "/slow":
            await asyncio.to_thread(time.sleep, 60)
        case "/pour":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(0, POUR, PIECE):
                await send({"type": "http.response.body", "body": bytes(PIECE), "more_body": True})
                poured += PIECE
            await send({"type": "http.response.body"})
            return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


def held():
    """What this process holds for its WebSockets."""
    sockets = [protocol for protocol in server.connections if isinstance(protocol, WebSocketProtocol)]
    return {
        "sockets": len(sockets),
        "requests": sum("application_instance" in details for details in server.connections.values()) - len(sockets),
        "poured": poured,
        "out": sum(len(protocol.transport.dataBuffer) + protocol.transport._tempDataLen for protocol in sockets),
        "in": sum(protocol.application_queue.size for protocol in sockets),
        "paused": sum(protocol.application_queue.paused for protocol in sockets),
        "limit": HIGH_WATER,
    }


server = Server(application, host="127.0.0.1", port=0, behind_proxy="BEHIND_PROXY" in os.environ, listening=lambda url: print(url, flush=True))

if __name__ == "__main__":
    server.run()
    print("ended", flush=True)

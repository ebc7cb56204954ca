"""python -m tests.proxmox.fake --dir DIR [--time-scale X]

Serves until the process that started it closes its standard input or ends it. The first line of
standard output says, as JSON, where everything is.
"""

import argparse
import asyncio
import hashlib
import json
import signal
import sys
from pathlib import Path

from fakepve.certs import make_cert

from . import scene
from .cluster import FakeCluster
from .control import Control


def certificates(folder):
    """{"first", "second": (certificate, key, SHA-256 fingerprint)}"""
    made = {}
    for name in ("first", "second"):
        certificate, key, der = make_cert(str(folder), name)
        made[name] = certificate, key, ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())
    return made


async def serve(arguments):
    folder = Path(arguments.dir)
    cluster = FakeCluster()
    cluster.time_scale = arguments.time_scale
    secret = "" if arguments.empty else scene.build(cluster)
    made = certificates(folder)
    certificate, key, cluster.fingerprint = made["first"]
    await cluster.serve(certificate, key, arguments.endpoints)
    cluster.start_statistics()
    socket = str(folder / "control.sock")
    await Control(cluster, made).serve(socket)
    ports = [endpoint.port for endpoint in cluster.endpoints]
    ready = {"url": f"https://127.0.0.1:{ports[0]}", "port": ports[0], "endpoints": [f"127.0.0.1:{port}" for port in ports]}
    ready |= {"cafile": certificate, "fingerprint": cluster.fingerprint, "control": socket}
    ready |= {"user": scene.USER, "password": scene.PASSWORD, "token_name": scene.TOKEN_NAME, "token_secret": secret, "pool": scene.POOL}
    print(json.dumps(ready), flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(sys.stdin, lambda: ended.set() if not sys.stdin.buffer.read1(1) else None)
    await ended.wait()


def main():
    parser = argparse.ArgumentParser(prog="tests.proxmox.fake", description="A Proxmox VE cluster that does not exist.")
    parser.add_argument("--dir", required=True, help="an empty folder: certificates and the control socket are put there")
    parser.add_argument("--time-scale", type=float, default=0.02, help="real seconds for a second of Proxmox's; 0 ends every task at once")
    parser.add_argument("--endpoints", type=int, default=2, help="how many nodes serve the API, each on a port of its own")
    parser.add_argument("--empty", action="store_true", help="no guests, users or tokens beside root@pam (password: secret)")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

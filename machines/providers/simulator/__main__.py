"""Run a simulated cluster: python -m machines.providers.simulator --socket PATH"""

import argparse
import asyncio
import logging
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

from .host import Host, Timing
from .server import Server


def arguments() -> argparse.Namespace:
    host, timing = Host(), Timing()
    parser = argparse.ArgumentParser(prog="python -m machines.providers.simulator", description="A simulated cluster. Its machines are not real.")
    parser.add_argument("--socket", type=Path, required=True, help="the Unix socket to serve")
    parser.add_argument("--state", type=Path, help="file that keeps the machines over a restart")
    parser.add_argument("--time-scale", type=float, default=1.0, help="0.1: everything takes a tenth of its time")
    parser.add_argument("--create-seconds", type=float, default=timing.create, help="per linked clone (default %(default)s)")
    parser.add_argument("--start-seconds", type=float, default=timing.start, help="per start (default %(default)s)")
    parser.add_argument("--boot-seconds", type=float, default=timing.boot, help="from power-on until the guest answers (default %(default)s)")
    parser.add_argument("--stop-seconds", type=float, default=timing.stop, help="from the power button until off (default %(default)s)")
    parser.add_argument("--parallel", type=int, default=host.parallel, help="tasks at work at once, the others queue (default %(default)s)")
    parser.add_argument("--clones", type=int, default=host.clones, help="that get the storage's lock at once, 0: any number (default %(default)s)")
    parser.add_argument("--nodes", type=int, default=host.nodes)
    parser.add_argument("--node-memory-mib", type=int, default=host.node_memory_mib)
    parser.add_argument("--storage-gib", type=float, default=host.storage_gib)
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    timing = replace(Timing(), create=options.create_seconds, start=options.start_seconds, boot=options.boot_seconds, stop=options.stop_seconds).scaled(
        options.time_scale
    )
    host = Host(
        nodes=options.nodes,
        node_memory_mib=options.node_memory_mib,
        storage_gib=options.storage_gib,
        parallel=options.parallel,
        clones=options.clones,
        timing=timing,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Server(options.socket, host, options.state).run(stop)


def main() -> int:
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a port for every machine that is on
    try:
        asyncio.run(serve(options))
    except OSError as error:
        logging.getLogger(__package__).error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

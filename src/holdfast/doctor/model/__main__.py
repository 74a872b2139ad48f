"""`python -m holdfast.doctor.model`: the scripted model as a process of its own.

Prints one JSON line with its address, and ends by SIGTERM, SIGINT or, with --while-stdin, when its standard
input closes, so that it cannot outlive whoever started it.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from holdfast.doctor.model.server import ScriptedModel


def main() -> None:
    parser = argparse.ArgumentParser(prog="holdfast.doctor.model", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--log", type=Path, help="a file that gets one JSON line per request")
    parser.add_argument("--while-stdin", action="store_true", help="end when standard input closes")
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.log, options.while_stdin))


async def _serve(port: int, log: Path | None, while_stdin: bool) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with ScriptedModel(port, log) as model:
        sys.stdout.write(json.dumps({"url": model.url}) + "\n")
        sys.stdout.flush()
        if while_stdin:
            loop.add_reader(0, lambda: None if os.read(0, 1024) else ended.set())
        await ended.wait()
        loop.remove_reader(0)


if __name__ == "__main__":
    main()

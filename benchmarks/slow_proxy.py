"""A proxy in front of Redis that holds its answers back while a file exists.

`python -m benchmarks.slow_proxy FILE [PORT REDIS_PORT]`. The file may say for how many seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Final

REDIS_PORT, SLOW_PORT = 6379, 6380
SLOW_S: Final = 5.0
"""How late an answer is unless the file says: later than a renewal waits."""


def _late_s(delay: Path) -> float:
    try:
        return float(delay.read_text() or SLOW_S)
    except FileNotFoundError:
        return 0.0


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Path | None) -> None:
    """Pass on what *reader* has; while there is a file *delay* each piece late, in order."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            late_s = _late_s(delay) if delay is not None else 0.0
            pieces.put_nowait((time.monotonic() + late_s, data))

    reading = asyncio.create_task(read())
    with contextlib.suppress(OSError):
        while (piece := await pieces.get())[1]:
            await asyncio.sleep(max(piece[0] - time.monotonic(), 0.0))
            writer.write(piece[1])
            await writer.drain()
    reading.cancel()
    writer.close()


async def _proxy(delay: Path, port: int = SLOW_PORT, redis_port: int = REDIS_PORT) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", redis_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, back, None), _pump(there, writer, delay), return_exceptions=True)

    async with await asyncio.start_server(serve, "0.0.0.0", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_proxy(Path(sys.argv[1]), *map(int, sys.argv[2:4])))

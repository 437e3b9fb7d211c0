"""A number of HTTP requests, then what became of them as JSON: ``python request_load.py N AT_ONCE close|keep-alive
HOST:PORT...``. With ``keep-alive`` connections are used until the server says that it closes them.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from itertools import cycle
from typing import Final

#: Of one request, with its connection if it is the first: seconds.
DEADLINE: Final = 15.0


async def main(count: int, at_once: int, how: str, places: list[str]) -> None:
    answered: Counter[str] = Counter()
    failed: list[str] = []
    left = count
    targets = cycle(places)
    connections = 0
    slowest = 0.0
    keep = how == "keep-alive"

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether there may be another on this connection."""
        writer.write(f"GET / HTTP/1.1\r\nHost: web\r\nConnection: {how}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status, _, fields = head.decode().lower().partition("\r\n")
        if " 200 " not in status:
            raise OSError(f"answered {status!r}")
        length = int(fields.partition("content-length: ")[2].partition("\r\n")[0])
        answered[(await reader.readexactly(length)).decode().strip()] += 1
        return "connection: close" not in fields

    async def work() -> None:
        nonlocal left, connections, slowest
        while left > 0:
            place = next(targets)
            host, _, number = place.rpartition(":")
            writer = None
            asked = 0
            began = time.time()
            try:
                async with asyncio.timeout(DEADLINE):
                    reader, writer = await asyncio.open_connection(host, int(number))
                connections += 1
                again = True
                while again and left > 0:
                    left -= 1
                    began, asked = time.time(), asked + 1
                    async with asyncio.timeout(DEADLINE):
                        again = await ask(reader, writer) and keep
                    slowest = max(slowest, time.time() - began)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                port = writer.get_extra_info("sockname")[1] if writer is not None else None
                when = f"{began:.3f}..{time.time():.3f}"
                failed.append(f"{when} {place} from port {port}, request {asked} of its connection: {error!r}")
            finally:
                if writer is not None:
                    writer.close()

    await asyncio.gather(*(work() for _ in range(at_once)))
    outcome = {"answered": sum(answered.values()), "failed": failed, "connections": connections}
    print(json.dumps({**outcome, "tasks": len(answered), "slowest": round(slowest, 3)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))

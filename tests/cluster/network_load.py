"""Requests, each on a connection of its own: a program that the tests run in a client's network namespace.

    python network_load.py AT_ONCE HOST:PORT...

Prints a line when the first is answered, goes on until its standard input ends, then prints one JSON object: who
answered how often, and what failed.
"""

import asyncio
import json
import sys
import threading
from collections import Counter
from itertools import cycle

DEADLINE = 10.0


async def ask(host: str, port: int) -> str:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        raise OSError(f"answered {answer[:40]!r}")
    return answer.rpartition(b"\r\n\r\n")[2].decode().strip()


async def main(at_once: int, places: list[str]) -> None:
    answered: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    targets = cycle(place.rpartition(":") for place in places)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()

    async def work() -> None:
        while not ended.is_set():
            host, _, port = next(targets)
            try:
                name = await ask(host, int(port))
                if not answered:
                    print("requests flow", flush=True)
                answered[name] += 1
            except (OSError, TimeoutError) as error:
                failed[f"{host}: {error!r}"] += 1

    await asyncio.gather(*(work() for _ in range(at_once)))
    print(json.dumps({"answered": answered, "failed": failed}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))

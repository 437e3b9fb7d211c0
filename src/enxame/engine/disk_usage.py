"""What containers have written, in bytes. Looking is slow: it is done in a thread, once for all who ask meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping

__all__ = ["WrittenSizes", "written_below"]


class WrittenSizes:
    """Sizes of directories. Those who ask for one that is being looked at share the answer; nothing is kept."""

    def __init__(self) -> None:
        self._looking: dict[str, asyncio.Task[int]] = {}

    async def of(self, directories: Mapping[str, str]) -> dict[str, int]:
        """Bytes by key, of the directory of that key; one that is missing has none."""
        tasks = {key: self._look(directory) for key, directory in directories.items()}
        # Shielded: one who leaves does not take the answer from the others.
        return {key: await asyncio.shield(task) for key, task in tasks.items()}

    def _look(self, directory: str) -> asyncio.Task[int]:
        running = self._looking.get(directory)
        if running is None:
            running = asyncio.ensure_future(asyncio.to_thread(written_below, directory))
            self._looking[directory] = running
            running.add_done_callback(lambda _: self._looking.pop(directory, None))
        return running


def written_below(directory: str) -> int:
    """Bytes of the files below ``directory``; a hard link counts once, what vanishes meanwhile not at all."""
    total = 0
    seen: set[int] = set()
    for info in _files(directory):
        if info.st_nlink > 1:
            if info.st_ino in seen:
                continue
            seen.add(info.st_ino)
        total += info.st_size
    return total


def _files(directory: str) -> Iterable[os.stat_result]:
    waiting = [directory] if directory else []
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            yield entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
        except OSError:
            continue

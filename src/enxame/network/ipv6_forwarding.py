"""Forwarding of IPv6 between this machine's links: switched on for the first network that has IPv6. Blocks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from enxame.errors import EnxameError

__all__ = ["Ipv6Forwarding"]

_CONF: Final = Path("/proc/sys/net/ipv6/conf")
_MARKER: Final = "ipv6-forwarding-switched-on"


class Ipv6Forwarding:
    """``forward_others``: this machine was a router before, packets that are no containers' pass as ever.
    ``is_on``: new links of this machine have IPv6, and it can forward it.
    """

    def __init__(self, exec_root: Path) -> None:
        self._marker = exec_root / _MARKER
        self.forward_others = True
        self.is_on = False

    def look(self) -> None:
        """Find out how things are, before anything is changed."""
        try:
            on = (_CONF / "all/forwarding").read_text().strip() != "0"
            enabled = (_CONF / "default/disable_ipv6").read_text().strip() == "0"
        except OSError:  # no IPv6
            on = enabled = False
        self.forward_others = on and not self._marker.exists()
        self.is_on = enabled and (on or os.access(_CONF / "all/forwarding", os.W_OK))

    def switch_on(self) -> None:
        """Forward from now on. Links that learn their routes from routers go on doing so.

        Raises:
            EnxameError: the kernel refuses.
        """
        try:
            if (_CONF / "all/forwarding").read_text().strip() != "0":
                return
            for setting in _CONF.glob("*/accept_ra"):
                with contextlib.suppress(OSError):
                    # 1 means "unless this machine forwards".
                    if setting.read_text().strip() == "1":
                        setting.write_text("2")
            self._marker.parent.mkdir(parents=True, exist_ok=True)
            self._marker.touch()
            (_CONF / "all/forwarding").write_text("1")
        except OSError as error:
            raise EnxameError(f"switch on IPv6 forwarding: {error.strerror} {error.filename}") from error

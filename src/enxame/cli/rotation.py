"""Waits until a root rotation has reached every node."""

import hashlib
import time

from enxame.cli.progressbar import Progress, display
from enxame.cli.session import Session

_POLL = 0.2


def wait_for_rotation(cli: Session, *, quiet: bool) -> None:
    """Returns when all nodes have certificates of the new root and trust it alone, also those that are down: removing
    them lets it end. Ctrl-C leaves the rotation to go on.
    """
    shown = display(cli, quiet=quiet)
    try:
        while not _converged(cli, shown):
            time.sleep(_POLL)
    except KeyboardInterrupt:
        shown.message("", "Operation continuing in background.")
        shown.message("", "Use `enxame swarm ca` to check progress.")
    finally:
        shown.close()


def _converged(cli: Session, shown: Progress) -> bool:
    swarm = cli.client.get("/swarm")
    wanted = swarm.get("TLSInfo") or {}
    digest = hashlib.sha256(wanted.get("TrustRoot", "").encode()).hexdigest()
    infos = [node.get("Description", {}).get("TLSInfo") or {} for node in cli.client.get("/nodes") or []]
    issuer = ("CertIssuerPublicKey", "CertIssuerSubject")
    certificates = sum(all(info.get(key) == wanted.get(key) for key in issuer) for info in infos)
    rotated = certificates == len(infos) and not swarm.get("RootRotationInProgress")
    # Before that the root is the old one, which nodes still trust.
    roots = sum(info.get("TrustRoot") == wanted.get("TrustRoot") for info in infos) if rotated else 0
    shown.update("desired root digest", f"sha256:{digest}")
    shown.update("  rotated TLS certificates", f" {certificates}/{len(infos)} nodes")
    shown.update("  rotated CA certificates", f"  {roots}/{len(infos)} nodes")
    return rotated and roots == len(infos)

"""Waits until a root rotation has reached every node."""

import hashlib
import time

from enxame.cli.progressbar import display
from enxame.cli.session import Session

_POLL = 0.2


def wait_for_rotation(cli: Session, *, quiet: bool) -> None:
    """Returns when all nodes have certificates of the new root; Ctrl-C leaves the rotation to go on."""
    shown = display(cli, quiet=quiet)
    try:
        while True:
            swarm = cli.client.get("/swarm")
            wanted = swarm.get("TLSInfo") or {}
            digest = hashlib.sha256(wanted.get("TrustRoot", "").encode()).hexdigest()
            nodes = [n for n in cli.client.get("/nodes") or [] if n.get("Status", {}).get("State") != "down"]
            infos = [n.get("Description", {}).get("TLSInfo") or {} for n in nodes]
            issuer = ("CertIssuerPublicKey", "CertIssuerSubject")
            certificates = sum(all(i.get(k) == wanted.get(k) for k in issuer) for i in infos)
            roots = sum(i.get("TrustRoot") == wanted.get("TrustRoot") for i in infos)
            shown.update("desired root digest", f"sha256:{digest}")
            shown.update("  rotated TLS certificates", f" {certificates}/{len(nodes)} nodes")
            shown.update("  rotated CA certificates", f"  {roots}/{len(nodes)} nodes")
            if not swarm.get("RootRotationInProgress"):
                return
            time.sleep(_POLL)
    except KeyboardInterrupt:
        shown.message("", "Operation continuing in background.")
        shown.message("", "Use `enxame swarm ca` to check progress.")
    finally:
        shown.close()

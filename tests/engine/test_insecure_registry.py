"""A registry without TLS beyond this machine: used when the daemon is told so, and not otherwise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from enxame.testing.daemons import Enxamed, wait_until
from enxame.testing.namespace import HostAndOutside
from tests.engine.image_lab import archive, files

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("docker-registry") is None, reason="needs root and docker-registry"
)


@pytest.mark.timeout(300)
def test_a_registry_without_tls_is_used_by_a_daemon_that_is_told_so(tmp_path: Path) -> None:
    with HostAndOutside("insecure") as network:
        address = f"{network.host_address}:5000"  # not a loopback address, which needs no permission
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
            "http": {"addr": address},
        }
        (tmp_path / "config.yml").write_text(json.dumps(config))
        (tmp_path / "image.tar").write_bytes(archive([files(("a", b"b"))], "web:1"))
        inside = network.host
        registry = subprocess.Popen(
            inside.argv("docker-registry", "serve", str(tmp_path / "config.yml")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            push = ("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false")

            def pushed() -> bool:
                try:
                    inside.run(
                        *push, f"docker-archive:{tmp_path / 'image.tar'}", f"docker://{address}/web:1", timeout=60
                    )
                except RuntimeError:
                    return False
                return True

            wait_until(pushed, "the registry takes an image", timeout=60)
            query = f"/images/create?fromImage={quote(address + '/web')}&tag=1"
            with Enxamed(tmp_path / "careful", network) as daemon:
                status, said = daemon.api.exchange("POST", query)
                assert status != 200 or b"errorDetail" in said
                assert b"server gave HTTP response to HTTPS client" in said
            with Enxamed(tmp_path / "told", network, extra_args=["--insecure-registry", address]) as daemon:
                status, said = daemon.api.exchange("POST", query)
                assert (status, b"Downloaded newer image" in said) == (200, True), said
                assert address in daemon.api.get("/info")["RegistryConfig"]["IndexConfigs"]
        finally:
            registry.kill()
            registry.wait()

"""Limits of block devices, in the runtime's words."""

from __future__ import annotations

import os
from typing import Any

from enxame.errors import InvalidArgument
from enxame.model.container import HostConfig

__all__ = ["block_io"]


def block_io(host: HostConfig) -> dict[str, Any]:
    """The OCI ``blockIO`` of a container. Raises InvalidArgument for a device that is not there."""
    block: dict[str, Any] = {}
    if host.blkio_weight:
        block["weight"] = host.blkio_weight
    if host.blkio_weight_device:
        block["weightDevice"] = [{**_device(one.path), "weight": one.weight} for one in host.blkio_weight_device]
    for name, devices in (
        ("throttleReadBpsDevice", host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", host.blkio_device_write_iops),
    ):
        if devices:
            block[name] = [{**_device(one.path), "rate": one.rate} for one in devices]
    return block


def _device(path: str) -> dict[str, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise InvalidArgument(f"stat {path}: {(error.strerror or str(error)).lower()}") from error
    return {"major": os.major(number), "minor": os.minor(number)}

"""``enxame machine``."""

from enxame.cli.machine.group import MachineGroup

group = MachineGroup(
    "machine",
    "Manage machines: hosts that run the daemon",
    {
        "active": "machine.view:active",
        "config": "machine.env:config",
        "create": "machine.create:create",
        "env": "machine.env:env",
        "inspect": "machine.view:inspect",
        "ip": "machine.view:ip",
        "kill": "machine.lifecycle:kill",
        "ls": "machine.list:ls",
        "mount": "machine.ssh:mount",
        "provision": "machine.lifecycle:provision",
        "regenerate-certs": "machine.lifecycle:regenerate_certs",
        "restart": "machine.lifecycle:restart",
        "rm": "machine.lifecycle:rm",
        "scp": "machine.ssh:scp",
        "ssh": "machine.ssh:ssh",
        "start": "machine.lifecycle:start",
        "status": "machine.view:status",
        "stop": "machine.lifecycle:stop",
        "upgrade": "machine.lifecycle:upgrade",
        "url": "machine.view:url",
        "version": "machine.view:version",
    },
    {"list": "ls", "remove": "rm"},
)

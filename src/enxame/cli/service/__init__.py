"""``enxame service``."""

from enxame.cli.command import Group

group = Group(
    "service",
    "Manage services",
    {
        "create": "service.create:create",
        "inspect": "service.inspect:inspect",
        "logs": "service.logs:logs",
        "ls": "service.list:ls",
        "ps": "service.list:ps",
        "rm": "service.change:rm",
        "rollback": "service.change:rollback",
        "scale": "service.change:scale",
        "update": "service.update:update",
    },
    {"list": "ls", "remove": "rm"},
)

"""``enxame container``."""

from enxame.cli.command import Group

group = Group(
    "container",
    "Manage containers",
    {
        "attach": "container.attach:command_",
        "commit": "container.archives:commit",
        "cp": "container.copy:cp",
        "create": "container.run:create",
        "diff": "container.view:diff",
        "exec": "container.exec:exec_",
        "export": "container.archives:export",
        "inspect": "container.view:inspect",
        "kill": "container.lifecycle:kill",
        "logs": "container.logs:logs",
        "ls": "container.list:ls_in_group",
        "pause": "container.lifecycle:pause",
        "port": "container.view:port",
        "prune": "container.prune:prune",
        "rename": "container.lifecycle:rename",
        "restart": "container.lifecycle:restart",
        "rm": "container.lifecycle:rm",
        "run": "container.run:run",
        "start": "container.start:start",
        "stats": "container.stats:stats",
        "stop": "container.lifecycle:stop",
        "top": "container.view:top",
        "unpause": "container.lifecycle:unpause",
        "update": "container.update:update",
        "wait": "container.lifecycle:wait",
    },
    {"list": "ls", "ps": "ls", "remove": "rm"},
)

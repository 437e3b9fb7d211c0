"""``enxame image``."""

from enxame.cli.command import Group

group = Group(
    "image",
    "Manage images",
    {
        "build": "image.build:build",
        "history": "image.manage:history",
        "import": "image.transfer:import_",
        "inspect": "image.manage:inspect",
        "load": "image.transfer:load_",
        "ls": "image.list:ls_in_group",
        "prune": "image.manage:prune",
        "pull": "image.transfer:pull",
        "push": "image.transfer:push",
        "rm": "image.manage:rm_in_group",
        "save": "image.transfer:save",
        "tag": "image.manage:tag",
    },
    {"list": "ls", "remove": "rm"},
)

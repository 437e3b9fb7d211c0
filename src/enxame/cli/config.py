"""``enxame config``."""

from enxame.cli.command import Group
from enxame.cli.swarmfile import make_create, make_inspect, make_ls, make_rm

create = make_create("config", driver=False)
inspect = make_inspect("config")
ls = make_ls("config", driver=False)
rm = make_rm("config")

group = Group(
    "config",
    "Manage swarm configs",
    {"create": "config:create", "inspect": "config:inspect", "ls": "config:ls", "rm": "config:rm"},
    {"list": "ls", "remove": "rm"},
)

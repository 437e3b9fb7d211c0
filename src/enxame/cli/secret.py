"""``enxame secret``."""

from enxame.cli.command import Group
from enxame.cli.swarmfile import make_create, make_inspect, make_ls, make_rm

create = make_create("secret", driver=True)
inspect = make_inspect("secret")
ls = make_ls("secret", driver=True)
rm = make_rm("secret")

group = Group(
    "secret",
    "Manage swarm secrets",
    {"create": "secret:create", "inspect": "secret:inspect", "ls": "secret:ls", "rm": "secret:rm"},
    {"list": "ls", "remove": "rm"},
)

"""Templates in a service's hostname, environment and mount sources."""

import pytest

from enxame.agent.template import TemplateContext, expand
from enxame.errors import InvalidArgument
from enxame.model.node import NodeDescription
from enxame.model.service import Platform
from enxame.model.task import Task, TaskInternal

TASK = Task(
    id="t1",
    slot=3,
    service_id="s1",
    node_id="n1",
    internal=TaskInternal(service_name="web", service_labels={"tier": "front"}),
)
CONTEXT = TemplateContext(TASK, NodeDescription(hostname="vm1", platform=Platform(architecture="x86_64", os="linux")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.Service.Name}}-{{.Task.Slot}}", "web-3"),
        ("{{ .Task.Name }}", "web.3.t1"),
        ("{{.Node.Hostname}}/{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "vm1/linux/x86_64"),
        ("{{.Service.ID}} {{.Node.ID}} {{.Task.ID}}", "s1 n1 t1"),
        ("{{.Service.Labels.tier}}", "front"),
        ('{{index .Service.Labels "tier"}}', "front"),
        ('{{index .Service.Labels "none"}}', ""),
    ],
)
def test_known_fields_are_replaced(text, expected):
    assert expand(text, CONTEXT, "env") == expected


@pytest.mark.parametrize("text", ["{{.Nope}}", "{{.Service.Name", "{{.Task.Slot}} {{"])
def test_unknown_and_unclosed_actions_are_refused(text):
    with pytest.raises(InvalidArgument, match="expanding hostname failed: template: expansion"):
        expand(text, CONTEXT, "hostname")

"""The templates that a service's hostname, environment and mount sources may hold: ``{{.Task.Slot}}`` and the like."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from enxame.errors import InvalidArgument
from enxame.model.node import NodeDescription
from enxame.model.task import Task

_ACTION: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_INDEX: Final = re.compile(r'index\s+\.Service\.Labels\s+"([^"]*)"')


@dataclass(frozen=True, slots=True)
class TemplateContext:
    """What templates may speak of: the task and its node."""

    task: Task
    node: NodeDescription

    def value(self, action: str) -> str:
        """The text of one ``{{…}}`` action. Raises KeyError for what is not known."""
        labelled = _INDEX.fullmatch(action)
        if labelled:
            return self.task.internal.service_labels.get(labelled[1], "") if self.task.internal else ""
        if action.startswith(".Service.Labels."):
            name = action.removeprefix(".Service.Labels.")
            return self.task.internal.service_labels.get(name, "") if self.task.internal else ""
        return _FIELDS[action](self)


def _service_name(context: TemplateContext) -> str:
    return context.task.internal.service_name if context.task.internal else ""


def _task_name(context: TemplateContext) -> str:
    task = context.task
    return task.name or f"{_service_name(context)}.{task.slot or task.node_id}.{task.id}"


_FIELDS: Final[dict[str, Callable[[TemplateContext], str]]] = {
    ".Service.ID": lambda context: context.task.service_id,
    ".Service.Name": _service_name,
    ".Node.ID": lambda context: context.task.node_id,
    ".Node.Hostname": lambda context: context.node.hostname,
    ".Node.Platform.OS": lambda context: context.node.platform.os,
    ".Node.Platform.Architecture": lambda context: context.node.platform.architecture,
    ".Task.ID": lambda context: context.task.id,
    ".Task.Name": _task_name,
    ".Task.Slot": lambda context: str(context.task.slot) if context.task.slot else context.task.node_id,
}


def expand(text: str, context: TemplateContext, what: str) -> str:
    """``text`` with every ``{{…}}`` replaced.

    Raises:
        InvalidArgument: an action that is not one of those above; ``what`` says where it stood.
    """
    if "{{" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        try:
            return context.value(match[1])
        except KeyError:
            raise InvalidArgument(f"expanding {what} failed: template: expansion: unknown field {match[1]!r}") from None

    if text.count("{{") != len(_ACTION.findall(text)):
        raise InvalidArgument(f"expanding {what} failed: template: expansion: unclosed action")
    return _ACTION.sub(replace, text)

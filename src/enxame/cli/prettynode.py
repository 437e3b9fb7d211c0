"""A node in words: ``node inspect --pretty``."""

from typing import Any

from enxame.cli.gotemplate.values import format_float
from enxame.cli.humanise import binary_size_words
from enxame.cli.timestamps import go_time

Json = dict[str, Any]


def _go_stamp(text: str) -> str:
    """Time to the second and below as docker's pretty printer has it: ``2022-11-22 02:25:17.903612904 +0000 utc``."""
    return go_time(text).lower()


def pretty_node(node: Json) -> str:
    """Several lines."""
    spec, description, status = node["Spec"], node.get("Description") or {}, node.get("Status") or {}
    engine, resources = description.get("Engine") or {}, description.get("Resources") or {}
    platform = description.get("Platform") or {}
    lines = [f"ID:\t\t\t{node['ID']}"]
    if spec.get("Name"):
        lines.append(f"Name:\t\t\t{spec['Name']}")
    lines += _labels("", spec.get("Labels"))
    lines += [
        f"Hostname:              \t{description.get('Hostname', '')}",
        f"Joined at:             \t{_go_stamp(node.get('CreatedAt', ''))}",
        "Status:",
        f" State:\t\t\t{status.get('State', '').capitalize()}",
    ]
    if status.get("Message"):
        lines.append(f" Message:              \t{status['Message'].capitalize()}")
    lines += [f" Availability:         \t{spec.get('Availability', '').capitalize()}"]
    if status.get("Addr"):
        lines.append(f" Address:\t\t{status['Addr']}")
    manager = node.get("ManagerStatus")
    if manager:
        lines += [
            "Manager Status:",
            f" Address:\t\t{manager.get('Addr', '')}",
            f" Raft Status:\t\t{manager.get('Reachability', '').capitalize()}",
            f" Leader:\t\t{'Yes' if manager.get('Leader') else 'No'}",
        ]
    lines += [
        "Platform:",
        f" Operating System:\t{platform.get('OS', '')}",
        f" Architecture:\t\t{platform.get('Architecture', '')}",
        "Resources:",
        f" CPUs:\t\t\t{format_float(resources.get('NanoCPUs', 0) // 10**9)}",
        f" Memory:\t\t{binary_size_words(resources.get('MemoryBytes', 0))}",
    ]
    plugins: dict[str, list[str]] = {}
    for plugin in engine.get("Plugins") or []:
        plugins.setdefault(plugin["Type"], []).append(plugin["Name"])
    if plugins:
        lines.append("Plugins:")
        lines += [f" {kind}:\t\t{', '.join(names)}" for kind, names in sorted(plugins.items())]
    lines.append(f"Engine Version:\t\t{engine.get('EngineVersion', '')}")
    lines += _labels("Engine ", engine.get("Labels"))
    tls = description.get("TLSInfo") or {}
    if tls:
        lines += [
            "TLS Info:",
            f" TrustRoot:\n{tls.get('TrustRoot', '')}",
            f" Issuer Subject:\t{tls.get('CertIssuerSubject', '')}",
            f" Issuer Public Key:\t{tls.get('CertIssuerPublicKey', '')}",
        ]
    return "\n".join(lines) + "\n"


def _labels(title: str, labels: dict[str, str] | None) -> list[str]:
    if not labels:
        return []
    return [f"{title}Labels:", *(f" - {k}{f'={v}' if v else ''}" for k, v in sorted(labels.items()))]

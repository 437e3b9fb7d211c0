"""``enxame swarm ca``."""

from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import switch, value
from enxame.cli.session import Session
from enxame.cli.swarm_settings import certificate_expiry, change_swarm, external_signers


def _pem(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            content = file.read()
    except OSError as problem:
        raise ValueError(f"open {path}: {(problem.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        content = ""
    if "-----BEGIN " not in content:
        raise ValueError("file contents must be in PEM format")
    return content


@command(
    "ca",
    "[OPTIONS]",
    "Display and rotate the root CA",
    flags=[
        value("ca-cert", "pem-file", _pem, "Path to the PEM-formatted root CA certificate to use for the new cluster"),
        value("ca-key", "pem-file", _pem, "Path to the PEM-formatted root CA key to use for the new cluster"),
        certificate_expiry(),
        switch("d,detach", "Exit immediately instead of waiting for the root rotation to converge"),
        external_signers(),
        switch("q,quiet", "Suppress progress output"),
        switch("rotate", "Rotate the swarm CA - if no certificate or key are provided, new ones will be generated"),
    ],
)
def ca(cli: Session, flags: Flags, args: Args) -> None:
    """Shows the root certificate, or replaces it and waits until all nodes have the new one."""
    if not flags["rotate"]:
        for name in ("ca-cert", "ca-key", "cert-expiry", "external-ca"):
            if flags.changed(name):
                raise CliError(f"`--{name}` flag requires the `--rotate` flag to update the CA")
        _show_ca(cli)
        return
    swarm = cli.client.get("/swarm")
    config = swarm["Spec"].setdefault("CAConfig", {})
    certificate, key = flags["ca-cert"] or "", flags["ca-key"] or ""
    if flags["external-ca"] and not certificate:
        raise CliError(
            "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - "
            "to add an external CA with the current root CA certificate, use the `update` command instead"
        )
    if certificate and not flags["external-ca"] and not key:
        raise CliError("the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well")
    if flags.changed("cert-expiry"):
        config["NodeCertExpiry"] = flags["cert-expiry"]
    if flags.changed("external-ca"):
        config["ExternalCAs"] = [{**signer, "CACert": certificate} for signer in flags["external-ca"]]
    for name, given in (("SigningCACert", certificate), ("SigningCAKey", key)):
        config.pop(name, None)
        if given:
            config[name] = given
    if not certificate and not key:
        config["ForceRotate"] = config.get("ForceRotate", 0) + 1
    change_swarm(cli, swarm)
    if flags["detach"]:
        return
    from enxame.cli.rotation import wait_for_rotation

    wait_for_rotation(cli, quiet=flags["quiet"])
    _show_ca(cli)


def _show_ca(cli: Session) -> None:
    root = (cli.client.get("/swarm").get("TLSInfo") or {}).get("TrustRoot", "")
    if not root:
        raise CliError("No CA information available")
    cli.say(root.strip())

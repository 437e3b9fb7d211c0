"""Certificates from a signer outside the swarm: a real cfssl."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from msgspec.structs import replace

from enxame.errors import InvalidArgument, Unavailable
from enxame.manager import external_ca
from enxame.manager.signer import Signer, external_urls
from enxame.manager.swarm import SwarmControl, new_cluster
from enxame.model.base import convert
from enxame.model.cluster import Cluster, ClusterSecrets, ExternalCA, InitRequest, SwarmSpec
from enxame.security import ca, roots
from enxame.security.ca import new_signing_request, node_identity
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store
from enxame.testing.cfssl import PROGRAM, Cfssl, company_root
from enxame.transport.identity import Identity

NOW = datetime.now(UTC)
COMPANY = company_root()
OTHER = company_root("Another CA")

pytestmark = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="cfssl is not installed")


def identity_of(root, role="manager"):
    pair = ca.issue_node_certificate(root, node_id="m1", role=role, cluster_id="c1", expiry=timedelta(hours=2), now=NOW)
    return Identity(pair.cert, pair.key, root.cert)


@pytest.fixture(scope="module")
def own():
    return identity_of(COMPANY)


@pytest.fixture(scope="module")
def cfssl(tmp_path_factory, own):
    with Cfssl(tmp_path_factory.mktemp("cfssl"), COMPANY) as signer:
        asyncio.run(answers(signer, own))
        yield signer


async def answers(signer, own):
    async with asyncio.timeout(10):
        while True:
            try:
                return await external_ca.check_reachable(signer.url, COMPANY.cert, own)
            except InvalidArgument:
                await asyncio.sleep(0.05)


async def sign(urls, own, **given):
    _, request = new_signing_request()
    who = {"node_id": "n1", "role": "worker", "cluster_id": "c1", **given}
    return await external_ca.sign(urls, COMPANY.cert, own, request, **who)


@pytest.mark.parametrize(
    ("role", "addresses", "names"),
    [
        ("worker", [], {"swarm-worker", "n1"}),
        ("manager", ["10.1.2.3"], {"swarm-manager", "n1", "swarm-ca", "10.1.2.3"}),
    ],
)
async def test_the_signer_s_certificate_is_one_of_the_node(cfssl, own, role, addresses, names):
    certificate = await sign([cfssl.url], own, role=role, addresses=addresses)
    said = node_identity(certificate)
    assert (said.node_id, said.role, said.cluster_id) == ("n1", role, "c1")
    assert roots.is_issued_by(certificate, COMPANY.cert)
    alternatives = x509.load_pem_x509_certificate(certificate.encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert {str(name.value) for name in alternatives.value} == names


async def test_the_next_signer_is_asked_when_one_does_not_answer(cfssl, own):
    assert await sign(["https://127.0.0.1:1/sign", cfssl.url], own)
    with pytest.raises(Unavailable, match="unable to perform certificate signing request"):
        await sign(["https://127.0.0.1:1/sign"], own)


async def test_a_signer_that_says_no_is_believed(cfssl, own):
    with pytest.raises(Unavailable, match="unexpected status code in CSR response: 4"):
        await external_ca.sign([cfssl.url], COMPANY.cert, own, "nonsense", node_id="n1", role="worker", cluster_id="c1")


async def test_only_managers_of_the_same_root_are_served_and_only_by_a_signer_of_it(cfssl, own):
    with pytest.raises(Unavailable):
        await sign([cfssl.url], identity_of(OTHER))
    with pytest.raises(InvalidArgument, match="certificate verify failed"):
        await external_ca.check_reachable(cfssl.url, OTHER.cert, own)
    with pytest.raises(InvalidArgument, match="invalid HTTP scheme"):
        await external_ca.check_reachable(cfssl.url.replace("https", "http"), COMPANY.cert, own)


async def test_it_certifies_the_root_that_takes_its_place(cfssl, own):
    new = ca.create_root(NOW)
    crossed = await external_ca.cross_sign([cfssl.url], COMPANY.cert, own, new)
    made = x509.load_pem_x509_certificate(crossed.encode())
    assert made.public_key() == x509.load_pem_x509_certificate(new.cert.encode()).public_key()
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert roots.is_issued_by(crossed, COMPANY.cert)


def test_a_signer_without_a_root_is_one_of_the_present_root():
    signers = [
        ExternalCA(url="a"),
        ExternalCA(url="b", ca_cert=f"\n{COMPANY.cert}"),
        ExternalCA(url="c", ca_cert=OTHER.cert),
        ExternalCA(url="d", protocol="acme"),
    ]
    assert external_urls(signers, COMPANY.cert, COMPANY.cert) == ["a", "b"]
    assert external_urls(signers, COMPANY.cert, OTHER.cert) == ["c"]


# The rules of swarmkit's manager/controlapi/ca_rotation.go


@pytest.fixture
async def store():
    store = Store(MemoryBackend(), wall=lambda: NOW)
    await store.start()
    yield store
    await store.close()


async def swarm_with(store, root, *, key=True, spec=None):
    """The control of a swarm whose root this is; without the key only an external signer has it."""
    cluster = new_cluster("c1", InitRequest(spec=convert(spec or {}, SwarmSpec)), root)
    secrets = ClusterSecrets(ca_cert=root.cert, ca_key=root.key if key else "")
    await store.update(lambda tx: tx.create(replace(cluster, internal=secrets)))
    own = identity_of(root)
    return SwarmControl(store, wall=lambda: NOW, own=lambda: own), Signer(store, wall=lambda: NOW, own=lambda: own)


async def update(control, config):
    await control.update(control.inspect().version.index, convert({"CAConfig": config}, SwarmSpec))
    return control.inspect().internal


def signer_at(cfssl, root=None):
    return {"Protocol": "cfssl", "URL": cfssl.url, **({"CACert": root.cert} if root is not None else {})}


async def test_from_the_own_root_to_an_external_one(store, cfssl):
    own = ca.create_root(NOW)
    control, _ = await swarm_with(store, own)
    with pytest.raises(
        InvalidArgument,
        match="there must be at least one valid, reachable external CA corresponding to the desired CA certificate",
    ):
        await update(control, {"SigningCACert": COMPANY.cert, "ExternalCAs": []})
    with pytest.raises(InvalidArgument, match="corresponding to the desired CA certificate"):
        # A signer that is there, but of another root.
        await update(control, {"SigningCACert": OTHER.cert, "ExternalCAs": [signer_at(cfssl, OTHER)]})


async def test_a_swarm_whose_root_is_outside_signs_there_alone(store, cfssl):
    control, signer = await swarm_with(store, COMPANY, key=False)
    _, request = new_signing_request()
    with pytest.raises(Unavailable, match="no valid signer found"):
        await signer.certify("n1", "worker", request)
    with pytest.raises(InvalidArgument, match="corresponding to the current CA certificate"):
        await update(control, {})
    await update(control, {"ExternalCAs": [signer_at(cfssl)]})
    assert roots.is_issued_by(await signer.certify("n1", "worker", request), COMPANY.cert)


async def test_from_an_external_root_to_one_of_the_swarm_s_own(store, cfssl):
    control, signer = await swarm_with(store, COMPANY, key=False)
    secrets = await update(control, {"ForceRotate": 1, "ExternalCAs": [signer_at(cfssl)]})
    assert roots.is_issued_by(secrets.rotation.cross_signed, COMPANY.cert)
    _, request = new_signing_request()
    chain = await signer.certify("n1", "worker", request)
    assert roots.is_issued_by(chain, secrets.rotation.ca_cert)
    assert chain.endswith(secrets.rotation.cross_signed)


async def test_from_one_external_root_to_another_is_not_possible(store, cfssl, tmp_path):
    with Cfssl(tmp_path, OTHER) as other:
        control, _ = await swarm_with(store, COMPANY, key=False)
        own = identity_of(OTHER)
        async with asyncio.timeout(10):
            while True:
                try:
                    await external_ca.check_reachable(other.url, OTHER.cert, own)
                    break
                except InvalidArgument:
                    await asyncio.sleep(0.05)
        signers = [signer_at(cfssl), signer_at(other, OTHER)]
        with pytest.raises(
            InvalidArgument, match="rotating from one external CA to a different external CA is not supported"
        ):
            await update(control, {"SigningCACert": OTHER.cert, "ExternalCAs": signers})


async def test_giving_the_external_key_makes_the_root_the_swarm_s_own(store):
    control, signer = await swarm_with(store, COMPANY, key=False)
    secrets = await update(control, {"SigningCACert": COMPANY.cert, "SigningCAKey": COMPANY.key, "ForceRotate": 4})
    assert (secrets.ca_key, secrets.rotation, secrets.forced_rotations) == (COMPANY.key, None, 4)
    _, request = new_signing_request()
    assert roots.is_issued_by(await signer.certify("n1", "worker", request), COMPANY.cert)


async def test_an_external_signer_of_the_present_root_signs_though_the_key_is_here(store):
    control, signer = await swarm_with(
        store, COMPANY, spec={"CAConfig": {"ExternalCAs": [{"URL": "https://127.0.0.1:1"}]}}
    )
    assert next(iter(store.view.all(Cluster))).spec.ca_config.external_cas[0].protocol == "cfssl"
    _, request = new_signing_request()
    with pytest.raises(Unavailable, match="unable to perform certificate signing request"):
        await signer.certify("n1", "worker", request)
    del control

import hashlib
import re
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enxame.errors import InvalidArgument
from enxame.security.ca import create_root
from enxame.security.tokens import (
    new_join_token,
    new_unlock_key,
    parse_join_token,
    parse_unlock_key,
    root_digest,
    same_token,
)

ROOT = create_root(datetime(2026, 1, 1, tzinfo=UTC)).cert


def test_a_token_names_the_root_certificate_by_its_digest():
    token = new_join_token(ROOT)
    assert re.fullmatch(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}", token)
    der = x509.load_pem_x509_certificate(ROOT.encode()).public_bytes(Encoding.DER)
    parsed = parse_join_token(token)
    assert int(parsed.digest, 36) == int(hashlib.sha256(der).hexdigest(), 16)
    assert parsed.digest == root_digest(ROOT)
    assert str(parsed) == token


def test_secrets_do_not_repeat():
    assert len({parse_join_token(new_join_token(ROOT)).secret for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "SWMTKN-1-short-short", "SWMTKN-2-" + "a" * 50 + "-" + "b" * 25, "x" * 85])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(InvalidArgument, match=r"^invalid join token$"):
        parse_join_token(text)


def test_only_the_same_token_is_the_same():
    assert same_token("a", "a")
    assert not same_token("a", "b")
    assert not same_token("", "")


def test_unlock_keys_are_32_bytes():
    key = new_unlock_key()
    assert key.startswith("SWMKEY-1-")
    assert len(parse_unlock_key(key)) == 32


@pytest.mark.parametrize("text", ["", "SWMKEY-1-", "SWMKEY-1-AAAA", "SWMKEY-1-%%%", "A" * 43])
def test_what_is_no_unlock_key_is_refused(text):
    with pytest.raises(InvalidArgument, match=r"^invalid key string$"):
        parse_unlock_key(text)

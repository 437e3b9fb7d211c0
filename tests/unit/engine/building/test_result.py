"""What of a built image's configuration is buildah's own."""

import json

from enxame.engine.building.result import as_dockers


def test_buildahs_own_words_go_and_the_users_stay():
    config = {
        "config": {"Hostname": "0123456789ab", "Cmd": ["FROM here"]},
        "comment": "FROM 0123",
        "history": [
            {"created_by": "COPY", "comment": "FROM localhost/base:1"},
            {"created_by": "RUN", "comment": "buildkit.dockerfile.v0"},
        ],
    }
    assert json.loads(as_dockers(json.dumps(config).encode())) == {
        "config": {"Cmd": ["FROM here"]},
        "history": [{"created_by": "COPY"}, {"created_by": "RUN", "comment": "buildkit.dockerfile.v0"}],
    }


def test_what_has_none_of_them_stays_byte_for_byte():
    text = b'{ "config": {"Hostname": ""}, "history": [{"comment": "mine"}] }'
    assert as_dockers(text) is text

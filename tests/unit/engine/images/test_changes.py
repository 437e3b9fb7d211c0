import pytest

from enxame.engine.images.changes import apply_changes
from enxame.errors import InvalidArgument
from enxame.model.container import Empty, HealthConfig
from enxame.model.image import ImageConfig


def changed(*lines, base=None):
    return apply_changes(base or ImageConfig(), lines)


def test_commands_are_json_or_a_shells_line():
    assert changed('CMD ["a", "b c"]').cmd == ["a", "b c"]
    assert changed("CMD echo hi").cmd == ["/bin/sh", "-c", "echo hi"]
    assert changed('SHELL ["/bin/ash","-c"]', "ENTRYPOINT x y").entrypoint == ["/bin/ash", "-c", "x y"]
    assert changed("cmd [not json").cmd == ["/bin/sh", "-c", "[not json"]


def test_env_replaces_by_name_and_keeps_the_rest():
    base = ImageConfig(env=["A=1", "B=2"])
    assert changed('ENV A=3 C="x y"', base=base).env == ["B=2", "A=3", "C=x y"]
    assert changed("ENV D the rest of it").env == ["D=the rest of it"]


def test_ports_volumes_labels_and_the_rest():
    config = changed(
        "EXPOSE 80 53/udp 90-91",
        "VOLUME /data /more",
        'VOLUME ["/a b"]',
        "LABEL a=b",
        "USER 1000:1000",
        "WORKDIR srv",
        "WORKDIR ../x",
        "STOPSIGNAL SIGINT",
        "ONBUILD RUN x",
    )
    assert set(config.exposed_ports) == {"80/tcp", "53/udp", "90/tcp", "91/tcp"}
    assert config.volumes == {"/data": Empty(), "/more": Empty(), "/a b": Empty()}
    assert (config.labels, config.user, config.working_dir) == ({"a": "b"}, "1000:1000", "/x")
    assert (config.stop_signal, config.on_build) == ("SIGINT", ["RUN x"])


def test_health_checks():
    second = 1_000_000_000
    assert changed("HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl localhost").healthcheck == (
        HealthConfig(test=["CMD-SHELL", "curl localhost"], interval=90 * second, timeout=second // 2, retries=3)
    )
    assert changed('HEALTHCHECK CMD ["a"]').healthcheck == HealthConfig(test=["CMD", "a"])
    assert changed("HEALTHCHECK NONE").healthcheck == HealthConfig(test=["NONE"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RUN x", "run is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("ENV A", "ENV must have two arguments"),
        ("LABEL a=b c", "can't find = in 'c'"),
        ("LABEL a='b", "No closing quotation"),
        ("HEALTHCHECK --bogus=1 CMD x", "Unknown flag: bogus"),
        ("HEALTHCHECK --interval=x CMD x", 'invalid duration "x"'),
        ("HEALTHCHECK x", 'Unknown type "x" in HEALTHCHECK'),
        ("SHELL sh", "SHELL requires the arguments to be in JSON form"),
    ],
)
def test_bad_instructions_are_refused(line, message):
    with pytest.raises(InvalidArgument) as caught:
        changed(line)
    assert message in caught.value.message

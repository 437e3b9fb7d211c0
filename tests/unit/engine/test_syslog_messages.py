from datetime import UTC, datetime

import pytest

from enxame.engine.container_record import Definition
from enxame.engine.syslog_messages import SyslogTarget, message, parse_target, tag_of
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, HostConfig, LogConfig
from enxame.model.stream import STDERR, STDOUT, LogRecord

LINE = LogRecord(STDOUT, "2026-03-04T05:06:07.123456789Z", b"hello\n")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", ("unixgram", "/dev/log", 0)),
        ("udp://192.0.2.1:1514", ("udp", "192.0.2.1", 1514)),
        ("tcp://logs.example", ("tcp", "logs.example", 514)),
        ("tcp+tls://[2001:db8::1]:6514", ("tcp+tls", "2001:db8::1", 6514)),
        ("unix:///run/log", ("unix", "/run/log", 0)),
    ],
)
def test_addresses(address, expected):
    target = parse_target({"syslog-address": address})
    assert (target.protocol, target.host, target.port) == expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"syslog-address": "here"}, "syslog-address should be in form proto://address, got here"),
        ({"syslog-address": "http://x"}, "should be in form proto://address"),
        ({"syslog-address": "udp://h:x"}, "invalid syslog-address udp://h:x"),
        ({"syslog-address": "unix://relative"}, "should be in form proto://address"),
        ({"syslog-facility": "mine"}, "invalid syslog facility"),
        ({"syslog-format": "xml"}, "Invalid syslog format"),
    ],
)
def test_nonsense_is_refused(options, text):
    with pytest.raises(InvalidArgument, match=text):
        parse_target(options)


@pytest.mark.parametrize(
    ("target", "record", "expected"),
    [
        (SyslogTarget("unixgram", "/dev/log"), LINE, b"<30>Mar  4 05:06:07 enxamed/web[7]: hello\n"),
        (
            SyslogTarget("udp", "h", facility=16, format="rfc3164"),
            LogRecord(STDERR, LINE.timestamp, b"bad\n"),
            b"<131>Mar  4 05:06:07 host enxamed/web[7]: bad\n",
        ),
        (
            SyslogTarget("udp", "h", format="rfc5424"),
            LINE,
            b"<30>1 2026-03-04T05:06:07Z host enxamed/web 7 enxamed/web - hello\n",
        ),
        (
            SyslogTarget("tcp+tls", "h", format="rfc5424micro"),
            LINE,
            b"73 <30>1 2026-03-04T05:06:07.123456Z host enxamed/web 7 enxamed/web - hello\n",
        ),
    ],
)
def test_lines(target, record, expected):
    assert message(target, record, tag="web", hostname="host", pid=7) == expected


def test_a_tag_is_the_short_id_or_what_the_option_says():
    def tag(**config):
        return tag_of(
            Definition(
                id="ab" * 32,
                name="web",
                created=datetime(2026, 1, 1, tzinfo=UTC),
                config=ContainerConfig(),
                host=HostConfig(log_config=LogConfig(config=config)),
                image="shop:1",
                image_id="sha256:" + "cd" * 32,
            )
        )

    assert tag() == "abababababab"
    assert tag(tag="{{.ImageName}}/{{.Name}}/{{ .ID }}-{{.Nope}}") == "shop:1/web/abababababab-{{.Nope}}"

"""The little languages of flag values: what they mean, and what is said of nonsense."""

import pytest

from enxame.cli.options.externalca import parse_external_ca
from enxame.cli.options.fields import encode_filters, environment, parse_env, parse_filter
from enxame.cli.options.hosts import parse_extra_host, parse_ip
from enxame.cli.options.limits import (
    effective_capabilities,
    parse_device,
    parse_generic_resources,
    parse_restart_policy,
    parse_ulimit,
)
from enxame.cli.options.mounts import parse_mount
from enxame.cli.options.numbers import (
    format_duration,
    parse_bool,
    parse_bytes,
    parse_cpus,
    parse_duration,
    parse_int,
    parse_positive_duration,
    parse_uint,
)
from enxame.cli.options.ports import parse_container_port, parse_expose, parse_service_port
from enxame.cli.options.references import parse_network, parse_placement_preference, parse_secret

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("10", 10),
        ("10b", 10),
        ("1k", 1024),
        ("512m", 512 << 20),
        ("1.5g", 3 << 29),
        ("1GiB", 1 << 30),
        ("2 kb", 2048),
    ],
)
def test_sizes(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1s", SECOND),
        ("1h2m3s", 3723 * SECOND),
        ("1.5s", 3 * SECOND // 2),
        ("300ms", 3 * 10**8),
        ("-2us", -2000),
        (".5s", 5 * 10**8),
    ],
)
def test_durations(text, number):
    assert parse_duration(text) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0s"),
        (SECOND, "1s"),
        (90 * SECOND, "1m30s"),
        (7776000 * SECOND, "2160h0m0s"),
        (3 * 10**8, "300ms"),
        (1500, "1.5µs"),
        (3 * SECOND // 2, "1.5s"),
    ],
)
def test_durations_print_as_gos(number, text):
    assert format_duration(number) == text


def test_the_long_form_of_a_published_port_may_be_in_any_case():
    assert parse_service_port("TARGET=80,Published=9063,protocol=UDP,mode=Host") == [
        {"Protocol": "udp", "TargetPort": 80, "PublishedPort": 9063, "PublishMode": "host"}
    ]


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (parse_bytes, "abc", "invalid size: 'abc'"),
        (parse_bytes, "", "invalid size: ''"),
        (parse_bytes, "9" * 5000, f"invalid size: '{'9' * 5000}'"),
        (parse_duration, "5", 'time: missing unit in duration "5"'),
        (parse_duration, "abc", 'time: invalid duration "abc"'),
        (parse_duration, "", 'time: invalid duration ""'),
        (parse_positive_duration, "-1s", "duration cannot be negative"),
        (parse_uint, "abc", 'strconv.ParseUint: parsing "abc": invalid syntax'),
        (parse_uint, "-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (parse_int, "9223372036854775808", 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
        (parse_bool, "maybe", 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        (parse_cpus, "x", "failed to parse x as a rational number"),
        (parse_cpus, "0.0000000001", "value is too precise"),
        (parse_ip, "1.2.3", "1.2.3 is not an ip address"),
        (parse_extra_host, "h", 'bad format for add-host: "h"'),
        (parse_extra_host, "h:x", 'invalid IP address in add-host: "x"'),
        (parse_filter, "xx", "bad format of filter (expected name=value)"),
        (parse_env, "=x", "invalid environment variable: =x"),
        (parse_mount, "type=volume", "target is required"),
        (parse_mount, "type=volume,target=/x,bogus=1", "unexpected key 'bogus' in 'bogus=1'"),
        (parse_mount, "type=volume,target=/x,bogus", "invalid field 'bogus' must be a key=value pair"),
        (parse_mount, "type=bind,target=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        (parse_mount, "type=bind,target=/x,ro=maybe", "invalid value for ro: maybe"),
        (parse_service_port, "x:y", "Invalid containerPort: y"),
        (parse_service_port, "1.2.3.4:80:80", "hostip is not supported"),
        (parse_service_port, "published=80", 'missing mandatory field "target"'),
        (parse_service_port, "target=80,mode=bogus", "invalid publish mode value bogus"),
        (parse_service_port, "target=80,bogus=1", "invalid field key bogus"),
        (parse_service_port, "target=99999", 'strconv.ParseUint: parsing "99999": value out of range'),
        (parse_service_port, "target=" + "9" * 5000, f'strconv.ParseUint: parsing "{"9" * 5000}": value out of range'),
        (parse_service_port, "²:80", "Invalid hostPort: ²"),
        (parse_service_port, "80/bogus", "Invalid proto: bogus"),
        (
            parse_container_port,
            "8000-8001:80-85",
            "Invalid ranges specified for container and host Ports: 80-85 and 8000-8001",
        ),
        (parse_expose, "a:b", "invalid port format for --expose: a:b"),
        (parse_ulimit, "bogus=1", "invalid ulimit type: bogus"),
        (parse_ulimit, "nofile", "invalid ulimit argument: nofile"),
        (parse_ulimit, "nofile=5:4", "ulimit soft limit must be less than or equal to hard limit: 5 > 4"),
        (parse_network, "name=x,bogus=1", "invalid field key bogus"),
        (parse_network, "alias=x", "network name/id is not specified"),
        (parse_secret, "target=x", "source is required"),
        (parse_placement_preference, "pack=x", "unsupported placement preference pack (only spread is supported)"),
        (parse_restart_policy, "on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
        (parse_device, "relative", "relative is not an absolute path"),
        (parse_external_ca, "url=https://x", "the external-ca option needs a protocol= parameter"),
        (parse_external_ca, "protocol=cfssl", "the external-ca option needs a url= parameter"),
        (parse_external_ca, "protocol=acme,url=https://x", "unrecognized external CA protocol acme"),
        (
            parse_external_ca,
            "protocol=cfssl,url=https://x,cacert=/proc/nowhere",
            "unable to read CA cert for external CA: open /proc/nowhere: no such file or directory",
        ),
        (
            parse_external_ca,
            "protocol=cfssl,url=https://x,cacert=/dev/null",
            "CA cert for external CA must be in PEM format",
        ),
    ],
)
def test_nonsense_is_refused_in_dockers_words(parse, text, problem):
    with pytest.raises(ValueError, match=r".*") as caught:
        parse(text)
    assert str(caught.value) == problem


def test_named_generic_resources_cannot_be_asked_for():
    with pytest.raises(ValueError, match="Named Generic Resources is not supported"):
        parse_generic_resources(["gpu=UUID1"])


def test_a_quoted_mount_field_may_hold_commas():
    mount = parse_mount('type=volume,dst=/x,"volume-opt=o=a,b"')
    assert mount["VolumeOptions"]["DriverConfig"]["Options"] == {"o": "a,b"}


def test_adding_a_capability_beats_dropping_it():
    assert effective_capabilities(["net_admin"], ["NET_ADMIN", "chown"]) == (["CAP_NET_ADMIN"], ["CAP_CHOWN"])
    assert effective_capabilities(["chown"], ["all"]) == (["CAP_CHOWN"], ["ALL"])


def test_filters_are_maps_of_maps():
    assert (
        encode_filters([("name", "b"), ("name", "a"), ("label", "x=y")])
        == '{"label":{"x=y":true},"name":{"a":true,"b":true}}'
    )
    assert encode_filters([]) is None


def test_env_files_take_bare_names_from_outside(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTSIDE", "v")
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1 2\nOUTSIDE\nNOWHERE\n")
    assert environment([str(file)], ["B=3"]) == ["A=1 2", "OUTSIDE=v", "B=3"]


def test_a_bad_env_file_names_its_problem(tmp_path):
    file = tmp_path / "env"
    file.write_text("A B=1\n")
    with pytest.raises(ValueError, match="variable 'A B' contains whitespaces"):
        environment([str(file)], [])
    with pytest.raises(ValueError, match="no such file"):
        environment([str(tmp_path / "none")], [])

"""What commands print, and how they end."""

import json

import pytest

SERVICE = {
    "ID": "s" * 25,
    "Spec": {
        "Name": "web",
        "Mode": {"Replicated": {"Replicas": 3}},
        "TaskTemplate": {"ContainerSpec": {"Image": "img:1@sha256:" + "a" * 64}, "Placement": {"MaxReplicas": 2}},
    },
    "Endpoint": {
        "Ports": [
            {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"},
            {"Protocol": "tcp", "TargetPort": 81, "PublishedPort": 8081, "PublishMode": "ingress"},
            {"Protocol": "udp", "TargetPort": 53, "PublishedPort": 53, "PublishMode": "host"},
        ]
    },
    "ServiceStatus": {"RunningTasks": 2, "DesiredTasks": 3},
}
JOB = {
    **SERVICE,
    "ID": "j" * 25,
    "Spec": {**SERVICE["Spec"], "Name": "job", "Mode": {"ReplicatedJob": {"TotalCompletions": 5}}},
    "ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 2, "CompletedTasks": 3},
}


def test_service_ls_is_dockers_table(daemon, enxame):
    daemon.answers = {"GET /services": (200, [SERVICE, JOB])}
    assert enxame("service", "ls").out.splitlines() == [
        "ID             NAME      MODE             REPLICAS                               IMAGE     PORTS",
        "jjjjjjjjjjjj   job       replicated job   1/2 (3/5 completed) (max 2 per node)   img:1     *:8080-8081->80-81/tcp",  # noqa: E501
        "ssssssssssss   web       replicated       2/3 (max 2 per node)                   img:1     *:8080-8081->80-81/tcp",  # noqa: E501
    ]


def ports(*rows):
    return [
        {"Protocol": protocol, "TargetPort": target, "PublishedPort": published, "PublishMode": "ingress"}
        for published, target, protocol in rows
    ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (ports((9010, 80, "tcp"), (9011, 80, "tcp"), (9012, 80, "tcp")), "*:9010-9012->80/tcp"),
        (ports((9021, 91, "tcp"), (9020, 90, "tcp")), "*:9020-9021->90-91/tcp"),
        (ports((9020, 90, "tcp"), (9021, 91, "tcp"), (9022, 91, "tcp")), "*:9020-9021->90-91/tcp, *:9022->91/tcp"),
        (ports((9001, 81, "tcp"), (9002, 80, "tcp")), "*:9001->81/tcp, *:9002->80/tcp"),
        (
            ports((9031, 31, "udp"), (9030, 30, "tcp"), (9024, 80, "tcp")),
            "*:9024->80/tcp, *:9030->30/tcp, *:9031->31/udp",
        ),
        ([{**ports((80, 80, "tcp"))[0], "PublishMode": "host"}], ""),
    ],
)
def test_service_ls_joins_neighbouring_ports_as_docker_does(daemon, enxame, given, shown):
    daemon.answers = {"GET /services": (200, [{**SERVICE, "Endpoint": {"Ports": given}}])}
    assert enxame("service", "ls", "--format", "{{.Ports}}").out == f"{shown}\n"


def test_pretty_shows_the_port_that_the_swarm_has_chosen(daemon, enxame):
    spec = {**SERVICE["Spec"], "EndpointSpec": {"Mode": "vip", "Ports": ports((0, 80, "tcp"))}}
    service = {**SERVICE, "Spec": spec, "Endpoint": {"Ports": ports((30007, 80, "tcp"))}}
    daemon.answers = {"GET /services/web": (200, service)}
    assert " PublishedPort = 30007\n" in enxame("service", "inspect", "--pretty", "web").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["service", "scale", "web=²"],
            'web: invalid replicas value ²: strconv.ParseUint: parsing "²": invalid syntax',
        ),
        (["service", "create", "--generic-resource", "a=²", "img"], "Named Generic Resources is not supported"),
        (["run", "--restart", "on-failure:²", "img"], "maximum retry count must be an integer"),
        (["-H", "tcp://a:²", "ps"], "unable to parse docker host `tcp://a:²`"),
    ],
)
def test_other_scripts_digits_are_no_numbers(daemon, enxame, words, message):
    outcome = enxame(*words)
    assert outcome.code != 0
    assert message in outcome.err


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["service", "create", "--network", "", "img"], "network"),
        (["service", "update", "--network-rm", "", "web"], "network"),
        (["network", "inspect", ""], "network"),
        (["network", "rm", ""], "network"),
        (["network", "connect", "", "c1"], "network"),
        (["network", "connect", "app", ""], "container"),
        (["network", "disconnect", "app", ""], "container"),
        (["service", "rm", ""], "service"),
        (["node", "rm", ""], "node"),
        (["stop", ""], "container"),
    ],
)
def test_an_empty_name_is_refused_without_asking_for_it(daemon, enxame, words, kind):
    daemon.answers = {"GET /services/web": (200, {**SERVICE, "Version": {"Index": 1}})}
    outcome = enxame(*words)
    assert (outcome.code, f"invalid {kind} name or ID: value is empty" in outcome.err) == (1, True), outcome


def test_a_refused_service_says_nothing_of_its_images_digest(daemon, enxame):
    daemon.answers = {
        "GET /distribution/img:latest/json": (401, {"message": "denied"}),
        "POST /services/create": (400, {"message": "no"}),
    }
    assert enxame("service", "create", "-d", "img").err == "Error response from daemon: no\n"


def test_json_format_gives_one_object_a_line_with_gos_escapes(daemon, enxame):
    daemon.answers = {"GET /services": (200, [SERVICE])}
    out = enxame("service", "ls", "--format", "json").out
    assert "\\u003e" in out
    assert json.loads(out) == {
        "ID": "ssssssssssss",
        "Image": "img:1",
        "Mode": "replicated",
        "Name": "web",
        "Ports": "*:8080-8081->80-81/tcp",
        "Replicas": "2/3 (max 2 per node)",
    }


def test_table_templates_get_headers(daemon, enxame):
    daemon.answers = {"GET /services": (200, [SERVICE])}
    assert (
        enxame("service", "ls", "--format", r"table {{.Name}}\t{{upper .Mode}}").out
        == "NAME      MODE\nweb       REPLICATED\n"
    )


def test_an_unknown_field_of_a_list_is_an_error(daemon, enxame):
    daemon.answers = {"GET /services": (200, [SERVICE])}
    outcome = enxame("service", "ls", "--format", "{{.Nope}}")
    assert (outcome.code, outcome.err) == (
        1,
        'template parsing error: template: :1:2: executing "" at <.Nope>: can\'t evaluate field Nope\n',
    )


def test_the_daemons_words_come_after_a_prefix(daemon, enxame):
    daemon.answers = {"GET /nodes": (503, {"message": "This node is not a swarm manager."})}
    outcome = enxame("node", "ls")
    assert (outcome.code, outcome.out, outcome.err) == (
        1,
        "",
        "Error response from daemon: This node is not a swarm manager.\n",
    )


def test_an_unreachable_daemon_is_named(enxame, monkeypatch, tmp_path):
    monkeypatch.setenv("ENXAME_HOST", f"unix://{tmp_path}/none.sock")
    outcome = enxame("ps")
    assert outcome.code == 1
    assert (
        outcome.err
        == f"Cannot connect to the Enxame daemon at unix://{tmp_path}/none.sock. Is the enxame daemon running?\n"
    )


def test_run_ends_with_125_when_the_daemon_refuses(daemon, enxame):
    daemon.answers = {"POST /containers/create": (409, {"message": "Conflict. The name is in use"})}
    outcome = enxame("run", "-d", "--name", "x", "img")
    assert outcome.code == 125
    assert outcome.err == "enxame: Error response from daemon: Conflict. The name is in use\nSee 'enxame run --help'.\n"


def test_a_container_that_could_not_be_started_is_named_all_the_same(daemon, enxame):
    daemon.answers = {
        "POST /containers/create": (201, {"Id": "c1"}),
        "POST /containers/c1/start": (403, {"message": "Could not attach to network app"}),
    }
    outcome = enxame("run", "-d", "img")
    assert (outcome.code, outcome.out) == (125, "c1\n")
    assert outcome.err == "enxame: Error response from daemon: Could not attach to network app\n"


def test_whole_numbers_are_shown_without_a_fraction(daemon, enxame):
    config = {"MaxFailureRatio": 0.0, "Half": 0.5, "Large": 1e300}
    daemon.answers = {"GET /services/web": (200, {**SERVICE, "Spec": {**SERVICE["Spec"], "UpdateConfig": config}})}
    out = enxame("service", "inspect", "--format", "{{json .Spec.UpdateConfig}}", "web").out
    assert out == '{"MaxFailureRatio":0,"Half":0.5,"Large":1e+300}\n'


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        ('exec: "nosuch": executable file not found in $PATH', 127),
        ('exec: "/x": stat /x: no such file or directory', 127),
        ('exec: "/etc/passwd": permission denied', 126),
        ("driver failed programming external connectivity", 125),
    ],
)
def test_run_ends_with_the_code_for_a_command_that_cannot_be_started(daemon, enxame, problem, code):
    daemon.answers = {
        "POST /containers/create": (201, {"Id": "c1"}),
        "POST /containers/c1/start": (400, {"message": problem}),
    }
    assert enxame("run", "-d", "img").code == code


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (["run", "--foo"], 125, "unknown flag: --foo\nSee 'enxame run --help'.\n"),
        (["ps", "-y"], 125, "unknown shorthand flag: 'y' in -y\nSee 'enxame ps --help'.\n"),
        (["service", "create", "--name"], 125, "flag needs an argument: --name\nSee 'enxame service create --help'.\n"),
        (
            ["service", "create", "--replicas", "abc", "x"],
            125,
            (
                'invalid argument "abc" for "--replicas" flag: strconv.ParseUint: parsing "abc": invalid syntax\n'
                "See 'enxame service create --help'.\n"
            ),
        ),
        (
            ["service", "create", "-p", "x:y", "img"],
            125,
            (
                'invalid argument "x:y" for "-p, --publish" flag: Invalid containerPort: y\n'
                "See 'enxame service create --help'.\n"
            ),
        ),
        (
            ["ps", "--all=maybe"],
            125,
            (
                'invalid argument "maybe" for "-a, --all" flag: strconv.ParseBool: parsing "maybe": invalid syntax\n'
                "See 'enxame ps --help'.\n"
            ),
        ),
        (
            ["rm"],
            1,
            (
                "\"enxame rm\" requires at least 1 argument.\nSee 'enxame rm --help'.\n\n"
                "Usage:  enxame rm [OPTIONS] CONTAINER [CONTAINER...]\n\nRemove one or more containers\n"
            ),
        ),
        (["foo"], 1, "enxame: 'foo' is not an enxame command.\nSee 'enxame --help'.\n"),
    ],
)
def test_usage_errors_are_dockers(enxame, words, code, err):
    outcome = enxame(*words)
    assert (outcome.code, outcome.err) == (code, err)


def test_flags_after_the_image_belong_to_the_container(daemon, enxame):
    daemon.answers = {"POST /containers/create": (201, {"Id": "c1"})}
    assert enxame("create", "img", "cmd", "--rm=x", "-it").code == 0
    assert daemon.sent("POST", "/containers/create")[0].body["Cmd"] == ["cmd", "--rm=x", "-it"]


def test_an_older_daemon_is_spoken_to_in_its_own_version_without_asking_first(daemon, enxame):
    daemon.answers = {"GET /services": (200, [])}
    assert enxame("service", "ls").code == 0
    assert [r.path for r in daemon.requests] == ["/services"]


def test_service_update_with_rollback_takes_no_other_flag(daemon, enxame):
    daemon.answers = {"GET /services/web": (200, {**SERVICE, "Version": {"Index": 1}})}
    outcome = enxame("service", "update", "--rollback", "--image", "x", "web")
    assert (outcome.code, outcome.err) == (1, "other flags may not be combined with --rollback\n")


def test_join_token_prints_the_block(daemon, enxame):
    daemon.answers = {
        "GET /swarm": (200, {"JoinTokens": {"Worker": "SWMTKN-w", "Manager": "SWMTKN-m"}}),
        "GET /info": (
            200,
            {
                "Swarm": {
                    "NodeID": "n",
                    "RemoteManagers": [{"NodeID": "o", "Addr": "9"}, {"NodeID": "n", "Addr": "10.0.0.1:2377"}],
                }
            },
        ),
    }
    assert enxame("swarm", "join-token", "manager").out == (
        "To add a manager to this swarm, run the following command:\n\n"
        "    enxame swarm join --token SWMTKN-m 10.0.0.1:2377\n\n"
    )
    assert enxame("swarm", "join-token", "-q", "worker").out == "SWMTKN-w\n"


def test_inspect_prints_what_it_found_and_complains_about_the_rest(daemon, enxame):
    daemon.answers = {
        "GET /volumes/a": (200, {"Name": "a"}),
        "GET /volumes/b": (404, {"message": "get b: no such volume"}),
    }
    outcome = enxame("volume", "inspect", "a", "b")
    assert outcome.code == 1
    assert outcome.out == '[\n    {\n        "Name": "a"\n    }\n]\n'
    assert outcome.err == "Error response from daemon: get b: no such volume\n"


def test_a_bad_template_ends_with_64(enxame, daemon):
    outcome = enxame("inspect", "-f", "{{.Foo}", "x")
    assert (outcome.code, outcome.err) == (64, "template parsing error: template: :1: bad character U+007D '}'\n")


def _task(identifier, slot, state, desired, created, error=""):
    return {
        "ID": identifier * 25,
        "ServiceID": "s1",
        "Slot": slot,
        "NodeID": "n1",
        "CreatedAt": f"2026-01-01T00:00:{created:02d}Z",
        "DesiredState": desired,
        "Status": {"State": state, "Timestamp": "2026-01-01T00:00:00Z", "Err": error},
        "Spec": {"ContainerSpec": {"Image": "img:1"}},
    }


def test_service_ps_puts_predecessors_below_a_slots_newest_task(daemon, enxame):
    daemon.answers = {
        "GET /services": (200, [{"ID": "s1", "Spec": {"Name": "web"}}]),
        "GET /services/s1": (200, {"ID": "s1", "Spec": {"Name": "web"}}),
        "GET /nodes/n1": (200, {"ID": "n1", "Spec": {}, "Description": {"Hostname": "host1"}}),
        "GET /tasks": (
            200,
            [
                _task("a", 1, "failed", "shutdown", 1, "starting container failed: a long story"),
                _task("b", 2, "running", "running", 2),
                _task("c", 1, "running", "running", 3),
            ],
        ),
    }
    lines = enxame(
        "service", "ps", "--format", "{{.Name}}|{{.Node}}|{{.DesiredState}}|{{.Error}}", "web"
    ).out.splitlines()
    assert lines == [
        "web.1|host1|Running|",
        'web.1|host1|Shutdown|"starting container failed: a …"',
        "web.2|host1|Running|",
    ]
    table = enxame("service", "ps", "web").out.splitlines()
    assert table[0].split() == ["ID", "NAME", "IMAGE", "NODE", "DESIRED", "STATE", "CURRENT", "STATE", "ERROR", "PORTS"]
    assert table[1].startswith("cccccccccccc   web.1")
    assert table[2].startswith("aaaaaaaaaaaa    \\_ web.1")


def test_service_ps_of_an_unknown_service_fails_after_the_table(daemon, enxame):
    daemon.answers = {"GET /services": (200, [{"ID": "s1", "Spec": {"Name": "web"}}]), "GET /tasks": (200, [])}
    outcome = enxame("service", "ps", "web", "nosuch")
    assert (outcome.code, outcome.err) == (1, "no such service: nosuch\n")
    assert outcome.out.startswith("ID ")


def test_every_help_page_can_be_shown(enxame):
    from enxame.cli.command import Group, load
    from enxame.cli.tree import COMMANDS, MANAGEMENT

    assert enxame().out.splitlines()[1] == "Usage:  enxame [OPTIONS] COMMAND"
    for name, entry in {**MANAGEMENT, **COMMANDS}.items():
        outcome = enxame(name, "--help")
        assert outcome.code == 0
        assert f"Usage:  enxame {name}" in outcome.out
        found = load(entry[0])
        if isinstance(found, Group):
            for verb in found.verbs:
                assert f"Usage:  enxame {name} {verb}" in enxame(name, verb, "--help").out


def test_completion_prints_a_script_for_each_shell(enxame):
    for shell in ("bash", "zsh", "fish"):
        assert "_ENXAME_COMPLETE" in enxame("completion", shell).out
    assert enxame("completion", "tcsh").code == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("network create --scope s", ["swarm"]),
        ("network create --driver ", ["bridge", "macvlan", "overlay"]),
        ("network create -d m", ["macvlan"]),
        ("network create --config-from p", ["plan"]),
        ("service create --network p", ["pair", "plan"]),
        ("service update --network-add pa", ["pair"]),
        ("service update --network-rm pa", ["pair"]),
        ("service create --endpoint-mode ", ["dnsrr", "vip"]),
        ("service create --secret k", ["key"]),
        ("service update --secret-rm k", ["key"]),
        ("run --network pa", ["pair"]),
        ("service create --name p", []),
    ],
)
def test_completion_knows_what_flags_are_about(daemon, monkeypatch, capsys, words, found):
    from enxame.cli.main import run

    daemon.answers = {
        "GET /networks": (200, [{"Name": "plan", "ConfigOnly": True}, {"Name": "pair"}]),
        "GET /secrets": (200, [{"Spec": {"Name": "key"}}]),
    }
    monkeypatch.setenv("_ENXAME_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"enxame {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(f"enxame {words}".split(" ")) - 1))
    assert run([]) == 0
    assert capsys.readouterr().out.split() == [f"plain,{name}" for name in found]


def test_completion_asks_the_daemon_for_names(daemon, monkeypatch, capsys):
    from enxame.cli.main import run

    daemon.answers = {"GET /services": (200, [{"Spec": {"Name": "web"}}, {"Spec": {"Name": "db"}}])}
    monkeypatch.setenv("_ENXAME_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "enxame service inspect w")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert run([]) == 0
    assert capsys.readouterr().out == "plain,web\n"

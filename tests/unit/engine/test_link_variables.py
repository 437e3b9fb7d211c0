from enxame.engine.link_variables import link_variables


def test_a_link_tells_of_addresses_ports_and_the_others_environment():
    found = link_variables("web", "my-db", "172.17.0.2", ["5432/tcp", "53/udp"], ["PATH=/bin", "MODE=x=y", "BARE"])
    assert found == [
        "MY_DB_PORT=udp://172.17.0.2:53",
        "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
        "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_MODE=x=y",
    ]

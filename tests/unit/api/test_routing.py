import pytest

from enxame.api.resources import all_routes


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/networks", ("/networks", "")),
        ("GET", "/networks/", ("/networks", "")),
        ("DELETE", "/networks/", None),
        ("GET", "/services/", None),
        ("GET", "/networks/app", ("/networks/{name}", "app")),
        ("POST", "/networks/app/connect", ("/networks/{name}/connect", "app")),
        ("GET", "/images/a/b/c:1/json", ("/images/{name}/json", "a/b/c:1")),
    ],
)
def test_a_path_leads_to_its_operation(method, path, found):
    operation = all_routes().find(method, path)
    assert (operation and (operation[0].path, operation[1])) == found

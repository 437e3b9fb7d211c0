"""The stock docker command, unmodified: images, and what the disk is used for."""

import re

import pytest

from tests.clients.command import IMAGE, Command, columns, started

pytestmark = pytest.mark.usefixtures("tidy")


def test_images_are_listed_tagged_and_removed(docker: Command) -> None:
    docker("tag", IMAGE, "other/name:v1")
    rows = {(row["REPOSITORY"], row["TAG"]): row["IMAGE ID"] for row in columns(docker("images"))}
    assert rows["enxame/sample", "latest"] == rows["other/name", "v1"]
    assert docker("rmi", "other/name:v1") == "Untagged: other/name:v1"
    assert docker("images", "-q", "other/name") == ""
    assert "/bin/serve" in docker("image", "inspect", "-f", "{{.Config.Cmd}}", IMAGE)
    assert "No such image: no/such" in docker.refused("rmi", "no/such")


def test_an_image_in_use_is_not_removed(docker: Command) -> None:
    container = docker("create", IMAGE)
    assert re.search(
        rf"unable to remove repository reference .* container {container[:12]} is using", docker.refused("rmi", IMAGE)
    )


def test_a_directory_can_be_imported_as_an_image(docker: Command, tmp_path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add("/bin/busybox", "bin/sh")
    imported = docker("import", "-c", 'CMD ["/bin/sh", "-c", "echo imported"]', str(tmp_path / "root.tar"), "imp:1")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", imported)
    assert docker("run", "--rm", "imp:1") == "imported"
    docker("rmi", "imp:1")


def test_images_of_a_name_are_shown_with_that_name_alone(docker: Command) -> None:
    docker("tag", IMAGE, "shop/web:1")
    docker("tag", IMAGE, "shop/web:2")
    row = "{{.Repository}}:{{.Tag}}"
    assert set(docker("images", "--format", row, "shop/web").split()) == {"shop/web:1", "shop/web:2"}
    assert docker("images", "--format", row, "shop/web:2") == "shop/web:2"
    assert docker("images", "-q", "--filter", "reference=*/nothing") == ""
    docker("rmi", "shop/web:1", "shop/web:2")


def test_containers_are_found_by_what_their_image_is_made_from_and_lose_a_name_that_is_gone(docker: Command) -> None:
    ref = started(docker)
    docker("exec", ref, "touch", "/changed")
    docker("commit", ref, "derived:1")
    child = docker("create", "--expose", "99", "derived:1")
    docker("tag", "derived:1", "derived:2")
    docker("rmi", "derived:1")
    found = docker("ps", "-aq", "--no-trunc", "--filter", f"ancestor={IMAGE}").split()
    assert set(found) == {ref, child}
    assert docker("ps", "-aq", "--no-trunc", "--filter", "ancestor=derived:2") == child
    assert docker("ps", "-a", "--format", "{{.Image}}", "--filter", f"id={child}") in docker("images", "-q")
    assert docker("ps", "-aq", "--no-trunc", "--filter", "expose=80") == ref
    docker("rm", "-f", ref, child)
    docker("rmi", "derived:2")


def test_system_df_counts_layers_once_and_shows_everything(docker: Command) -> None:
    started(docker, "-v", "kept:/kept", "--name", "writer")
    docker("exec", "writer", "sh", "-c", "head -c 100000 /dev/zero > /file; head -c 50000 /dev/zero > /kept/file")
    docker("tag", IMAGE, "other:tag")
    images, containers, volumes, cache = columns(docker("system", "df"))
    assert (images["TOTAL"], images["ACTIVE"]) == ("1", "1")
    assert (containers["TOTAL"], containers["ACTIVE"]) == ("1", "1")
    assert containers["SIZE"].startswith("100")
    assert (volumes["TOTAL"], volumes["SIZE"]) == ("1", "50kB")
    assert cache["TYPE"] == "Build Cache"
    verbose = docker("system", "df", "-v")
    assert re.search(r"kept +1 +50kB", verbose)
    assert "writer" in verbose
    docker("rmi", "other:tag")
    docker("rm", "-f", "writer")
    docker("volume", "rm", "kept")


def test_system_prune_takes_what_nobody_uses(docker: Command) -> None:
    docker("run", "--name", "done", IMAGE, "true")
    running = started(docker)
    docker("network", "create", "unused")
    docker("volume", "create", "kept")
    said = docker("system", "prune", "-f")
    assert "Total reclaimed space" in said
    assert "unused" in said
    assert docker("ps", "-aq", "--no-trunc") == running
    assert "unused" not in docker("network", "ls")
    assert "kept" in docker("volume", "ls", "-q")
    docker("volume", "rm", "kept")
    docker("image", "inspect", IMAGE)

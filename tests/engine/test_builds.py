"""Building with the real buildah, from images of this machine and from registries."""

import asyncio
import gzip
import os
import shutil
import subprocess
import tarfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enxame.engine.building.builder import Builder
from enxame.engine.building.options import BuildOptions
from enxame.engine.sandbox import SandboxInfo
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound
from enxame.testing.sample_image import DEFAULT_TAG, build
from tests.engine.image_lab import LoopbackRegistry, Progress, entry, files, open_store, stream, tar

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces"),
    pytest.mark.skipif(not (shutil.which("buildah") and shutil.which("skopeo")), reason="needs buildah and skopeo"),
    pytest.mark.skipif(not os.path.exists("/bin/busybox"), reason="needs busybox-static"),
]


class HostNetwork:
    """Builds see the machine's own network."""

    def __init__(self):
        self.asked, self.released = [], []

    async def connect(self, container_id, request):
        self.asked.append(request.network_mode)
        return SandboxInfo()

    async def release(self, container_id):
        self.released.append(container_id)


@pytest.fixture
async def store(tmp_path):
    store = await open_store(tmp_path)
    build(tmp_path / "sample.tar")
    await store.load(stream((tmp_path / "sample.tar").read_bytes()), Progress())
    yield store
    await store.stop()


@pytest.fixture
async def builder(store, tmp_path):
    builder = Builder(tmp_path / "build", store, HostNetwork())
    await builder.start()
    yield builder
    await builder.stop()
    assert str(tmp_path / "build") not in content_of("/proc/mounts")


def context(dockerfile, *named, name="Dockerfile"):
    return files((name, dockerfile.encode()), *named)


async def run(builder, content, **options):
    progress = Progress()
    async with asyncio.timeout(60):
        image_id = await builder.build(stream(content), BuildOptions(**options), progress)
    return image_id, progress


def text(progress):
    return "".join(message.stream for message in progress)


def content_of(path):
    return Path(path).read_text()


def root_of(store, image_id):
    """What the image holds: its files by name."""
    found = {}
    for layer in store.resolve(image_id).layers:
        base = store._layers.directory(layer)
        for directory, _, names in os.walk(base):
            for name in names:
                path = os.path.join(directory, name)
                found[os.path.relpath(path, base)] = path
    return found


async def test_steps_are_told_as_docker_tells_them_and_the_image_is_ours(store, builder):
    dockerfile = f"""# a comment
FROM {DEFAULT_TAG}
COPY a /data/
RUN cat /data/a && \\
    echo done >/made
ENV COLOUR=blue
HEALTHCHECK --interval=5s CMD true
CMD ["sh"]
"""
    image_id, progress = await run(builder, context(dockerfile, ("a", b"from the context\n")), tags=["web", "web:2"])
    said = text(progress)
    assert f"Step 1/6 : FROM {DEFAULT_TAG}\n" in said
    assert "Step 2/6 : COPY a /data/\n" in said
    assert "from the context\n" in said
    assert "enxame-base" not in said
    assert said.endswith(
        f"Successfully built {image_id[7:19]}\nSuccessfully tagged web:latest\nSuccessfully tagged web:2\n"
    )
    assert [message.aux for message in progress if message.aux] == [{"ID": image_id}]
    config = store.resolve("web:2").config
    assert config.cmd == ["sh"]
    assert "COLOUR=blue" in config.env
    assert config.healthcheck.interval == 5_000_000_000
    found = root_of(store, image_id)
    assert content_of(found["made"]) == "done\n"
    assert os.stat(found["data/a"]).st_uid == 0
    assert store.resolve("web").layers[: len(store.resolve(DEFAULT_TAG).layers)] == store.resolve(DEFAULT_TAG).layers
    assert store.history("web")[0].tags == ["web:2", "web:latest"]


async def test_unchanged_steps_come_from_the_cache_unless_it_is_refused(store, builder):
    content = context(f"FROM {DEFAULT_TAG}\nRUN cat /proc/sys/kernel/random/uuid >/uuid\n")
    first, _ = await run(builder, content)
    second, progress = await run(builder, content)
    assert second == first
    assert " ---> Using cache\n" in text(progress)
    third, progress = await run(builder, content, no_cache=True)
    assert third != first
    assert "Using cache" not in text(progress)


async def test_stages_arguments_labels_and_a_target(store, builder):
    dockerfile = f"""ARG BASE=nothing:here
FROM ${{BASE}} AS one
ARG WORD=none
RUN echo $WORD >/word
FROM scratch AS two
COPY --from=one /word /word
COPY --from={DEFAULT_TAG} /bin/busybox /busybox
FROM one AS three
RUN echo three >/three
"""
    options = {"arguments": {"BASE": DEFAULT_TAG, "WORD": "blue"}, "labels": {"a": "b c"}, "target": "two"}
    image_id, progress = await run(builder, context(dockerfile), **options)
    found = root_of(store, image_id)
    assert sorted(found) == ["busybox", "word"]
    assert content_of(found["word"]) == "blue\n"
    assert store.resolve(image_id).config.labels == {"a": "b c"}
    assert "Step 1/7 : ARG BASE=nothing:here\n" in text(progress)
    assert "Step 7/7 : COPY --from=enxame/sample:latest /bin/busybox /busybox" in text(progress)
    with pytest.raises(InvalidArgument, match="failed to reach build target four"):
        await run(builder, context(dockerfile), arguments={"BASE": DEFAULT_TAG}, target="four")


async def test_what_dockerignore_names_is_not_copied(store, builder):
    content = context(
        "FROM scratch\nCOPY . /all/\n",
        (".dockerignore", b"*.secret\n!keep.secret\ndir\n"),
        ("a", b"a"),
        ("b.secret", b"b"),
        ("keep.secret", b"c"),
        ("dir/x", b"x"),
    )
    image_id, _ = await run(builder, content)
    assert sorted(root_of(store, image_id)) == ["all/.dockerignore", "all/Dockerfile", "all/a", "all/keep.secret"]


async def test_a_gzipped_context_and_another_name_of_the_dockerfile(store, builder):
    content = context("FROM scratch\nCOPY a /a\n", ("a", b"a"), name="sub/Build.file")
    image_id, _ = await run(builder, gzip.compress(content), dockerfile="sub/Build.file")
    assert sorted(root_of(store, image_id)) == ["a"]


async def test_a_base_that_is_not_here_is_pulled(store, builder, tmp_path):
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry")
    with LoopbackRegistry(tmp_path / "registry") as registry:
        name = registry.push((tmp_path / "sample.tar").read_bytes(), "team/base:1")
        await store.remove(DEFAULT_TAG, force=True)
        image_id, progress = await run(builder, context(f"FROM {name}\nRUN echo hello\n"))
        assert "hello\n" in text(progress)
        assert store.inspect(name)
        assert f"Status: Downloaded newer image for {name}" in progress.lines()
    with pytest.raises(EnxameError, match="connection refused"):
        await run(builder, context(f"FROM {name}\n"), pull=True)
    assert store.resolve(image_id)


@pytest.mark.parametrize(
    ("dockerfile", "told"),
    [
        ("FROM {0}\nRUN exit 7\n", "The command '/bin/sh -c exit 7' returned a non-zero code: 7"),
        (
            "FROM {0}\nCOPY nothing /\n",
            (
                "COPY failed: file not found in build context or excluded by .dockerignore: "
                "stat nothing: file does not exist"
            ),
        ),
        ("FROM {0}\nFROBNICATE x\n", "dockerfile parse error line 2: unknown instruction: FROBNICATE"),
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("RUN x\n", "no build stage in current context"),
        ("FROM $NOTHING\n", "base name ($NOTHING) should not be blank"),
    ],
)
async def test_what_is_wrong_is_told_in_dockers_words(store, builder, dockerfile, told, tmp_path):
    before = {row.id for row in store.list()}
    with pytest.raises(EnxameError) as caught:
        await run(builder, context(dockerfile.format(DEFAULT_TAG)), tags=["bad"])
    assert caught.value.message == told
    assert {row.id for row in store.list()} == before
    assert not os.listdir(tmp_path / "build/tmp")
    with pytest.raises(NotFound):
        store.resolve("bad")


async def test_a_context_cannot_lead_out_of_itself(store, builder, tmp_path):
    (tmp_path / "outside").write_text("FROM scratch\n")
    link = tar([entry("Dockerfile", tarfile.SYMTYPE, linkname=str(tmp_path / "outside"))])
    with pytest.raises(InvalidArgument, match="Cannot locate specified Dockerfile: Dockerfile"):
        await run(builder, link)
    climbing = tar([entry("../evil", content=b"x")])
    with pytest.raises(InvalidArgument, match="outside"):
        await run(builder, climbing)
    hidden = tar(
        [
            entry("Dockerfile", content=b"FROM scratch\nCOPY link/passwd /p\n"),
            entry("link", tarfile.SYMTYPE, linkname="/etc"),
        ]
    )
    with pytest.raises(EnxameError):
        await run(builder, hidden)


async def test_a_build_that_is_given_up_ends_with_all_its_processes(store, builder, tmp_path):
    marker = f"31.{os.getpid()}"
    begun = asyncio.Event()

    def watch(message):
        if "begun" in message.stream and "echo" not in message.stream:
            begun.set()

    content = context(f"FROM {DEFAULT_TAG}\nRUN echo begun; sleep {marker}\n")
    task = asyncio.create_task(builder.build(stream(content), BuildOptions(), watch))
    async with asyncio.timeout(60):
        await begun.wait()
    assert _running(marker)
    with pytest.raises(Conflict):
        await builder.prune()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline = time.monotonic() + 5
    while _running(marker) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert not _running(marker)
    assert not os.listdir(tmp_path / "build/tmp")


def _running(marker):
    return subprocess.run(["pgrep", "-f", f"sleep {marker}"], capture_output=True, check=False).stdout


async def test_builds_at_the_same_time_do_not_disturb_each_other(store, builder):
    contents = [context(f"FROM {DEFAULT_TAG}\nRUN echo {number} >/number\n") for number in range(3)]
    built = await asyncio.gather(*(run(builder, content) for content in contents))
    for number, (image_id, _) in enumerate(built):
        assert content_of(root_of(store, image_id)["number"]) == f"{number}\n"


async def test_pruning_drops_the_cache_and_keeps_the_images(store, builder):
    content = context(f"FROM {DEFAULT_TAG}\nRUN echo x >/x\n")
    image_id, _ = await run(builder, content)
    gone, freed = await builder.prune()
    assert gone
    assert freed > 0
    assert await builder.cache_size() == 0
    assert store.resolve(image_id)
    _, progress = await run(builder, content)
    assert "Using cache" not in text(progress)


async def test_pruning_may_be_told_what_goes(store, builder):
    content = context(f"FROM {DEFAULT_TAG}\nRUN echo {time.time_ns()} >/x\n")
    await run(builder, content)
    assert await builder.prune(before=datetime.now(UTC) - timedelta(days=4000)) == ([], 0)
    assert await builder.prune(ids=frozenset({"f" * 12})) == ([], 0)
    _, progress = await run(builder, content)
    assert "Using cache" in text(progress)
    gone, freed = await builder.prune(before=datetime.now(UTC) + timedelta(hours=1))
    assert gone
    assert freed > 0
    _, progress = await run(builder, content)
    assert "Using cache" not in text(progress)


async def test_the_network_is_the_one_that_was_asked_for(store, builder):
    for mode in ("", "none", "mine", "host"):
        await run(builder, context("FROM scratch\nLABEL a=b\n"), network=mode)
    assert builder._networks.asked == ["bridge", "none", "mine"]
    assert len(builder._networks.released) == 3
    with pytest.raises(InvalidArgument, match="cannot share a container's network"):
        await run(builder, context("FROM scratch\nLABEL a=b\n"), network="container:x")

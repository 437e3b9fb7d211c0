import pytest

from enxame.machine.local import groups


def test_sizes_of_memory():
    assert groups.parse_memory("") == 0
    assert groups.parse_memory("512") == groups.parse_memory("512m") == groups.parse_memory("512M") == 512 << 20
    assert groups.parse_memory("2g") == 2 << 30
    for wrong in ("m", "1", "63m", "-1g", "1.5g", "10t", "much"):
        with pytest.raises(ValueError, match="no size of memory"):
            groups.parse_memory(wrong)


def test_numbers_of_processors():
    assert groups.parse_cpus("") == 0
    assert groups.parse_cpus("0.5") == 0.5
    for wrong in ("0", "-1", "all", "nan", "inf", "1e9"):
        with pytest.raises(ValueError, match="no number of processors"):
            groups.parse_cpus(wrong)


def test_limits_on_cgroups_v1(tmp_path):
    groups.limit("machines/n-vm", 512 << 20, 1.5, tmp_path)
    assert (tmp_path / "memory/machines/n-vm/memory.limit_in_bytes").read_text() == str(512 << 20)
    assert (tmp_path / "cpu/machines/n-vm/cpu.cfs_quota_us").read_text() == "150000"


def test_limits_on_cgroups_v2(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    groups.limit("machines/n-vm", 512 << 20, 0.25, tmp_path)
    assert (tmp_path / "machines/n-vm/memory.max").read_text() == str(512 << 20)
    assert (tmp_path / "machines/n-vm/cpu.max").read_text() == "25000 100000"
    assert (tmp_path / "machines/cgroup.subtree_control").read_text() == "+memory +cpu"
    assert not (tmp_path / "machines/n-vm/cgroup.subtree_control").exists()


def test_without_limits_nothing_is_made(tmp_path):
    groups.limit("machines/n-vm", 0, 0.0, tmp_path)
    assert not list(tmp_path.iterdir())

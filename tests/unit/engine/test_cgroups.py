from enxame.engine.cgroups import CgroupLayout, CgroupMode, remove_parent


def test_the_group_of_all_containers_goes_where_nothing_lies_in_it(tmp_path):
    layout = CgroupLayout(CgroupMode.V1, {name: tmp_path / name for name in ("memory", "pids", "cpu")})
    (tmp_path / "memory/enxame").mkdir(parents=True)
    (tmp_path / "pids/enxame/anothers").mkdir(parents=True)
    remove_parent(layout, "/enxame")
    assert not (tmp_path / "memory/enxame").exists()
    assert (tmp_path / "pids/enxame/anothers").exists()

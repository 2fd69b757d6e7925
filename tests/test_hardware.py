"""What this machine can do."""

import os

import pytest

from synthmed import hardware


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "200000 100000\n"}, 2.0),
        ({}, None),
    ],
)
def test_a_containers_quota_limits_the_cores(tmp_path, monkeypatch, files, quota):
    """A container of one processor on a machine of 64 would start 64 threads, and 64 requests at once."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    own = tmp_path / "own"
    own.write_text("1:cpu,cpuacct:/a/b\n2:memory:/c\n0::/a/b\n")
    assert hardware._core_quota(tmp_path, own) == quota
    monkeypatch.setattr(hardware, "_core_quota", lambda: 0.5)
    assert hardware.core_count() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinities of processes")
def test_affinity_limits_the_cores():
    """A server that is given two processors would work on as many requests as the machine has."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert hardware.core_count() == 1
    finally:
        os.sched_setaffinity(0, before)

"""A real Ray cluster for the tests that need one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.engine.run.launchers import ray_cluster
from tests.engine.run.launchers.ray_cluster import RayCluster


@pytest.fixture(scope="module")
def started_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A Ray cluster that asks for a token, with two nodes or what a test has left of them."""
    if reason := ray_cluster.missing():
        pytest.skip(reason)
    with ray_cluster.running(tmp_path_factory.mktemp("ray"), token=secrets.token_hex(32)) as running:
        yield running


@pytest.fixture
def ray(started_ray: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """A Ray cluster of two nodes, whose token this process knows."""
    while len(started_ray.nodes) < 2:
        started_ray.add_node()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", started_ray.token)
    return started_ray

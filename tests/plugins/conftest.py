import pytest

from tests.cluster.fixture import _turn_on_the_cluster, cluster, cluster_alone

pytest.register_assert_rewrite("gateway.testing.contract")

__all__ = ["_turn_on_the_cluster", "cluster", "cluster_alone"]

"""The cluster, for tests that break it."""

from tests.cluster.fixture import _turn_on_the_cluster, cluster, cluster_alone, others_again

__all__ = ["_turn_on_the_cluster", "cluster", "cluster_alone", "others_again"]

import pytest

pytest.register_assert_rewrite("gateway.testing.contract")

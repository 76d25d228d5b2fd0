"""Give tests a cache folder each, and skip slow ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"

# On a busy machine, generating inputs can take any time.
settings.register_profile("mapix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mapix")


ALL = os.environ.get("MAPIX_ALL_TESTS") == "1"
"""Whether tests that take seconds run, too, and all combinations of others, as in CI."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that are marked as slow, unless all were asked for."""
    for item in items:
        if not ALL and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes seconds: set MAPIX_ALL_TESTS=1"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache folder of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(folder))
    return folder

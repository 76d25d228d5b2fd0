from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"

# On a busy machine, generating inputs can take any time.
settings.register_profile("mapix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mapix")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache folder of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(folder))
    return folder

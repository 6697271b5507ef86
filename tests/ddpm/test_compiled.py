import numpy as np
import pytest
from numba.core import caching

from ddpm.compiled import compiled


def twice(x):
    return x + x


@pytest.mark.parametrize("nowhere", [False, True])
def test_loops_are_compiled_even_where_nothing_can_be_kept(nowhere, monkeypatch, tmp_path):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    if nowhere:
        monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert compiled(twice)(np.float32(1.5)) == 3
    assert any(tmp_path.rglob("*.nbi")) != nowhere

"""Arrays in half precision."""

from __future__ import annotations

import numpy as np
import pytest

from rerender.propagation.motion import pixels


@pytest.mark.parametrize("largest", [1e-7, 1e-3, 1.0, 255.0, 60_000.0])
def test_half_precision_is_numpys(largest: float) -> None:
    values = np.random.default_rng(0).uniform(-largest, largest, (31, 17, 3)).astype(np.float32)
    half = pixels.half(values)
    assert half.dtype == np.float16
    assert half.tobytes() == values.astype(np.float16).tobytes()
    assert pixels.single(half).tobytes() == half.astype(np.float32).tobytes()

"""Key frames in the stage store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rerender.scene import Trace, Translation, Watch
from rerender.store.cache import Cache, key
from rerender.store.key_frames import StoredKeyFrames
from rerender.translation.references import References
from rerender.video import KeyFrame

LINE = 64  # bytes of a line of the processor's cache; torch aligns its own memory to that


@pytest.mark.parametrize("shift", range(4))
def test_what_is_recalled_lies_in_memory_as_what_was_computed(shift: int, tmp_path: Path) -> None:
    """A product of matrices on several threads depends on the alignment of its operands."""
    video: Any = torch.rand(3, 3, 8, 8)
    cache, name = Cache(tmp_path / "store"), key(shift=shift)
    with cache.making("keys", name) as work:
        made = StoredKeyFrames(work, video, (None, None), lambda: 0.0, Watch())
        made.begin([[0, 1, 2]])
        trace = Trace(image=torch.rand(3, 8, 8 + shift), latent=torch.rand(1, 4, 4, 4 + shift))
        trace.clean[3] = torch.rand(1, 4, 4, 4)
        trace.hidden_states[3, "x" * shift] = torch.rand(1, 16, 32)
        first = Translation(KeyFrame(0, video[0]), trace)
        made.finish(first, References.after(first, None, True))
    with cache.making("keys", name) as work:
        again = StoredKeyFrames(work, video, (None, None), lambda: 0.0, Watch())
    assert again.references is not None
    found = again.references.anchor.trace
    pairs = [
        (found.image, trace.image),
        (found.latent, trace.latent),
        (found.clean[3], trace.clean[3]),
        (found.hidden_states[3, "x" * shift], trace.hidden_states[3, "x" * shift]),
    ]
    for there, here in pairs:
        assert there is not None and here is not None and torch.equal(there, here)
        assert there.data_ptr() % LINE == 0

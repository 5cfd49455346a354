"""Dense inverse search in torch: known motion, batches, and frames as good as by OpenCV."""

from __future__ import annotations

import pytest
import torch

from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.errors import ConfigError
from rerender.flow.dis import Dis
from rerender.flow.dis_torch import DisTorch
from rerender.propagation.patchmatch import PatchMatch
from rerender.video import Frame, Segment
from tests.propagation.scenes import moving, still, texture

DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(48, 64), (37, 91), (11, 14)])
def test_a_shift_is_found_in_both_directions(size: tuple[int, int], device: torch.device) -> None:
    views = moving(2, *size, speed=2)
    first, second = (Frame(i, views[i].to(device)) for i in (0, 1))
    there, back = DisTorch().offsets(first, second)
    for offset, x in ((there, -2.0), (back, 2.0)):
        assert offset.device.type == device.type and offset.shape == (1, 2, *size)
        middle = offset[0, :, 4:-4, 4:-4].mean((1, 2)).cpu()
        assert torch.allclose(middle, torch.tensor([x, 0.0]), atol=0.2)
    assert torch.allclose(DisTorch().offset(first, second), there, atol=1e-4)


def test_nothing_moves_in_a_still_or_flat_picture() -> None:
    views = still(2)
    assert DisTorch().offset(views.frame(0), views.frame(1)).abs().max() < 1e-4
    flat = Frame(0, torch.full((3, 40, 40), 0.5)), Frame(1, torch.full((3, 40, 40), 0.6))
    assert not DisTorch().offset(*flat).any()


def test_pairs_of_a_batch_do_not_touch_each_other() -> None:
    images = torch.stack([texture(40, 56, seed) for seed in range(4)])
    together = DisTorch().estimate(images[:2], images[2:], None)
    for pair in (0, 1):
        alone = DisTorch().estimate(images[pair][None], images[pair + 2][None], None)
        assert torch.allclose(together[pair], alone[0], atol=1e-4)


def test_a_first_guess_is_followed_where_the_motion_is_long() -> None:
    wide = texture(64, 140)
    target, source = Frame(0, wide[:, :, 30:110]), Frame(1, wide[:, :, :80])
    start = torch.tensor([29.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 64, 80).contiguous()
    found = DisTorch().offset(target, source, start)[0, :, 8:-8, 8:40]
    assert (found.mean((1, 2)) - torch.tensor([30.0, 0.0])).abs().max() < 0.2


@pytest.mark.parametrize("motion", ["slow", "fast"])
def test_propagated_frames_are_as_good_as_by_opencv(motion: str) -> None:
    clip = Demo((HELD_OUT,), motion, 7, size=128).clips()[0]
    truth = clip.truth
    assert truth is not None
    images = [image for index in range(7) if (image := truth.translation(index)) is not None]
    assert len(images) == 7
    segment = Segment(clip.video, 1, 6, Frame(0, images[0]), Frame(6, images[6]))
    psnr = []
    for flow in (Dis(), DisTorch()):
        made = PatchMatch().fill(segment, flow)
        errors = [(a - b).square().mean() for a, b in zip(made, images[1:6], strict=True)]
        psnr.append(-10 * torch.stack(errors).mean().log10().item())
    assert psnr[1] > psnr[0] - 0.05


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"flow\.window: must be odd, not 8; add 1"):
        DisTorch(window=8)

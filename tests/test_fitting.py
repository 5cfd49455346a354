"""Working sizes, output sizes, and resizing that neither aliases nor overshoots."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender.errors import ConfigError
from rerender.fitting import fit, resize, to_output
from rerender.video import MemoryVideo


def blank(height: int, width: int) -> MemoryVideo:
    return MemoryVideo([torch.zeros(3, height, width)] * 3, Fraction(24))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(16, 3000), st.integers(16, 3000), st.integers(64, 1024), st.sampled_from([8, 64])
)
def test_sides(height: int, width: int, short: int, multiple: int) -> None:
    video = blank(1, 1)
    video.__class__ = type("Sized", (MemoryVideo,), {"size": (height, width)})
    fitted = fit(video, short, multiple)
    assert all(side % multiple == 0 for side in fitted.size)
    assert abs(min(fitted.size) - short) <= multiple / 2
    assert all(side % 2 == 0 for side in fitted.output_size)
    exact = [side * short / min(height, width) for side in (height, width)]
    for size, slack in ((fitted.size, multiple / 2), (fitted.output_size, 1)):
        assert all(abs(a - b) <= slack for a, b in zip(size, exact, strict=True))


@pytest.mark.parametrize(
    ("source", "short", "multiple", "size", "output"),
    [
        ((720, 960), 512, 8, (512, 680), (512, 682)),
        ((720, 960), 512, 64, (512, 704), (512, 682)),
        ((960, 540), 512, 64, (896, 512), (910, 512)),
        ((128, 128), 500, 64, (512, 512), (500, 500)),
    ],
)
def test_known_sizes(
    source: tuple[int, int],
    short: int,
    multiple: int,
    size: tuple[int, int],
    output: tuple[int, int],
) -> None:
    fitted = fit(blank(*source), short, multiple)
    assert (fitted.size, fitted.output_size) == (size, output)
    assert tuple(fitted[1].shape) == (3, *size)
    assert tuple(to_output(fitted[1], fitted).shape) == (3, *output)
    assert list(fitted.timestamps) == [Fraction(i, 24) for i in range(3)]
    assert fitted.end == Fraction(3, 24)


def test_nothing_to_do_returns_the_video_itself() -> None:
    video = blank(128, 192)
    assert fit(video, 128, 64) is video
    image = video[0]
    assert to_output(image, video) is image


def test_nothing_left_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"multiples of 64, received 16"):
        fit(blank(128, 128), 16, 64)


def test_shrinking_takes_area_means() -> None:
    image = torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(0))
    expected = image.view(3, 4, 3, 5, 4).mean((2, 4))
    torch.testing.assert_close(resize(image, (4, 5)), expected)


def test_a_fractional_shrink_keeps_the_mean() -> None:
    image = torch.rand(3, 30, 50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resize(image, (13, 17)).mean((1, 2)), image.mean((1, 2)))


def test_enlarging_keeps_ramps_and_range() -> None:
    ramp = torch.linspace(0.2, 0.8, 16).expand(3, 8, 16)
    large = resize(ramp, (16, 32))
    inner = large[:, :, 6:-6]
    torch.testing.assert_close(
        inner.diff(dim=2), torch.full_like(inner[..., 1:], 0.02), atol=1e-5, rtol=0
    )
    edge = (torch.arange(16) > 7).float().expand(1, 8, 16)
    large = resize(edge, (64, 128))
    assert large.shape == (1, 64, 128)
    assert large.min() >= 0
    assert large.max() <= 1


def test_one_side_shrinks_while_the_other_grows() -> None:
    flat = torch.full((3, 10, 40), 0.3)
    torch.testing.assert_close(resize(flat, (20, 16)), torch.full((3, 20, 16), 0.3))

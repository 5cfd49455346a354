"""Blends: closed forms, fixed points, and what each one is for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rerender.propagation.blending.blend import Bidirectional, Blend, Guess, Linear, Soft, TwoBand
from rerender.propagation.blending.contrast import Contrast
from rerender.propagation.blending.min_error import MinError
from rerender.propagation.blending.poisson import Poisson, screened
from rerender.propagation.motion.chain import FrameMotion

SIZE = (36, 44)
EVERY: list[Blend] = [
    Linear(),
    Soft(),
    TwoBand(),
    MinError(),
    Contrast(),
    Poisson(),
    MinError(published_pairing=True),
]


def noise(seed: int, sigma: float = 30, mean: float = 128) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(mean, sigma, (*SIZE, 3))
    return np.clip(values, 0, 255).astype(np.float32)


def pair(a: NDArray[np.float32], b: NDArray[np.float32], time: float = 0.5) -> Bidirectional:
    flat = np.zeros(SIZE, np.float32)
    back = FrameMotion(np.zeros((*SIZE, 2), np.float32), flat)
    return Bidirectional(Guess(a, flat), Guess(b, flat), time, back)


def one(blend: Blend, given: Bidirectional) -> NDArray[np.float32]:
    (image,) = blend.run([given])
    return image


@pytest.mark.parametrize("blend", EVERY)
def test_two_equal_versions_stay_as_they_are(blend: Blend) -> None:
    image = cv2.GaussianBlur(noise(0), (0, 0), 2)
    assert np.abs(one(blend, pair(image, image)) - image).max() < 1.0


@pytest.mark.parametrize("blend", EVERY)
@pytest.mark.parametrize("level", [0, 17, 255])
def test_a_single_colour_divides_by_no_zero(blend: Blend, level: int) -> None:
    flat = np.full((*SIZE, 3), level, np.float32)
    assert np.abs(one(blend, pair(flat, flat)) - level).max() < 1.0


@pytest.mark.parametrize("blend", EVERY)
def test_as_many_images_as_pairs(blend: Blend) -> None:
    pairs = [pair(noise(1), noise(2), time / 10) for time in range(1, 10)]
    assert len(list(blend.run(iter(pairs)))) == 9


def test_linear_is_the_cross_fade() -> None:
    a, b = noise(1), noise(2)
    assert np.allclose(one(Linear(), pair(a, b, 0.3)), 0.7 * a + 0.3 * b, atol=1e-3)


def test_soft_weights_are_the_logistic_function() -> None:
    given = pair(noise(1), noise(2), 0.25)
    given = given._replace(left=given.left._replace(error=np.full(SIZE, 800, np.float32)))
    odds = 0.25 / 0.75 * np.exp(800 / (4 * 12**2))
    share = odds / (1 + odds)
    expected = (1 - share) * given.left.image + share * given.right.image
    assert np.allclose(one(Soft(12.0), given), expected, atol=1e-3)


def test_two_bands_keep_the_contrast_of_details_that_disagree() -> None:
    a, b = noise(1), noise(2)
    assert one(Linear(), pair(a, b)).std() < 0.75 * a.std()
    assert one(TwoBand(), pair(a, b)).std() > 0.93 * a.std()


def test_two_bands_never_amplify_beyond_their_gain() -> None:
    a, b = noise(1), noise(2)
    assert np.allclose(one(TwoBand(gain=1.0), pair(a, b)), one(Soft(), pair(a, b)), atol=1e-3)


def test_a_cast_of_one_key_frame_comes_evenly_wherever_the_other_is_taken() -> None:
    """Left is the better version on one side, right on the other: no border is seen."""
    image = cv2.GaussianBlur(noise(0), (0, 0), 2)
    tint = np.array([14, -6, -12], np.float32)
    error = np.zeros(SIZE, np.float32)
    error[:, 22:] = 80
    for time in (0.1, 0.5, 0.8):
        given = replace_errors(pair(image, image + tint, time), error, np.float32(80) - error)
        found = one(TwoBand(tolerance=4.0), given) - image
        assert np.abs(found - np.float32(time) * tint).max() < 0.2
        assert np.abs(one(Soft(4.0), given) - image - np.float32(time) * tint).max() > 1


def test_min_error_takes_the_better_version() -> None:
    given = pair(noise(1), noise(2))
    worse = np.zeros(SIZE, np.float32)
    worse[:, 20:] = 9
    given = given._replace(
        left=given.left._replace(error=worse + 1), right=given.right._replace(error=worse[:, ::-1])
    )
    image = one(MinError(), given)
    assert np.array_equal(image[:, 20:24], given.right.image[:, 20:24])


def test_once_the_right_key_is_chosen_a_point_keeps_it() -> None:
    good, bad = np.zeros(SIZE, np.float32), np.full(SIZE, 9, np.float32)
    first, second = pair(noise(1), noise(2), 0.4), pair(noise(3), noise(4), 0.6)
    first = first._replace(left=first.left._replace(error=bad), right=first.right)
    second = second._replace(right=second.right._replace(error=bad))
    assert not np.array_equal(one(MinError(), second), second.right.image)
    _, image = MinError().run([first, second])
    assert np.array_equal(image, second.right.image)
    assert good.max() == 0


def test_the_published_pairing_mirrors_the_right_errors_in_time() -> None:
    low, high = np.zeros(SIZE, np.float32), np.full(SIZE, 9, np.float32)
    pairs = [pair(noise(i), noise(i + 9), time) for i, time in enumerate((0.25, 0.5, 0.75))]
    mid = np.full(SIZE, 4, np.float32)
    pairs = [
        replace_errors(item, mid, error)
        for item, error in zip(pairs, (low, mid, high), strict=True)
    ]
    plain = list(MinError().run(pairs))
    mirrored = list(MinError(published_pairing=True).run(pairs))
    assert np.array_equal(plain[0], pairs[0].right.image)
    assert np.array_equal(mirrored[0], pairs[0].left.image)


def replace_errors(
    item: Bidirectional, left: NDArray[np.float32], right: NDArray[np.float32]
) -> Bidirectional:
    return item._replace(
        left=item.left._replace(error=left), right=item.right._replace(error=right)
    )


def test_contrast_follows_the_paper() -> None:
    """Standardised mean of both, with mean and deviation of the min-error image, in Lab."""
    a, b = noise(1, 20, 100), noise(2, 25, 140)
    lab = [cv2.cvtColor(x / 255, cv2.COLOR_RGB2Lab) for x in (a, b)]
    scores = [(x - x.mean((0, 1))) / x.std((0, 1)) for x in lab]
    mixed = 0.75 * scores[0] + 0.25 * scores[1]
    chosen = lab[0]  # equal errors: the left one is nearer
    mixed = (mixed - mixed.mean((0, 1))) / mixed.std((0, 1)) * chosen.std((0, 1))
    expected = cv2.cvtColor((mixed + chosen.mean((0, 1))).astype(np.float32), cv2.COLOR_Lab2RGB)
    assert np.abs(one(Contrast(), pair(a, b, 0.25)) / 255 - expected).max() < 2e-3


@pytest.mark.parametrize(("dtype", "close"), [(np.float64, 1e-6), (np.float32, 1e-4)])
def test_poisson_is_the_exact_solution(dtype: type, close: float) -> None:
    from scipy.sparse import diags, eye, kron
    from scipy.sparse.linalg import spsolve

    height, width = 13, 17
    random = np.random.default_rng(0)
    data: NDArray[np.floating] = random.normal(size=(height, width)).astype(dtype)
    gx: NDArray[np.floating] = random.normal(size=(height, width)).astype(dtype)
    gy: NDArray[np.floating] = random.normal(size=(height, width)).astype(dtype)
    gx[:, -1], gy[-1] = 0, 0

    def forward(n: int) -> object:
        d = diags([-np.ones(n), np.ones(n - 1)], [0, 1]).tolil()
        d[-1] = 0
        return d.tocsr()

    dx, dy = kron(eye(height), forward(width)), kron(forward(height), eye(width))
    weight = 2.5
    system = eye(height * width) + weight**2 * (dx.T @ dx + dy.T @ dy)
    right = data.ravel() + weight**2 * (dx.T @ gx.ravel() + dy.T @ gy.ravel())
    expected = spsolve(system.tocsc(), right).reshape(height, width)
    assert np.abs(screened(data, gx, gy, weight) - expected).max() < close


def test_poisson_removes_a_seam() -> None:
    ramp = np.tile(np.linspace(60, 180, SIZE[1], dtype=np.float32)[None, :, None], (SIZE[0], 1, 3))
    given = pair(ramp, ramp + 30)
    better = np.zeros(SIZE, np.float32)
    better[:, 22:] = 50
    given = replace_errors(given, better, np.float32(50) - better)
    seam = np.abs(np.diff(one(MinError(), given)[..., 1], axis=1))[:, 21].mean()
    smooth = np.abs(np.diff(one(Poisson(), given)[..., 1], axis=1))[:, 21].mean()
    assert seam > 30 and smooth < 0.5 * seam


def test_only_the_published_cut_weakens_an_outline() -> None:
    """Two equal versions are their own blend, however steep; the published code cuts what is."""
    picture = np.full((*SIZE, 3), 240, np.float32)
    picture[:, 20:24] = 10
    given = pair(picture, picture)
    kept, cut = one(Poisson(), given), one(Poisson(published_cut=True), given)
    assert np.abs(kept - picture).max() < 1
    assert cut[:, 21].mean() > 40
    weak = (picture / 4 + 90).astype(np.float32)
    shallow = pair(weak, weak)
    assert np.array_equal(one(Poisson(), shallow), one(Poisson(published_cut=True), shallow))

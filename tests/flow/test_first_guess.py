"""A guess corrected by an estimator that knows nothing of it."""

from __future__ import annotations

import torch
from torch import Tensor

from rerender.flow._first_guess import led
from rerender.flow.field import pixel_grid
from tests.propagation.scenes import texture


def test_without_a_guess_the_estimator_is_asked() -> None:
    seen = []

    def found(target: Tensor, source: Tensor) -> Tensor:
        seen.append((target, source))
        return torch.ones(1, 2, 20, 30)

    target, source = texture(20, 30, 0), texture(20, 30, 1)
    assert torch.equal(led(found, target, source, None), torch.ones(1, 2, 20, 30))
    assert seen[0][0] is target and seen[0][1] is source


def test_a_true_guess_leaves_nothing_to_find() -> None:
    wide, guess = texture(20, 40), torch.zeros(1, 2, 20, 30)
    guess[:, 0] = -6
    target, source = wide[..., :30], wide[..., 6:36]

    def found(target: Tensor, moved: Tensor) -> Tensor:
        assert torch.allclose(moved[..., 6:], target[..., 6:], atol=1e-5)
        # Left of it the source has nothing; its first column stands there.
        assert torch.allclose(moved[..., :6], source[..., :1].expand(-1, -1, 6), atol=1e-5)
        return torch.zeros(1, 2, 20, 30)

    assert torch.allclose(led(found, target, source, guess), guess)


def test_the_guess_is_looked_up_where_the_rest_points_to() -> None:
    """offset(p) = rest(p) + start(p + rest(p)): of a guess that grows to the right, its value two
    columns further on."""
    guess = 0.1 * pixel_grid(torch.zeros(1, 2, 20, 30))
    rest = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 20, 30)
    picture = texture(20, 30)
    offset = led(lambda target, moved: rest, picture, picture, guess)
    inner = (..., slice(1, None), slice(0, 28))
    assert torch.allclose(offset[inner], (rest + guess + 0.1 * rest)[inner], atol=1e-5)

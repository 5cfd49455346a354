"""The comparison of two 5x5 patches in vector instructions: what the search spends its time on.

Compilers see the best code for this loop in one place and not in the next: 7 or 30 ns a patch. So
it is spelled out in LLVM's own vectors, which every processor that Numba knows can run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

SIDE = 5
"""Pixels along each side of a patch."""

CHANNELS = 16
"""Bytes of a pixel."""

CUTS = (0, 64, 80)
"""Bytes of a row that are compared at once: the widest registers there are, then the rest."""

WHOLE = ir.IntType(32)


@intrinsic
def _distance(
    _: Any, source: types.Type, target: types.Type, here: types.Type, there: types.Type, pitch: Any
) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = zip(signature.args[:2], arguments[:2], strict=True)
        data = [context.make_array(kind)(context, builder, value).data for kind, value in arrays]
        sums = []
        for row in range(SIDE):
            down = builder.mul(arguments[4], ir.Constant(arguments[4].type, row))
            starts = [builder.add(first, down) for first in arguments[2:4]]
            for first, last in pairwise(CUTS):
                two = [
                    loaded(builder, base, start, first, last - first)
                    for base, start in zip(data, starts, strict=True)
                ]
                sums.append(squares(builder, *two))
        return total(builder, reduce(builder.add, sums))

    place = types.int64
    return types.int32(source, target, place, place, place), code


def loaded(builder: Any, base: Any, start: Any, first: int, count: int) -> Any:
    """Bytes of an array from ``start + first`` on, widened to 16 bits."""
    place = builder.gep(base, [builder.add(start, ir.Constant(start.type, first))])
    narrow = ir.VectorType(ir.IntType(8), count)
    bytes_ = builder.load(builder.bitcast(place, narrow.as_pointer()))
    bytes_.align = 1
    return builder.zext(bytes_, ir.VectorType(ir.IntType(16), count))


def squares(builder: Any, left: Any, right: Any) -> Any:
    """The squared differences of two vectors, summed up to eight numbers of 32 bits."""
    count = left.type.count
    step = builder.sext(builder.sub(left, right), ir.VectorType(WHOLE, count))
    square = builder.mul(step, step)
    # Neighbours first: that is one instruction with the multiplication.
    pairs = builder.add(part(builder, square, 0, 2), part(builder, square, 1, 2))
    return halved(builder, pairs, 8)


def total(builder: Any, vector: Any) -> Any:
    """The sum of a vector's numbers."""
    return builder.extract_element(halved(builder, vector, 1), ir.Constant(WHOLE, 0))


def halved(builder: Any, vector: Any, count: int) -> Any:
    """A vector folded in the middle until ``count`` numbers are left."""
    while (half := vector.type.count // 2) >= count:
        vector = builder.add(
            shuffled(builder, vector, range(half)),
            shuffled(builder, vector, range(half, 2 * half)),
        )
    return vector


def part(builder: Any, vector: Any, first: int, step: int) -> Any:
    """Every ``step``-th number of a vector."""
    return shuffled(builder, vector, range(first, vector.type.count, step))


def shuffled(builder: Any, vector: Any, order: range) -> Any:
    """Some numbers of a vector."""
    mask = ir.Constant(ir.VectorType(WHOLE, len(order)), list(order))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


distance = cast(Callable[[Any, Any, int, int, int], int], _distance)
"""``distance(source, target, here, there, pitch)``: the sum of squared differences of two patches,
given flat packed guides, the positions of the patches' first bytes and the length of a line.
Nothing checks that the patches lie inside. Only for compiled loops."""

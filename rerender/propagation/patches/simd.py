"""The innermost sums of search and warping in vector instructions.

A compiler sees the best code for such a loop in one place and not in the next: 7 or 30 ns for a
patch, 8 or 27 ns for a pixel. So they are spelled out in LLVM's own vectors, which every processor
that Numba knows can run. Nothing checks that what is read lies inside the arrays. Both are only for
compiled loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

SIDE = 5
"""Pixels along each side of a patch."""

CHANNELS = 16
"""Bytes of a pixel of packed guides."""

BARE = 8
"""Bytes of a pixel of those guides that do not come from flow."""

SIMD_WIDTH = 8
"""Numbers of a pixel that are warped at once."""

TAPS = 4
"""Pixels that a cubic kernel reaches, along each axis."""

BYTE, HALF, WHOLE, REAL = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
PLACE = types.int64
FOUR = types.UniTuple(types.float32, TAPS)

Code = TypeVar("Code", bound=Callable[..., Any])


def instructions(code: Code) -> Code:
    """What a function returns is put in the place where it is called."""
    return cast(Code, intrinsic(code))


def comparison(channels: int) -> Callable[[Any, Any, int, int, int], int]:
    """The comparison of patches whose pixels have that many bytes."""
    row = SIDE * channels
    # The widest registers first, then the rest.
    cuts = (0, row - row % 32, row)

    @instructions
    def compare(_: Any, source: Any, target: Any, here: Any, there: Any, pitch: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = memory(context, builder, signature.args[:2], arguments[:2])
            sums = []
            for line in range(SIDE):
                starts = [moved(builder, first, line, arguments[4]) for first in arguments[2:4]]
                for first, last in pairwise(cuts):
                    two = (
                        widened(builder, loaded(builder, base, start, first, BYTE, last - first))
                        for base, start in zip(data, starts, strict=True)
                    )
                    sums.append(squares(builder, *two))
            whole = halved(builder, reduce(builder.add, sums), 1)
            return builder.extract_element(whole, ir.Constant(WHOLE, 0))

        return types.int32(source, target, PLACE, PLACE, PLACE), code

    return cast(Callable[[Any, Any, int, int, int], int], compare)


@instructions
def _weighted(
    _: Any, flat: Any, first: Any, pitch: Any, down: Any, across: Any, out: Any, place: Any
) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args[0], signature.args[5]
        base, goal = memory(context, builder, kinds, (arguments[0], arguments[5]))
        rows, columns = (
            [spread(builder, builder.extract_value(arguments[which], tap)) for tap in range(TAPS)]
            for which in (3, 4)
        )
        lines = []
        for row, weight in enumerate(rows):
            start = moved(builder, arguments[1], row, arguments[2])
            pixels = [
                loaded(builder, base, start, tap * SIMD_WIDTH, REAL, SIMD_WIDTH)
                for tap in range(TAPS)
            ]
            lines.append(times(builder, weight, mixed(builder, columns, pixels)))
        sum_ = reduce(lambda a, b: builder.fadd(a, b, flags=["fast"]), lines)
        stored(builder, sum_, goal, arguments[6])
        return context.get_dummy_value()

    return types.void(flat, PLACE, PLACE, FOUR, FOUR, out, PLACE), code


@instructions
def _gathered(
    _: Any, flat: Any, places: Any, first: Any, width: Any, pitch: Any, out: Any, place: Any
) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args[0], signature.args[1], signature.args[5]
        arrays = arguments[0], arguments[1], arguments[5]
        base, centres, goal = memory(context, builder, kinds, arrays)
        sum_ = None
        for row in range(SIDE):
            patches = moved(builder, arguments[2], row, arguments[3])
            down = builder.mul(arguments[4], ir.Constant(arguments[4].type, SIDE // 2 - row))
            for column in range(SIDE):
                which = builder.add(patches, ir.Constant(patches.type, column))
                centre = builder.load(builder.gep(centres, [which]))
                start = builder.add(builder.sext(centre, down.type), down)
                across = (SIDE // 2 - column) * SIMD_WIDTH
                pixel = loaded(builder, base, start, across, REAL, SIMD_WIDTH)
                # Not in any order that is quicker: on the GPU they are added in this one.
                sum_ = pixel if sum_ is None else builder.fadd(sum_, pixel)
        stored(builder, sum_, goal, arguments[6])
        return context.get_dummy_value()

    return types.void(flat, places, PLACE, PLACE, PLACE, out, PLACE), code


def memory(context: Any, builder: Any, kinds: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """Where the data of arrays begin."""
    both = zip(kinds, arrays, strict=True)
    return [context.make_array(kind)(context, builder, array).data for kind, array in both]


def moved(builder: Any, first: Any, rows: int, pitch: Any) -> Any:
    """A position some rows further down."""
    return builder.add(first, builder.mul(pitch, ir.Constant(pitch.type, rows)))


def vector(builder: Any, base: Any, start: Any, kind: Any, count: int) -> Any:
    """A pointer to ``count`` neighbours in an array."""
    place = builder.gep(base, [start])
    return builder.bitcast(place, ir.VectorType(kind, count).as_pointer())


def loaded(builder: Any, base: Any, start: Any, first: int, kind: Any, count: int) -> Any:
    """``count`` neighbours in an array, from ``start + first`` on, wherever that lies."""
    start = builder.add(start, ir.Constant(start.type, first))
    return builder.load(vector(builder, base, start, kind, count), align=1)


def stored(builder: Any, values: Any, base: Any, start: Any) -> None:
    """Write a vector into an array."""
    place = vector(builder, base, start, values.type.element, values.type.count)
    builder.store(values, place, align=1)


def widened(builder: Any, bytes_: Any) -> Any:
    """Bytes as numbers of 16 bits."""
    return builder.zext(bytes_, ir.VectorType(HALF, bytes_.type.count))


def squares(builder: Any, left: Any, right: Any) -> Any:
    """The squared differences of two vectors, summed up to eight numbers of 32 bits."""
    count = left.type.count
    step = builder.sext(builder.sub(left, right), ir.VectorType(WHOLE, count))
    square = builder.mul(step, step)
    if count == SIMD_WIDTH:
        return square
    # Neighbours first: that is one instruction with the multiplication.
    even, odd = (shuffled(builder, square, range(first, count, 2)) for first in (0, 1))
    return halved(builder, builder.add(even, odd), SIMD_WIDTH)


def halved(builder: Any, values: Any, count: int) -> Any:
    """A vector folded in the middle until ``count`` numbers are left."""
    while (half := values.type.count // 2) >= count:
        sides = range(half), range(half, 2 * half)
        values = builder.add(*(shuffled(builder, values, side) for side in sides))
    return values


def shuffled(builder: Any, values: Any, order: range) -> Any:
    """Some numbers of a vector."""
    mask = ir.Constant(ir.VectorType(WHOLE, len(order)), list(order))
    return builder.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), mask)


def spread(builder: Any, number: Any) -> Any:
    """One number in all lanes of a vector."""
    kind = ir.VectorType(number.type, SIMD_WIDTH)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(WHOLE, 0))
    mask = ir.Constant(ir.VectorType(WHOLE, SIMD_WIDTH), [0] * SIMD_WIDTH)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), mask)


def times(builder: Any, left: Any, right: Any) -> Any:
    """The product of two vectors of real numbers, which may be fused with a sum."""
    return builder.fmul(left, right, flags=["fast"])


def mixed(builder: Any, weights: Sequence[Any], values: Sequence[Any]) -> Any:
    """The weighted sum of vectors."""
    parts = [times(builder, weight, value) for weight, value in zip(weights, values, strict=True)]
    return reduce(lambda a, b: builder.fadd(a, b, flags=["fast"]), parts)


distance = comparison(CHANNELS)
"""``distance(source, target, here, there, pitch)``: the sum of squared differences of two patches,
given flat packed guides, the positions of the patches' first bytes and the length of a line."""

bare_distance = comparison(BARE)
"""`distance` of guides that do not come from flow."""

Four = tuple[float, float, float, float]

weighted = cast(Callable[[Any, int, int, Four, Four, Any, int], None], _weighted)
"""``weighted(flat, first, pitch, down, across, out)``: write to ``out[:8]`` the weighted sum of 4x4
pixels of 8 numbers; the first begins at ``flat[first]``, and a line is ``pitch`` numbers long."""

gathered = cast(Callable[[Any, Any, int, int, int, Any, int], None], _gathered)
"""``gathered(flat, places, first, width, pitch, out, place)``: write to ``out[place:]`` the sum of
a pixel's 8 counterparts in the 5x5 patches that cover it, first row first. ``places [h*width]`` are
the positions in ``flat`` of the patches' centres; the first patch is at ``places[first]``, and a
line of ``flat`` is ``pitch`` numbers long."""

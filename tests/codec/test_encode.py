"""What is written plays everywhere: right colours, exact times, whole sound, same bytes."""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from rerender import files
from rerender.codec import encode, open_video
from rerender.codec.color import to_yuv420
from rerender.codec.encode import Encoder
from rerender.errors import ConfigError, InputError, ResourceError
from rerender.fitting import fit
from rerender.video import MemoryVideo
from tests.codec.making import make, packets, pictures


def frames(count: int, height: int = 48, width: int = 64) -> list[Tensor]:
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return [torch.stack([x, y, (x + i / count) % 1 * 0 + i / count]) for i in range(count)]


class Timed(MemoryVideo):
    """Frames in memory with times of one's own."""

    def __init__(self, images: Sequence[Tensor], times: Sequence[Fraction], end: Fraction) -> None:
        super().__init__(images)
        self._timestamps, self._end = tuple(times), end

    @property
    def end(self) -> Fraction:
        return self._end


def written(tmp_path: Path, images: Sequence[Tensor], video: MemoryVideo | None = None) -> Path:
    with files.writing(tmp_path / "out.mp4") as file:
        encode(iter(images), video or MemoryVideo(images), file)
    return tmp_path / "out.mp4"


@pytest.mark.parametrize("colour", [(0.8, 0.2, 0.1), (0.1, 0.9, 0.3), (0.2, 0.1, 0.9), (1, 1, 1)])
def test_bt709_in_closed_form(colour: tuple[float, float, float]) -> None:
    image = torch.tensor(colour).view(3, 1, 1).expand(3, 4, 6)
    r, g, b = colour
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    expected = (16 + 219 * luma, 128 + 224 * (b - luma) / 1.8556, 128 + 224 * (r - luma) / 1.5748)
    planes = to_yuv420(image)
    assert planes.shape == (6, 6)
    flat = planes.ravel()
    for plane, value in zip((flat[:24], flat[24:30], flat[30:]), expected, strict=True):
        assert set(plane.tolist()) == {round(value)}


def test_converted_and_tagged(tmp_path: Path) -> None:
    images = frames(5)
    path = written(tmp_path, images)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (1, 1, 1, 1)
    video = open_video(path)
    assert len(video) == 5
    for index, image in enumerate(images):
        assert (video[index] - image).abs().mean() * 255 < 2


@pytest.mark.parametrize(
    "ticks",
    [[0, 1, 2, 3, 10], [0, 1001, 2002, 3003, 4004], [7, 3003, 3004, 60_000, 123_457]],
)
@pytest.mark.parametrize("rate", [1000, 30_000, 90_000])
def test_times_are_exact(tmp_path: Path, ticks: list[int], rate: int) -> None:
    times = [Fraction(tick, rate) for tick in ticks]
    end = times[-1] + Fraction(77, rate)
    images = frames(5)
    video = open_video(written(tmp_path, images, Timed(images, times, end)))
    assert video.timestamps == tuple(time - times[0] for time in times)
    assert video.end == end - times[0]


def test_a_source_with_variable_frame_rate_survives(tmp_path: Path) -> None:
    times = [Fraction(tick, 1000) for tick in (0, 33, 67, 100, 222, 223, 1000, 1111)]
    source = open_video(make(tmp_path / "vfr.mkv", pictures(8), times))
    with files.writing(tmp_path / "out.mp4") as file:
        encode((source[i] for i in range(8)), source, file)
    result = open_video(tmp_path / "out.mp4")
    assert result.timestamps == tuple(t - source.timestamps[0] for t in source.timestamps)


@pytest.mark.parametrize("count", [1, 2, 60])
def test_any_length(tmp_path: Path, count: int) -> None:
    assert len(open_video(written(tmp_path, frames(count)))) == count


def test_odd_sizes_are_padded_and_recorded(tmp_path: Path) -> None:
    images = frames(3, 75, 101)
    with files.writing(tmp_path / "odd.mp4") as file:
        record = encode(images, MemoryVideo(images), file)
    assert (record.size, record.padding) == ((76, 102), (1, 1))
    result = open_video(tmp_path / "odd.mp4")
    assert result.size == (76, 102)
    assert (result[0][:, :75, :101] - images[0]).abs().mean() * 255 < 2


def test_results_take_the_output_size(tmp_path: Path) -> None:
    images = frames(3, 90, 122)
    fitted = fit(MemoryVideo(images), 64, 64)
    assert (fitted.size, fitted.output_size) == ((64, 64), (64, 86))
    with files.writing(tmp_path / "out.mp4") as file:
        encode((fitted[i] for i in range(3)), fitted, file)
    assert open_video(tmp_path / "out.mp4").size == (64, 86)


def test_same_frames_same_bytes() -> None:
    images, results = frames(20), set()
    for _ in range(3):
        buffer = io.BytesIO()
        encode(images, MemoryVideo(images), buffer)
        results.add(buffer.getvalue())
    assert len(results) == 1


def test_the_sound_is_copied_whole(tmp_path: Path) -> None:
    path = make(tmp_path / "loud.mp4", pictures(50), sound=2.0)
    source = open_video(path)
    assert source.audio == path
    with files.writing(tmp_path / "out.mp4") as file:
        record = encode((source[i] for i in range(50)), source, file)
    assert record.audio == "copied"
    before, after = packets(path, "audio"), packets(tmp_path / "out.mp4", "audio")
    inside = [packet for packet in before if packet[0] < source.end]
    assert after == inside
    assert len(after) >= 30


def test_the_sound_follows_the_window(tmp_path: Path) -> None:
    path = make(tmp_path / "loud.mp4", pictures(50), sound=2.0)
    source = open_video(path, start=20, frames=20)
    with files.writing(tmp_path / "out.mp4") as file:
        encode((source[i] for i in range(20)), source, file)
    after = packets(tmp_path / "out.mp4", "audio")
    start, end, packet = Fraction(20, 25), Fraction(40, 25), Fraction(1024, 16_000)
    inside = [p for p in packets(path, "audio") if start - packet <= p[0] < end]
    assert [data for _, data in after] == [data for _, data in inside]
    shifts = {round(float(a[0] - b[0] + start), 3) for a, b in zip(after, inside, strict=True)}
    assert shifts == {0.0}
    assert open_video(tmp_path / "out.mp4").timestamps[0] == 0


@pytest.mark.parametrize(
    ("codec", "fate"),
    [("libopus", "copied"), ("adpcm_ms", "transcoded to AAC: mp4 does not hold adpcm_ms")],
)
def test_sound_that_mp4_may_not_hold(tmp_path: Path, codec: str, fate: str) -> None:
    name = "loud.mkv" if codec == "libopus" else "loud.avi"
    unit = Fraction(1, 25)
    path = make(tmp_path / name, pictures(25), unit=unit, sound=1.0, sound_codec=codec)
    source = open_video(path)
    with files.writing(tmp_path / "out.mp4") as file:
        record = encode((source[i] for i in range(25)), source, file)
    assert record.audio.startswith(fate)
    assert len(packets(tmp_path / "out.mp4", "video")) == 25


@pytest.mark.parametrize("count", [4, 6])
def test_a_wrong_number_of_frames_is_a_bug(tmp_path: Path, count: int) -> None:
    with (
        pytest.raises(ValueError, match="frames came"),
        files.writing(tmp_path / "out.mp4") as file,
    ):
        encode(frames(count), MemoryVideo(frames(5)), file)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_not_written(tmp_path: Path) -> None:
    images = frames(5)
    bad = [*images[:3], torch.full_like(images[0], float("nan")), images[4]]
    with pytest.raises(ValueError, match="frame 3 holds NaN"):
        encode(bad, MemoryVideo(images), io.BytesIO())


def test_a_failing_source_is_not_hidden(tmp_path: Path) -> None:
    def broken() -> Iterator[Tensor]:
        yield from frames(3)
        raise KeyError("the real cause")

    with pytest.raises(KeyError, match="the real cause"), files.writing(tmp_path / "o.mp4") as file:
        encode(broken(), MemoryVideo(frames(5)), file)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed(tmp_path: Path) -> None:
    noise = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(30)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ResourceError, match=r"out\.mp4: cannot be written"):
            written(tmp_path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_bad_settings() -> None:
    images = frames(2)
    with pytest.raises(ConfigError, match="received 52"):
        encode(images, MemoryVideo(images), io.BytesIO(), crf=52)
    times = [Fraction(0), Fraction(1, 2**31 - 1), Fraction(1, 1000)]
    with pytest.raises(InputError, match="ticks per second"):
        encode(images, Timed(images, times[:2], times[2]), io.BytesIO())


@pytest.mark.parametrize("rate", [1, 25, 1000, 90_000])
def test_how_long_a_frame_may_stay(rate: int) -> None:
    """What an mp4 cannot say is refused before anything is encoded; what it can say is kept."""
    images, unit = frames(2), rate
    while unit < 10_000:  # as FFmpeg counts
        unit *= 2
    most = (2**31 - 1) // unit * rate
    kept = io.BytesIO()
    encode(images, Timed(images, [Fraction(0), Fraction(1, rate)], Fraction(most, rate)), kept)
    with av.open(io.BytesIO(kept.getvalue())) as container:
        assert len([packet for packet in container.demux() if packet.size]) == 2
    for times in ([0, most + rate, most + rate + 1], [0, 1, most + rate + 1]):
        first, second, end = (Fraction(time, rate) for time in times)
        with pytest.raises(InputError, match=r"a frame of it stays for [\d.]+ hours"):
            Encoder(Timed(images, [first, second], end), io.BytesIO())

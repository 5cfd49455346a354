"""Whatever the sound of a source is, it is kept in some way, or left out with a word."""

from __future__ import annotations

import contextlib
import io
import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec import Codec

from rerender.codec import check_sound, encode, open_video
from tests.codec.making import make, pictures

UNIT = Fraction(1, 25)


def coders() -> list[str]:
    """Every encoder of sound there is."""
    found = []
    for name in sorted(av.codecs_available):
        try:
            codec = Codec(name, "w")
        except ValueError:  # it can only be decoded
            continue
        if codec.type == "audio":
            found.append(name)
    return found


def loud(path: Path, codec: str, layout: str = "mono", **more: Any) -> Path | None:
    """Half a second of a tone beside 13 pictures; None where no such file can be written.

    ``rate`` is in samples per second, ``delay`` in seconds, ``wave`` maps samples to samples.
    """
    rates = Codec(codec, "w").audio_rates or [48_000]
    rate = more.get("rate", 8000 if 8000 in rates else 48_000 if 48_000 in rates else rates[0])
    try:
        with av.open(str(path), "w") as out:
            video = out.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            sound = out.add_stream(codec, rate=rate, options={"strict": "-2"})
            sound.layout, video.codec_context.time_base = layout, UNIT
            sound.codec_context.open()
            for index, image in enumerate(pictures(13)):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
                frame.time_base, frame.pts = UNIT, index
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
            tone = np.sin(np.arange(rate // 2) / rate * 440 * 2 * np.pi).astype(np.float32) * 0.3
            tone = more.get("wave", lambda samples: samples)(tone)
            packed = np.repeat(tone, sound.codec_context.channels)[None]
            raw = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            raw.sample_rate, raw.time_base = rate, Fraction(1, rate)
            raw.pts = int(more.get("delay", 0) * rate)
            size = sound.codec_context.frame_size or 1024
            cutter = av.AudioResampler(sound.format, layout, rate, frame_size=size)
            for part in (*cutter.resample(raw), *cutter.resample(None)):
                out.mux(sound.encode(part))
            out.mux(sound.encode(None))
    except (av.error.FFmpegError, ValueError):
        return None
    return path


def result(path: Path) -> tuple[str, float, float]:
    """(fate, seconds of sound, its loudness as a root mean square) of a video written with it."""
    source, file = open_video(path, allow_truncated=True), io.BytesIO()
    fate = encode((source[i] for i in range(len(source))), source, file).audio
    file.seek(0)
    with av.open(file) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(source)
        if not container.streams.audio:
            return fate, 0, 0
    file.seek(0)
    with av.open(file) as container:
        frames = []
        for packet in container.demux(container.streams.audio[0]):
            with contextlib.suppress(av.error.FFmpegError):  # copied as it is, damage and all
                frames += packet.decode()
        change = av.AudioResampler("fltp")
        parts = [part.to_ndarray() for frame in frames for part in change.resample(frame)]
        samples = np.concatenate([part.astype(np.float64) for part in parts], 1)
        return fate, samples.shape[1] / frames[0].sample_rate, float(np.sqrt((samples**2).mean()))


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mov", "ts", "flv", "wmv"])
def test_every_kind_of_sound_there_is(tmp_path: Path, suffix: str) -> None:
    """None loses the run, and what can be decoded is heard."""
    tried, kept = 0, 0
    for codec in coders():
        if loud(tmp_path / f"{codec}.{suffix}", codec) is None:
            continue
        fate, seconds, loudness = result(tmp_path / f"{codec}.{suffix}")
        tried += 1
        assert fate.startswith(("copied", "transcoded to AAC: ", "left out: ", "none")), codec
        tried -= fate == "none"  # not every reader knows what its writer takes
        # Some writers give their own sound wrong times: what is out of the stretch is not kept.
        if 0.4 < seconds < 0.7:
            assert 0.03 < loudness < 0.3, codec  # codecs for speech are faint
            kept += 1
    assert tried >= 2
    assert kept >= tried / 2


@pytest.mark.parametrize(
    ("codec", "suffix", "layout", "rate"),
    [
        ("pcm_s16le", "mkv", "stereo", 48_000),
        ("pcm_s16le", "mkv", "mono", 12_345),
        ("pcm_s16le", "avi", "stereo", 192_000),
        ("pcm_f32le", "mkv", "5.1", 48_000),
        ("pcm_s16le", "mkv", "7.1", 48_000),
        ("pcm_s16le", "mkv", "3 channels", 48_000),
        ("pcm_s16le", "mkv", "quad", 44_100),
        ("pcm_u8", "avi", "mono", 4000),
    ],
)
def test_odd_rates_and_many_channels(
    tmp_path: Path, codec: str, suffix: str, layout: str, rate: int
) -> None:
    path = loud(tmp_path / f"odd.{suffix}", codec, layout, rate=rate)
    assert path is not None
    fate, seconds, loudness = result(path)
    assert fate.startswith(("copied", "transcoded to AAC"))
    assert 0.45 < seconds < 0.65
    assert 0.05 < loudness < 0.4


def test_it_is_known_and_said_before_a_frame_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = loud(tmp_path / "pcm.mkv", "pcm_s16le", "stereo", rate=48_000)
    assert path is not None
    fate = check_sound(open_video(path))
    words = "transcoded to AAC: mp4 does not take this pcm_s16le (invalid argument)"
    assert fate == result(path)[0] == words
    assert set(caplog.messages) == {f"{path}: its sound is {words}"}  # shown once in a run
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert check_sound(open_video(make(tmp_path / "a.mp4", pictures(9), sound=1.0))) == "copied"
        assert check_sound(open_video(make(tmp_path / "b.mp4", pictures(3)))) == "none"
    assert not caplog.messages


def test_sound_that_is_no_number(tmp_path: Path) -> None:
    def broken(samples: np.ndarray) -> np.ndarray:
        samples[100:200], samples[300], samples[400] = np.nan, np.inf, 1e30
        return samples

    path = loud(tmp_path / "nan.mkv", "pcm_f32le", "stereo", rate=48_000, wave=broken)
    assert path is not None
    fate, seconds, _ = result(path)
    assert fate.startswith("transcoded")
    assert seconds > 0.4


def test_a_late_start_stays_late(tmp_path: Path) -> None:
    path = loud(tmp_path / "late.mkv", "pcm_s16le", rate=48_000, delay=0.25)
    assert path is not None
    source, file = open_video(path), io.BytesIO()
    encode((source[i] for i in range(len(source))), source, file)
    file.seek(0)
    with av.open(file) as container:
        begun = next(f for f in container.decode(audio=0) if np.abs(f.to_ndarray()).max() > 0.05)
        assert begun.time == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("codec", "suffix"), [("flac", "mkv"), ("tta", "mkv"), ("aac", "ts")])
def test_damaged_sound_never_loses_the_run(tmp_path: Path, codec: str, suffix: str) -> None:
    path = loud(tmp_path / f"whole.{suffix}", codec, rate=48_000)
    assert path is not None
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        found = [p for p in container.demux(audio=0) if p.size > 40]
    for packet in found[2:-1]:
        place = data.find(bytes(packet)[20:40])
        if place > 0:
            data[place : place + 10] = bytes(10)
    damaged = tmp_path / f"damaged.{suffix}"
    damaged.write_bytes(data)
    assert result(damaged)[0].startswith(("copied", "transcoded", "left out"))


def test_second_streams_of_sound_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "two.mkv"
    with (
        av.open(str(make(tmp_path / "one.mp4", pictures(25), sound=1.0))) as source,
        av.open(str(path), "w") as out,
    ):
        copies = {s.index: [out.add_stream_from_template(s)] for s in source.streams}
        tone = source.streams.audio[0]
        copies[tone.index].append(out.add_stream_from_template(tone))
        for packet in source.demux():
            for copy in copies[packet.stream_index] if packet.size else ():
                packet.stream, unit = copy, packet.time_base
                out.mux(packet)
                packet.time_base = unit
    check_sound(open_video(path))
    (said,) = caplog.messages
    assert "has 2 streams of sound; stream 1 (aac) is kept, left out: 2 (aac)" in said

"""Shards: every clip in exactly one, evenly, and nothing moves when clips are added."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.config.compose import literal, preflight
from rerender.config.job import key_of
from rerender.data.demo import Demo
from rerender.data.folder import Folder
from rerender.data.shard import share
from rerender.errors import ConfigError
from rerender.jobs.sweep import jobs_of
from tests.codec.making import make, pictures


@given(st.integers(1, 200), st.data())
def test_every_item_is_in_exactly_one_shard_and_shards_are_even(
    count: int, data: st.DataObject
) -> None:
    parts = data.draw(st.integers(1, count))
    shards = [share(range(count), f"{part}/{parts}") for part in range(parts)]
    assert sorted(item for shard in shards for item in shard) == list(range(count))
    sizes = {len(shard) for shard in shards}
    assert max(sizes) - min(sizes) <= 1
    assert all(shard == sorted(shard) for shard in shards), "order is kept"


@given(st.integers(1, 100), st.integers(0, 20), st.data())
def test_items_that_are_added_at_the_end_move_no_other(
    count: int, more: int, data: st.DataObject
) -> None:
    parts = data.draw(st.integers(1, count))
    for part in range(parts):
        before, after = (share(range(n), f"{part}/{parts}") for n in (count, count + more))
        assert after[: len(before)] == before


@pytest.mark.parametrize(
    "shard",
    ["", "1", "8/8", "9/8", "-1/8", "0/0", "1/2/3", "a/b", "0 / 8", "٠/٨", "0/8\n", "1e1/9"],
)
def test_what_is_no_shard_is_refused(shard: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.shard: is not one of the shards"):
        share(range(100), shard)
    with pytest.raises(ConfigError, match=r"data\.shard"):
        Demo(seeds=tuple(range(100)), shard=shard)
    with pytest.raises(ConfigError, match=r"data\.shard"):
        Folder(Path("never opened"), shard=shard)


def test_more_shards_than_clips_are_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="holds none of the 16 clips"):
        jobs_of(preflight(["data=demo_study", "data.shard=15/17,16/17"]).jobs)


def test_the_shards_of_demo_clips_are_jobs_of_their_own() -> None:
    jobs = preflight(literal(["data=demo_study", "data.shard=0/3,1/3,2/3"])).jobs
    assert len({key_of(job) for job in jobs}) == 3
    names = [[clip.name for clip in job.data.clips()] for job in jobs_of(jobs)]
    assert [len(shard) for shard in names] == [6, 5, 5]
    assert len({name for shard in names for name in shard}) == 16
    assert all(name.startswith("demo-slow-") for shard in names for name in shard)


def test_a_shard_of_a_folder_opens_its_own_clips_only(tmp_path: Path) -> None:
    for index in range(5):
        make(tmp_path / f"clip{index}.mp4", pictures(3))
    (tmp_path / "clip10.mp4").write_text("damaged")
    (tmp_path / "prompts.csv").write_text("name,prompt\nclip0,oil\nclip10,ink\n")
    shards = [
        Folder(tmp_path, "photo", prompts=tmp_path / "prompts.csv", shard=f"{part}/3")
        for part in range(2)
    ]
    names = [[(clip.name, clip.prompt) for clip in shard.clips()] for shard in shards]
    assert names == [
        [("clip0", "oil"), ("clip3", "photo")],
        [("clip1", "photo"), ("clip4", "photo")],
    ]

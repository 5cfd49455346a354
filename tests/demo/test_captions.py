"""The demo world's language reads back what it writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.demo import captions
from rerender.demo.captions import BACKGROUNDS, COLOURS, STYLES, SUBJECTS, Sentence
from rerender.demo.world import MOTIONS, World

NOUN = st.tuples(st.sampled_from(COLOURS), st.sampled_from(SUBJECTS))
SENTENCES = st.builds(
    Sentence,
    st.lists(NOUN, min_size=1, max_size=4).map(tuple),
    st.sampled_from(BACKGROUNDS),
    st.none() | st.sampled_from(STYLES),
)


@given(SENTENCES)
def test_reading_undoes_writing(sentence: Sentence) -> None:
    assert captions.read(captions.write(sentence)) == sentence


@given(SENTENCES)
def test_every_word_written_is_in_the_vocabulary(sentence: Sentence) -> None:
    spoken = captions.write(sentence).replace(",", " ,").split()
    assert set(spoken) <= set(captions.words())


def test_examples() -> None:
    said = captions.read("A red ball,  and a blue fish over the sea, pixel art.")
    assert said == Sentence((("red", "ball"), ("blue", "fish")), "sea", "pixel art")
    nouns = (("red", "ball"), ("blue", "fish"), ("white", "car"))
    text = "a red ball, a blue fish and a white car over the city"
    assert captions.write(Sentence(nouns, "city", None)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a ball",
        "a red ball",
        "red ball over the sea",
        "a red ball over the moon",
        "a red ball over the sea, oil, neon",
        "a red ball over the sea over the city",
    ],
)
def test_what_is_not_said_in_the_language_is_not_read(text: str) -> None:
    assert captions.read(text) is None


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_world_says_what_it_shows(motion: str) -> None:
    for seed in range(20):
        world = World(seed, motion=motion)
        assert captions.read(world.caption) == world.sentence
        assert len({colour for colour, _ in world.sentence.nouns}) == len(world.sentence.nouns)

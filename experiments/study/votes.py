"""Vote files: each is taken whole or refused by name with the reason."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.study import invitations
from experiments.study.design import StudyPair
from rerender import files
from rerender.errors import InputError
from rerender.run_folder import read_json

KEY, KEY_FORMAT = "key.json", "rerender-study-key/1"
_KINDS = {"study": str, "secret": str, "questions": dict, "methods": list, "clips": list}
_SIDES = ("left", "right")


@dataclass(frozen=True)
class StudyKey:
    """What the key of a study says.

    Attributes:
        study: name of the study.
        title: head of its page.
        questions: id -> text.
        methods: names.
        clips: name, prompt and what was made of it: method -> seed and sha256.
        plans: the pairings of each person.
        codes: the invitation of each person.
    """

    study: str
    title: str
    questions: Mapping[str, str]
    methods: tuple[str, ...]
    clips: tuple[Mapping[str, Any], ...]
    plans: tuple[tuple[StudyPair, ...], ...]
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Ballot:
    """The votes of one person.

    Attributes:
        path: the file.
        person: number of the person, from 0.
        votes: number of the trial, question, side and milliseconds, in order.
    """

    path: Path
    person: int
    votes: tuple[invitations.Vote, ...]


def read_key(path: Path) -> StudyKey:
    """The key of a study.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    found = read_json(path)
    try:
        if found["format"] != KEY_FORMAT:
            raise ValueError(found["format"])
        if not all(isinstance(found[name], kind) for name, kind in _KINDS.items()):
            raise ValueError("a value of another kind")
        plans = tuple(tuple(StudyPair(**pairing) for pairing in plan) for plan in found["plans"])
        codes = tuple(invitations.code(found["secret"], number) for number in range(len(plans)))
        methods, clips = (tuple(found[name]) for name in ("methods", "clips"))
        title, questions = str(found["title"]), found["questions"]
        return StudyKey(found["study"], title, questions, methods, clips, plans, codes)
    except (KeyError, TypeError, ValueError) as error:
        cure = "name the key.json of the study: --key FILE"
        raise InputError(path, f"is no key of a study ({error})", cure) from error


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Vote files: those named, and every .json of the folders named.

    Raises:
        InputError: there is none, or a path is not there.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [file for file in files.children(path) if file.suffix == ".json"]
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(path, "is not there", "name vote files or a folder of them")
    if not found:
        said = ", ".join(map(str, paths))
        raise InputError(said, "holds no vote files", "put the .json files that people sent there")
    return found


def read_all(paths: Sequence[Path], key: StudyKey) -> tuple[list[Ballot], list[InputError]]:
    """The ballots of all files, and why others are refused.

    Of several files of one person all are refused: which of them counts is not ours to say.
    """
    ballots: list[Ballot] = []
    refused: list[InputError] = []
    for path in paths:
        try:
            ballots.append(read(path, key))
        except InputError as error:
            refused.append(error)
    by_person: dict[int, list[Ballot]] = {}
    for ballot in ballots:
        by_person.setdefault(ballot.person, []).append(ballot)
    for same in by_person.values():
        for ballot in same if len(same) > 1 else ():
            others = ", ".join(other.path.name for other in same if other is not ballot)
            problem = f"a second file of the same person ({others})"
            refused.append(InputError(ballot.path, problem, "keep the one that counts"))
    return [same[0] for same in by_person.values() if len(same) == 1], refused


def read(path: Path, key: StudyKey) -> Ballot:
    """One vote file.

    Raises:
        InputError: it is damaged, of another study, of nobody who was invited, changed after it was
            saved, or not complete.
    """
    found = read_json(path)
    votes = _votes(found, path)
    if found["study"] != key.study:
        cure = "take it away, or name the key of its study: --key FILE"
        raise InputError(path, f"is of another study ({found['study'][:40]!r})", cure)
    people = {invitations.person_id(code): number for number, code in enumerate(key.codes)}
    person = people.get(found["person"])
    cure = "take it away, and ask who sent it"
    if person is None:
        raise InputError(path, "is of nobody who was invited (forged)", cure)
    seal = invitations.seal(key.codes[person], key.study, votes)
    if not hmac.compare_digest(seal.encode(), found["seal"].encode(errors="replace")):
        raise InputError(
            path, "does not fit its seal (changed after it was saved, or forged)", cure
        )
    trials = range(len(key.plans[person]))
    expected = [(trial, question) for trial in trials for question in key.questions]
    given = [(trial, question) for trial, question, *_ in votes]
    if given != expected:
        kind = "half" if given == expected[: len(given)] else "not what was asked"
        problem = f"is {kind}: {len(given)} of {len(expected)} votes"
        raise InputError(path, problem, "ask for the file that the page saves at its end")
    return Ballot(path, person, tuple(votes))


def _votes(found: Mapping[str, Any], path: Path) -> list[invitations.Vote]:
    cure = "ask for the file again: the page saves it at its end"
    if found.get("format") != invitations.FORMAT:
        raise InputError(path, f"is no vote file (format {str(found.get('format'))[:40]!r})", cure)
    votes = found.get("votes")
    whole = all(isinstance(found.get(name), str) for name in ("study", "person", "seal"))
    if not whole or not isinstance(votes, list) or not all(map(_is_vote, votes)):
        raise InputError(path, "is a damaged vote file", cure)
    return [(vote[0], vote[1], vote[2], vote[3]) for vote in votes]


def _is_vote(vote: Any) -> bool:
    if not isinstance(vote, list) or len(vote) != 4:
        return False
    trial, question, side, spent = vote
    numbers = all(isinstance(n, int) and not isinstance(n, bool) for n in (trial, spent))
    return numbers and isinstance(question, str) and side in _SIDES and min(trial, spent) >= 0

"""One short task of distill/practice.py, and the ways in which all of them are asked."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from distill.practice_words import ASKED


class Task(NamedTuple):
    """What is asked and its answer, which follows after a space."""

    prompt: str
    answer: str


def shuffled(rng: Random, words: Sequence[str]) -> list[str]:
    """The words in random order."""
    return rng.sample(words, len(words))


def asked(text: str, question: str, answer: str, rng: Random) -> Task:
    """The question after the text, in one of ASKED."""
    return Task(text + rng.choice(ASKED).format(q=question), answer)

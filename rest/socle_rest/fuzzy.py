"""Approximate matching of names, as clients see it in the hints of PGRST200, PGRST202 and PGRST205.

The measure is that of the FuzzySet family of libraries: candidates share 3-grams (2-grams, if no 3-gram match is good
enough) with the word, the fifty with the highest cosine similarity are kept, and their score is the normalised
Levenshtein distance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_SCORE = 0.33
_GRAM_SIZES = (3, 2)
_KEPT = 50


class FuzzySet:
    """A set of words that can be asked for the nearest of them. Words equal but for case count once."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words: dict[str, str] = {}
        for word in words:
            self._words.setdefault(word.lower(), word)
        self._longest = max(map(len, self._words), default=0)
        self._indexes = {size: _index(self._words, size) for size in _GRAM_SIZES}

    def matches(self, word: str, min_score: float = DEFAULT_SCORE) -> list[tuple[float, str]]:
        """(score between 0 and 1, word of the set), best first; a word of the set itself has exactly 1."""
        key = word.lower()
        if key in self._words:
            return [(1.0, self._words[key])]
        if len(key) > self._longest and not _can_reach(min_score, len(key), self._longest):
            return []
        for size in _GRAM_SIZES:
            if found := self._matches(key, size, min_score):
                return found
        return []

    def nearest(self, word: str, min_score: float = DEFAULT_SCORE) -> str | None:
        """The best match, or None."""
        found = self.matches(word, min_score)
        return found[0][1] if found else None

    def _matches(self, key: str, size: int, min_score: float) -> list[tuple[float, str]]:
        postings, norms = self._indexes[size]
        dots: Counter[str] = Counter()
        for gram, count in _grams(key, size).items():
            for entry, times in postings.get(gram, ()):
                dots[entry] += count * times
        # the length of the word's own vector is the same for all, so it does not change the order
        nearest = sorted(dots, key=lambda entry: -dots[entry] / norms[entry])[:_KEPT]
        alike = (entry for entry in nearest if _can_reach(min_score, len(key), len(entry)))
        scored = sorted(((_similarity(key, entry), entry) for entry in alike), key=lambda pair: -pair[0])
        return [(score, self._words[entry]) for score, entry in scored if score >= min_score]


def _index(words: Iterable[str], size: int) -> tuple[dict[str, list[tuple[str, int]]], dict[str, float]]:
    """For each gram the words that have it and how often, and the length of each word's vector."""
    postings: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    norms: dict[str, float] = {}
    for word in words:
        grams = _grams(word, size)
        norms[word] = sqrt(sum(count * count for count in grams.values()))
        for gram, count in grams.items():
            postings[gram].append((word, count))
    return dict(postings), norms


def _grams(word: str, size: int) -> Counter[str]:
    text = "-" + "".join(char for char in word if char.isalnum() or char.isspace() or char == ",") + "-"
    return Counter(text[start : start + size] for start in range(len(text) - size + 1))


def _can_reach(min_score: float, one: int, other: int) -> bool:
    """Whether words of these lengths can be as alike as that: each surplus character is a difference. Spares the long
    comparison, which would keep everybody waiting for a name of many thousand characters."""
    return min(one, other) >= min_score * max(one, other) - 1e-6


def _similarity(one: str, other: str) -> float:
    """1 for equal words, 0 for words without anything in common: 1 - Levenshtein / length of the longer."""
    longest = max(len(one), len(other))
    return 1.0 if not longest else 1 - _levenshtein(one, other) / longest


def _levenshtein(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for line, left in enumerate(one, 1):
        diagonal, row[0] = row[0], line
        for column, right in enumerate(other, 1):
            above = row[column]
            row[column] = min(above + 1, row[column - 1] + 1, diagonal + (left != right))
            diagonal = above
    return row[-1]

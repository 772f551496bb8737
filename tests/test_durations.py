from __future__ import annotations

import pytest

from corral.durations import parse_duration, quoted, words_for
from corral.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("300ms", 0.3), ("0", 0), ("-1s", -1),
     ("+2s", 2), ("1.5h", 5400), (".5s", 0.5), ("10m0s", 600), ("1µs", 1e-6)],
)  # fmt: skip
def test_a_duration_means_what_go_says(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("10", 'time: missing unit in duration "10"'),
        ("abc", 'time: invalid duration "abc"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("", 'time: invalid duration ""'),
        (".", 'time: invalid duration "."'),
        ("".join(["-"]), 'time: invalid duration "-"'),
    ],
)
def test_a_bad_duration_is_refused_in_gos_words(text: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_duration(text)
    assert str(refused.value) == error


def test_quoting_escapes_what_would_end_the_quote() -> None:
    assert quoted('a"b\\c\n') == '"a\\"b\\\\c\\n"'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (150, "2 minutes"),
        (3600, "About an hour"), (3600 * 3, "3 hours"), (3600 * 47, "47 hours"), (86400 * 2, "2 days"), (86400 * 13, "13 days"),
        (86400 * 35, "5 weeks"), (86400 * 90, "3 months"), (86400 * 365 * 3, "3 years"),
    ],
)  # fmt: skip
def test_a_time_ago_is_told_in_the_words_of_ollamas_lists(seconds: float, words: str) -> None:
    assert words_for(seconds) == words

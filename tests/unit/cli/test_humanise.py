import pytest

from enxame.cli.humanise import ago, binary_size_words, capital, duration_words, natural_key, shorten, size_words

HOUR = 3600
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * 60, "59 minutes"),
        (HOUR, "About an hour"),
        (89 * 60, "About an hour"),
        (91 * 60, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY, "2 months"),
        (90 * DAY, "3 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations_read_as_docker_says_them(seconds, words):
    assert duration_words(seconds) == words


def test_ago_counts_from_the_given_now():
    assert ago(100.0, 105.0) == "5 seconds ago"


@pytest.mark.parametrize(
    ("size", "precision", "words"),
    [
        (0, 3, "0B"),
        (999, 3, "999B"),
        (1000, 3, "1kB"),
        (1982256, 3, "1.98MB"),
        (1982256, 4, "1.982MB"),
        (38_200_000, 3, "38.2MB"),
    ],
)
def test_decimal_sizes(size, precision, words):
    assert size_words(size, precision) == words


@pytest.mark.parametrize(("size", "words"), [(0, "0B"), (1024, "1KiB"), (25276518400, "23.54GiB"), (20 << 20, "20MiB")])
def test_binary_sizes(size, words):
    assert binary_size_words(size) == words


def test_shorten_ends_in_an_ellipsis_only_when_cut():
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"


def test_numbers_in_names_sort_as_numbers():
    assert sorted(["n10", "n2", "n1"], key=natural_key) == ["n1", "n2", "n10"]


def test_capital_changes_first_letters_only():
    assert capital("hello wORLD") == "Hello WORLD"

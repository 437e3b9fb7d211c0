import pytest

from enxame.cli.humanise import ago, binary_size_words, capital, natural_key, shorten, size_words


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

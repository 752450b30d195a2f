"""Names of pools, racks, labels and nodes: what is one, and the words for what is none."""

from __future__ import annotations

import pytest

from shunter.domain.words import check_labels, check_word, read_pairs
from shunter.errors import InvalidInput


@pytest.mark.parametrize("word", ["a", "A100", "zone-1", "r7.row_2", "0", "x" * 63])
def test_a_word_is_short_and_plain(word: str) -> None:
    assert check_word("pool", word) == word


@pytest.mark.parametrize("word", ["", "-a", ".a", "a b", "a,b", "a=b", "a/b", "é", "x" * 64, "a\n", "٣"])
def test_anything_else_is_refused_with_field_value_and_form(word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_word("pool", word)
    assert caught.value.field == "pool"
    assert caught.value.message.startswith(
        "pool: expected 1 to 63 letters, digits, '.', '_' and '-', the first a letter or digit, got "
    )


def test_labels_are_sorted_so_that_equal_requests_are_equal() -> None:
    assert list(check_labels({"zone": "a", "disk": "nvme"})) == ["disk", "zone"]


def test_labels_are_bounded_and_each_is_named() -> None:
    assert len(check_labels({f"k{number}": "v" for number in range(32)})) == 32
    with pytest.raises(InvalidInput, match=r"^labels: expected at most 32, got 33"):
        check_labels({f"k{number}": "v" for number in range(33)})
    with pytest.raises(InvalidInput, match=r"^labels\.zone: expected 1 to 63 .* got 'a b'"):
        check_labels({"zone": "a b"})
    with pytest.raises(InvalidInput, match=r"^labels: expected 1 to 63 .* got 'zo ne'"):
        check_labels({"zo ne": "a"})


def test_pairs_come_one_by_one_or_with_commas() -> None:
    assert read_pairs(["zone=a", "disk=nvme, gen=4"]) == {"zone": "a", "disk": "nvme", "gen": "4"}
    assert read_pairs(["zone=a", "zone=a"]) == {"zone": "a"}
    assert read_pairs([]) == {}


@pytest.mark.parametrize("text", ["zone", "=a", "zone=", "", "zone=a,"])
def test_a_pair_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^label: expected NAME=VALUE, got .*; write for example zone=a$"):
        read_pairs([text])


def test_a_name_has_one_value() -> None:
    with pytest.raises(InvalidInput, match="label: zone is given as 'a' and as 'b'; give it once"):
        read_pairs(["zone=a", "zone=b"])

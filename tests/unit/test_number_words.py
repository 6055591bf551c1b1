"""Numbers with their nouns."""

from vidclf.number_words import counted


def test_one_is_singular_and_every_other_number_plural() -> None:
    assert [counted(number, "video") for number in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]
    assert counted(1, "link that leads nowhere", "links that lead nowhere") == "1 link that leads nowhere"
    assert counted(3, "link that leads nowhere", "links that lead nowhere") == "3 links that lead nowhere"

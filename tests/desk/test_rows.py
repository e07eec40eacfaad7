"""The file of a batch: what spreadsheets write is read; what cannot be is told with its line; nothing is guessed."""

from __future__ import annotations

import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_agent.card.card_number import card_number
from terminal_agent.desk import rows
from terminal_agent.desk.rows import COLUMNS, Row, read_rows
from terminal_agent.errors import AgentError, ErrorCode

NUMBER = card_number("739803653567122")


def read(text: str, encoding: str = "utf-8") -> list[tuple[str | None, str | None, str | None, str | None]]:
    """What is asked for in each row, all of which must be good."""
    requests = [row.request for row in read_rows(text.encode(encoding))]
    return [(r.phone, r.name, r.tier, r.card_no) for r in requests if r is not None]


def problems(text: str) -> dict[int, str]:
    return {row.number: row.problem.message for row in read_rows(text.encode()) if row.problem}


def refused(content: bytes) -> str:
    with pytest.raises(AgentError) as caught:
        read_rows(content)
    assert caught.value.code is ErrorCode.INVALID_INPUT
    return caught.value.message


SARA = ("09125554433", "سارا", "gold", NUMBER)


@pytest.mark.parametrize("separator", [",", ";", "\t", "؛"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write_is_read(separator: str, end: str, encoding: str) -> None:
    lines = [("phone", "name", "tier", "card_no"), SARA, ("", "", "", ""), ("09125554434", "", "", "")]
    text = end.join(separator.join(line) for line in lines)
    assert read(text, encoding) == [SARA, ("09125554434", None, None, None)]


@pytest.mark.parametrize(
    "text",
    [
        "card_no,Phone , NAME,tier\n7398-0365-3567-1225,۰۹۱۲۵۵۵۴۴۳۳,سارا,gold\n",
        'sep=;\r\n"phone";"name";"tier";"card_no";\r\n" +98 912 555 4433 ";"سارا";gold;"7398 0365 3567 1225";\r\n',
        "\nphone,name,tier,card_no,,\n\u202a9125554433\u202c,سارا,gold,٧٣٩٨٠٣٦٥٣٥٦٧١٢٢٥,,\n",
    ],
)
def test_columns_digits_and_marks_come_as_they_come(text: str) -> None:
    assert read(text) == [(*SARA[:3], "7398036535671225")]


def test_only_the_phone_is_needed() -> None:
    assert read("phone\n09125554433\n") == [("09125554433", None, None, None)]
    assert read("phone,name,tier\n09125554433\n") == [("09125554433", None, None, None)]
    assert read_rows(b"phone\n") == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no column phone"),
        (b"name,tier\nSara,gold\n", "no column phone"),
        (b"phone,nmae\n0912,Sara\n", "not known: 'nmae'"),
        (b"phone,name,phone\n1,2,3\n", "a column twice: phone"),
        (b"09125554433,Sara\n", "not known: '09125554433', 'sara'"),
        ("phone,name\n09125554433,سارا\n".encode("cp1256"), "not in UTF-8"),
        ("phone\n1\n".encode("utf-16-le"), "no text"),
        (b"\xff\xfep", "not in UTF-8"),
        (b"PK\x03\x04\x00\x00", "no text"),
        (b'phone,name\n09125554433,"Sara\n09125554434,Ali\n', "line 3: unexpected end"),
        (b'phone,name\n09125554433,"Sa"ra\n', "line 2:"),
        (b"phone,name\n1," + b"x" * 200_000 + b"\n", "line 2: field larger"),
    ],
)
def test_a_file_that_cannot_be_read_whole_is_refused_whole(content: bytes, why: str) -> None:
    assert why in refused(content)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (",Sara,,", "it has no phone"),
        ("0912,,,", "7 to 15 digits"),
        ("9.12556E+09,,,", "digits only"),
        ("09125554433,,,7398036535671226", "no card number"),
        ("09125554433,,,7.39804E+15", "no card number"),
        ("09125554433," + "x" * 101 + ",,", "the name has 1 to 100 characters"),
        ("09125554433,Sa\x07ra,,", "cannot be printed"),
        ('09125554433,"Sara\nAli",,', "cannot be printed"),
        ("09125554433,Sara,gold,,surplus", "more cells than the header"),
        ("+989125554400,,,", "the same phone stands in row 1"),
        (f"09125554433,,,{NUMBER}", "the same card_no stands in row 1"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_stops_no_other(row: str, why: str) -> None:
    text = f"phone,name,tier,card_no\n09125554400,,,{NUMBER}\n\n{row}\n09125554499,,,\n"
    found = problems(text)
    assert list(found) == [2]
    assert found[2].startswith("line ")
    assert why in found[2]
    assert [row.number for row in read_rows(text.encode())] == [1, 2, 3]


def test_the_line_is_the_files_and_the_row_counts_people() -> None:
    assert problems("phone\n\n\n09125554433\n\n0912\n") == {2: "line 6: a telephone number has 7 to 15 digits"}


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_ROWS", 2)
    assert len(read_rows(b"phone\n09125554431\n\n09125554432\n")) == 2
    assert "more than 2 rows" in refused(b"phone\n09125554431\n09125554432\n09125554433\n")
    monkeypatch.setattr(rows, "MAX_FILE_BYTES", 20)
    assert "larger than" in refused(b"phone\n09125554431\n\n09125554432\n")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_do_more_than_refuse(content: bytes) -> None:
    for beginning in (b"", b"phone\n", b"phone;name;tier;card_no\n"):
        found: list[Row] = []
        with suppress(AgentError):
            found = read_rows(beginning + content)
        assert [row.number for row in found] == list(range(1, len(found) + 1))
        assert all((row.request is None) is (row.problem is not None) for row in found)


_PERSON = st.tuples(
    st.integers(0, 10**9 - 1).map(lambda n: f"09{n:09d}"),
    st.none() | st.from_regex(r"[A-Za-zابپتسشم\",;]{1,20}", fullmatch=True),
    st.none() | st.sampled_from(["gold", "silver"]),
    st.none() | st.integers(10**14, 10**15 - 1).map(lambda n: card_number(str(n))),
)


@given(
    st.lists(_PERSON, max_size=8, unique_by=(lambda p: p[0], lambda p: p[3] or p[0])),
    st.permutations(range(4)),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8-sig", "utf-16"]),
)
def test_what_a_spreadsheet_was_given_is_asked_for(
    people: list[tuple[str | None, ...]], order: list[int], separator: str, encoding: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow([COLUMNS[place] for place in order])
    writer.writerows([person[place] for place in order] for person in people)
    assert read(text.getvalue(), encoding) == people

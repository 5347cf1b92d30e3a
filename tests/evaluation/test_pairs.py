from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.evaluation import faces
from inception_resnet_keras.evaluation.faces import Face, Pair, format_pairs, parse_pairs, read_pairs

# The first lines of either kind of LFW's own file.
LFW = """2\t1
Abel_Pacheco\t1\t4
Abdel_Madi_Shabneh\t1\tDean_Barker\t1
Akhmed_Zakayev\t1\t3
Abdul_Rahman\t1\tPortia_de_Rossi\t1
"""

people = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1)
people = people.filter(lambda name: not name.startswith("."))
numbers = st.integers(1, 99_999)


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Pair], int, int]:
    folds, each = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    found = []
    for fold in range(folds):
        for _ in range(each):
            person = draw(people)
            first, second = draw(st.lists(numbers, min_size=2, max_size=2, unique=True))
            found.append(Pair(fold, Face(person, first), Face(person, second)))
        for _ in range(each):
            one, other = draw(st.lists(people, min_size=2, max_size=2, unique=True))
            found.append(Pair(fold, Face(one, draw(numbers)), Face(other, draw(numbers))))
    return found, folds, each


def test_lfws_lines() -> None:
    found = parse_pairs(LFW, "pairs.txt")
    assert [pair.fold for pair in found] == [0, 0, 1, 1]
    assert [pair.same for pair in found] == [True, False, True, False]
    assert [str(face) for face in found[0][1:]] == ["Abel_Pacheco_0001", "Abel_Pacheco_0004"]
    assert found[3].second == Face("Portia_de_Rossi", 1)
    development = "1\nA\t1\t2\nA\t1\tB\t1\n"  # its sets have one number: the pairs of each kind of their only fold
    assert parse_pairs(development, "pairsDevTest.txt") == [(0, ("A", 1), ("A", 2)), (0, ("A", 1), ("B", 1))]
    assert parse_pairs(LFW.replace("\t", "  ").replace("\n", "\r\n"), "pairs.txt") == found


@given(file=files(), gaps=st.booleans())
def test_what_is_written_is_read_again(file: tuple[list[Pair], int, int], gaps: bool) -> None:
    text = format_pairs(*file)
    assert parse_pairs(text.replace("\n", "\r\n\n") if gaps else text, "x") == file[0]


@given(text=st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InputError):
        assert parse_pairs(text, "x")


@given(file=files(), data=st.data())
def test_a_line_lost_or_moved_is_refused(file: tuple[list[Pair], int, int], data: st.DataObject) -> None:
    lines = format_pairs(*file).splitlines()
    number = data.draw(st.integers(1, len(lines) - 1))
    with pytest.raises(InputError, match="x: has"):
        parse_pairs("\n".join(lines[:number] + lines[number + 1 :]), "x")
    found, folds, each = file
    with pytest.raises(InputError, match="expected a pair as name"):
        parse_pairs(
            "\n".join([lines[0], *lines[1 + each : 1 + 2 * each], *lines[1 : 1 + each], *lines[1 + 2 * each :]]), "x"
        )
    assert len(found) == 2 * folds * each


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("ten\t300\n", "begins with 'ten"),
        ("1\t2\t3\n", "begins with"),
        ("0\t1\n", "at least one fold"),
        ("9999999999\t1\n", "begins with"),
        ("999999999\t999999999\n", "has 0 pairs"),
        ("-1\t1\n", "begins with"),
        ("1\t1\na\t1\t0\na\t1\tb\t1", "line 2: '0' is not the number of a picture"),
        ("1\t1\na\t1\t²\na\t1\tb\t1", "line 2: '²' is not the number of a picture"),
        ("1\t1\na\t1\t1\na\t1\tb\t1", "line 2: pairs a_0001 with itself"),
        ("1\t1\na\t1\t2\na\t1\ta\t2", "line 3: has the same person twice"),
        ("1\t1\n../a\t1\t2\na\t1\tb\t1", "line 2: '../a' is not a valid name"),
        ("1\t1\n..\t1\t2\na\t1\tb\t1", "is not a valid name"),
        ("1\t1\n\t1\t2\na\t1\tb\t1", "line 2"),
    ],
)
def test_damaged_files_are_refused_by_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_pairs(text, "pairs.txt")


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pairs.txt"
    with pytest.raises(InputError, match="No such file"):
        read_pairs(path)
    path.write_bytes(b"\xff\xfe1\x00")
    with pytest.raises(InputError, match="zero byte, so it is not a text"):
        read_pairs(path)
    path.write_text(LFW, encoding="utf-8")
    assert len(read_pairs(path)) == 4
    monkeypatch.setattr(faces, "LARGEST", 10)
    with pytest.raises(InputError, match="this is not a file of pairs"):
        read_pairs(path)

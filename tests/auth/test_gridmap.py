import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.gridmap import GridMap, parse, problems
from gateway.errors import ConfigError


def grid_map(tmp_path: Path, text: str) -> GridMap:
    path = tmp_path / "grid-mapfile"
    path.write_text(text, encoding="utf-8")
    return GridMap(path)


@pytest.mark.parametrize(
    ("line", "subject", "accounts"),
    [
        ('"/C=PL/O=X/CN=Ann" ann', "/C=PL/O=X/CN=Ann", ("ann",)),
        ('"/C=PL/O=X/CN=Ann Lee" ann,ann2', "/C=PL/O=X/CN=Ann Lee", ("ann", "ann2")),
        ('  "/C=PL/O=X/CN=Ann"\t ann , ann2  \r', "/C=PL/O=X/CN=Ann", ("ann", "ann2")),
        ("/C=PL/O=X/CN=Ann ann", "/C=PL/O=X/CN=Ann", ("ann",)),
        ('"/C=PL/O=X/CN=Ann \\"A\\" Lee" ann', '/C=PL/O=X/CN=Ann "A" Lee', ("ann",)),
        ('"/C=PL/O=X/CN=\\x41nn" ann', "/C=PL/O=X/CN=Ann", ("ann",)),
        ('"/C=PL/O=X/CN=J\\xc3\\xB3zef" jozef', "/C=PL/O=X/CN=J\\xC3\\xB3zef", ("jozef",)),
        ('"/C=PL/O=X/CN=Józef" jozef', "/C=PL/O=X/CN=J\\xC3\\xB3zef", ("jozef",)),
        ('"/C=PL/O=X/CN=Ann # not a comment" ann', "/C=PL/O=X/CN=Ann # not a comment", ("ann",)),
        ('"/DC=org/emailAddress=a@example.org" a_b-c.d', "/DC=org/emailAddress=a@example.org", ("a_b-c.d",)),
    ],
)
def test_lines(tmp_path: Path, line: str, subject: str, accounts: tuple[str, ...]) -> None:
    assert grid_map(tmp_path, f"# comment\n\n{line}\n").accounts(subject) == accounts


@pytest.mark.parametrize("subject", ["/C=PL/O=X/CN=Ann/CN=1", "/c=pl/o=x/cn=ann", "/C=PL/O=X", "", "/C=PL/O=X/CN=Ann "])
def test_subjects_are_compared_exactly(tmp_path: Path, subject: str) -> None:
    assert grid_map(tmp_path, '"/C=PL/O=X/CN=Ann" ann\n').accounts(subject) == ()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('"/C=PL/CN=Ann ann', "quote open"),
        ('"/C=PL/CN=Ann"', "account missing"),
        ('"/C=PL/CN=Ann" ', "account missing"),
        ('"/C=PL/CN=Ann"ann', "not `"),
        ('/C=PL/CN=Ann Lee ann"', "no account name"),
        ("Ann ann", "not `"),
        ('"Ann" ann', "no subject in slash form"),
        ('"" ann', "no subject in slash form"),
        ('"/C=PL/CN=Ann" root', "nobody may be mapped to root"),
        ('"/C=PL/CN=Ann" ann,root', "nobody may be mapped to root"),
        ('"/C=PL/CN=Ann" ann,', "'' is no account name"),
        ('"/C=PL/CN=Ann" ann bob', "no account name"),
        ('"/C=PL/CN=Ann" -ann', "no account name"),
        ('"/C=PL/CN=Ann" .pool', "no account name"),
        ('"/C=PL/CN=Ann" ../ann', "no account name"),
        ('"/C=PL/CN=Ann" ann;id', "no account name"),
        ('"/C=PL/CN=Ann" 1000', "no account name"),
        ('"/C=PL/CN=Ann" ' + "a" * 33, "no account name"),
        ('"/C=PL/CN=Ann" änn', "no account name"),
        ('"/C=PL/CN=Bob" ann', "further up"),
    ],
)
def test_mistakes(tmp_path: Path, line: str, word: str) -> None:
    with pytest.raises(ConfigError) as refused:
        grid_map(tmp_path, f'"/C=PL/CN=Bob" bob\n{line}\n')
    (problem,) = refused.value.problems
    assert problem.startswith(f"{tmp_path / 'grid-mapfile'}:2: ")
    assert word in problem


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "grid-mapfile"
    path.write_text('"/C=PL/CN=A" root\n"/C=PL/CN=B" b\n"/C=PL/CN=C\n')
    assert [problem.split(":")[1] for problem in problems(path)] == ["1", "3"]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        GridMap(tmp_path / "absent")
    assert len(problems(tmp_path / "absent")) == 1


def test_no_problems(tmp_path: Path) -> None:
    assert problems(grid_map(tmp_path, '"/C=PL/CN=A" a\n').path) == []


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    accounts = grid_map(tmp_path, '"/C=PL/CN=A" a\n')
    assert accounts.accounts("/C=PL/CN=B") == ()
    accounts.path.write_text('"/C=PL/CN=A" a\n"/C=PL/CN=B" b\n')
    assert accounts.accounts("/C=PL/CN=B") == ("b",)
    fresh = tmp_path / "fresh"
    fresh.write_text('"/C=PL/CN=A" a\n"/C=PL/CN=B" c\n')
    fresh.replace(accounts.path)
    assert accounts.accounts("/C=PL/CN=B") == ("c",)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = grid_map(tmp_path, '"/C=PL/CN=A" a\n')
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read again"))
    assert accounts.accounts("/C=PL/CN=A") == ("a",)


@pytest.mark.parametrize("broken", ['"/C=PL/CN=A" root\n', None])
def test_the_last_good_file_stays_while_the_new_one_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    accounts = grid_map(tmp_path, '"/C=PL/CN=A" a\n')
    if broken is None:
        accounts.path.unlink()
    else:
        accounts.path.write_text(broken)
    assert [accounts.accounts("/C=PL/CN=A") for _ in range(3)] == [("a",)] * 3
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    accounts.path.write_text('"/C=PL/CN=A" another\n')
    os.utime(accounts.path, ns=(1, 1))
    assert accounts.accounts("/C=PL/CN=A") == ("another",)


@given(st.binary() | st.text(alphabet='"/C=PLann,\\x4#\n ').map(str.encode))
def test_any_file_is_read_or_told_about(content: bytes) -> None:
    accounts, mistakes = parse(content, "grid-mapfile")
    assert all(names and "root" not in names for names in accounts.values())
    assert all(mistake.startswith("grid-mapfile:") for mistake in mistakes)

"""What `make run` gives to a newcomer."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.auth.gridmap import GridMap
from gateway.auth.proxy import ProxyVerifier
from gateway.testing import certificates
from gateway.testing.certificates import header, make_demo


def subjects(folder: Path) -> list[str]:
    verifier = ProxyVerifier(folder / "certificates")
    files = sorted(folder.glob("proxy*.pem"))
    return [verifier.verify(header(file.read_bytes())).subject for file in files]


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_people_who_may_come_in(tmp_path: Path) -> None:
    make_demo(tmp_path / "var/demo", "ann")
    bob, ann = subjects(tmp_path / "var/demo")
    accounts = GridMap(tmp_path / "var/demo/grid-mapfile")
    assert (ann, accounts.accounts(ann)) == ("/C=PL/O=Jobgate Demo/CN=Ann", ("ann",))
    assert (bob, accounts.accounts(bob)) == ("/C=PL/O=Jobgate Demo/CN=Bob", ("bob",))
    assert ProxyVerifier(tmp_path / "var/demo/certificates").problems() == []


def test_proxies_are_private_and_no_other_key_is_written(tmp_path: Path) -> None:
    make_demo(tmp_path, "ann")
    private = {file for file, content in contents(tmp_path).items() if b"PRIVATE KEY" in content}
    assert private == {tmp_path / "proxy.pem", tmp_path / "proxy-bob.pem"}
    assert {file.stat().st_mode & 0o777 for file in private} == {0o600}


def test_nothing_is_touched_while_it_is_good(tmp_path: Path) -> None:
    make_demo(tmp_path, "ann")
    before = contents(tmp_path)
    make_demo(tmp_path, "ann")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("spoil", ["proxy.pem", "proxy-bob.pem", "certificates"])
def test_what_is_missing_is_made_anew(tmp_path: Path, spoil: str) -> None:
    make_demo(tmp_path, "ann")
    for file in contents(tmp_path):
        if spoil in str(file.relative_to(tmp_path)):
            file.unlink()
    make_demo(tmp_path, "ann")
    assert len(subjects(tmp_path)) == 2


def test_proxies_about_to_expire_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "DEMO_VALIDITY", timedelta(hours=20))
    make_demo(tmp_path, "ann")
    monkeypatch.undo()
    make_demo(tmp_path, "ann")
    proxy = header((tmp_path / "proxy.pem").read_bytes())
    left = ProxyVerifier(tmp_path / "certificates").verify(proxy).expires_at - datetime.now(UTC)
    assert left > timedelta(days=6)


def test_lines_of_others_in_the_grid_mapfile_stay(tmp_path: Path) -> None:
    make_demo(tmp_path, "ann")
    (tmp_path / "grid-mapfile").write_text('"/C=PL/O=Jobgate Demo/CN=Ann" ann,guest\n"/C=PL/CN=Eve" eve')
    make_demo(tmp_path, "ann")
    accounts = GridMap(tmp_path / "grid-mapfile")
    assert accounts.accounts("/C=PL/O=Jobgate Demo/CN=Ann") == ("ann", "guest")
    assert accounts.accounts("/C=PL/O=Jobgate Demo/CN=Bob") == ("bob",)
    assert accounts.accounts("/C=PL/CN=Eve") == ("eve",)


def test_another_user(tmp_path: Path) -> None:
    make_demo(tmp_path, "ann")
    make_demo(tmp_path, "eve")
    assert "/C=PL/O=Jobgate Demo/CN=Eve" in subjects(tmp_path)
    assert GridMap(tmp_path / "grid-mapfile").accounts("/C=PL/O=Jobgate Demo/CN=Eve") == ("eve",)


def test_bob_himself(tmp_path: Path) -> None:
    make_demo(tmp_path, "bob")
    assert subjects(tmp_path) == ["/C=PL/O=Jobgate Demo/CN=Bob"]

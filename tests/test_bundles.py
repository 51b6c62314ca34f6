"""What may be in a bundle, and what is sent of it."""

import gzip
import io
import lzma
import stat
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.bundles import Bundle, check_input_names, start_script
from gateway.errors import TooLarge, Unprocessable

RUN = b"#!/bin/sh\necho ran\n"
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, target, mode, len(data)
    return info, data


def tar(*members: Member, mode: str = "w:gz", run: bytes | None = RUN) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for info, data in (*([member("./run.sh", run)] if run is not None else []), *members):
            archive.addfile(info, io.BytesIO(data))
    return file


def zipped(*members: tuple[str, bytes, int], run: bytes | None = RUN, kind: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data, mode in (*([("run.sh", run, 0o644)] if run is not None else []), *members):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, kind)
    return file


def bundle(archive: io.BytesIO, most_bytes: int = 10_000_000, most_files: int = 100, **inputs: bytes) -> Bundle:
    return Bundle(archive, {name: io.BytesIO(data) for name, data in inputs.items()}, most_bytes, most_files)


def unpacked(sent: Bundle, folder: Path) -> dict[str, str]:
    """By the tar of a host."""
    folder.mkdir()
    command = ["tar", "-x", "--no-same-owner", "--no-same-permissions", "-C", str(folder)]
    subprocess.run(command, input=b"".join(sent), check=True)
    return {
        str(path.relative_to(folder)): path.readlink().as_posix() if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


KINDS: dict[str, Callable[[], io.BytesIO]] = {
    "tar": lambda: tar(member("data/a", b"A" * 70000), mode="w"),
    "tar.gz": lambda: tar(member("data/a", b"A" * 70000)),
    "tar.bz2": lambda: tar(member("data/a", b"A" * 70000), mode="w:bz2"),
    "zip": lambda: zipped(("data/", b"", 0o40755), ("data/a", b"A" * 70000, 0o644)),
    "zip-stored": lambda: zipped(("data/a", b"A" * 70000, 0o644), kind=zipfile.ZIP_STORED),
    "zip-bzip2": lambda: zipped(("data/a", b"A" * 70000, 0o644), kind=zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_arrives(tmp_path: Path, kind: str) -> None:
    sent = bundle(KINDS[kind](), **{"in put.dat": b"input"})
    sent.check()
    found = unpacked(sent, tmp_path / "here")
    assert found == {"bundle/run.sh": RUN.decode(), "bundle/data/a": "A" * 70000, "input/in put.dat": "input"}
    assert (tmp_path / "here/bundle/run.sh").stat().st_mode & 0o700 == 0o700


def test_modes_links_and_names(tmp_path: Path) -> None:
    long = "/".join(["d" * 100] * 4)
    archive = tar(
        member("bin", kind=tarfile.DIRTYPE, mode=0),
        member("bin/tool", b"tool", mode=0o6755),
        member("bin/data", b"data", mode=0o444),
        member("bin/up", kind=tarfile.SYMTYPE, target="../run.sh"),
        member("tool", kind=tarfile.SYMTYPE, target="./bin/tool"),
        member("hard", kind=tarfile.LNKTYPE, target="./bin/data"),
        member(f"{long}/żółć\n$(x)", b"deep"),
    )
    found = unpacked(bundle(archive), tmp_path / "here")
    assert found["bundle/bin/up"] == "../run.sh"
    assert found["bundle/tool"] == "bin/tool"
    assert found[f"bundle/{long}/żółć\n$(x)"] == "deep"
    root = tmp_path / "here" / "bundle"
    assert (root / "hard").stat().st_ino == (root / "bin/data").stat().st_ino
    assert stat.S_IMODE((root / "bin/tool").stat().st_mode) & 0o7700 == 0o700
    assert stat.S_IMODE((root / "bin/data").stat().st_mode) & 0o700 == 0o600


def test_what_tar_and_zip_make(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    (folder / "sub").mkdir(parents=True)
    (folder / "run.sh").write_bytes(RUN)
    (folder / "sub" / "sparse").write_bytes(b"")
    with (folder / "sub" / "sparse").open("r+b") as file:
        file.truncate(1_000_000)
    subprocess.run(["tar", "-C", folder, "-S", "--format=pax", "-czf", tmp_path / "b.tar.gz", "."], check=True)
    found = unpacked(bundle(io.BytesIO((tmp_path / "b.tar.gz").read_bytes())), tmp_path / "here")
    assert found == {"bundle/run.sh": RUN.decode(), "bundle/sub/sparse": "\0" * 1_000_000}


REFUSED: dict[str, tuple[Callable[[], io.BytesIO], str]] = {
    "no entry point": (lambda: tar(member("b/run.sh", RUN), run=None), "has no file run.sh at its root"),
    "no entry point, zip": (lambda: zipped(("b/run.sh", RUN, 0o755), run=None), "has no file run.sh at its root"),
    "a folder for an entry point": (lambda: tar(member("run.sh", kind=tarfile.DIRTYPE), run=None), "no file run.sh"),
    "absolute": (lambda: tar(member("/etc/passwd", b"x")), "absolute name '/etc/passwd'"),
    "absolute, zip": (lambda: zipped(("/etc/passwd", b"x", 0o644)), "absolute name '/etc/passwd'"),
    "up": (lambda: tar(member("a/../../x", b"x")), "leads out of it"),
    "up, zip": (lambda: zipped(("../x", b"x", 0o644)), "leads out of it"),
    "link to the root": (lambda: tar(member("l", kind=tarfile.SYMTYPE, target="/etc")), "points out of it (to '/etc')"),
    "link up": (lambda: tar(member("a/l", kind=tarfile.SYMTYPE, target="../../x")), "points out of it"),
    "link, zip": (lambda: zipped(("l", b"../x", 0o120777)), "points out of it (to '../x')"),
    "link by a detour": (lambda: tar(member("a/l", kind=tarfile.SYMTYPE, target="b/../../..")), "points out of it"),
    "link to nothing": (lambda: tar(member("l", kind=tarfile.SYMTYPE)), "points out of it"),
    "behind a link": (
        lambda: tar(member("l", kind=tarfile.SYMTYPE, target="data"), member("l/x", b"x")),
        "lies behind a link",
    ),
    "hard link up": (lambda: tar(member("l", kind=tarfile.LNKTYPE, target="../x")), "leads out of it"),
    "hard link to the root": (lambda: tar(member("l", kind=tarfile.LNKTYPE, target="/etc/shadow")), "absolute name"),
    "device": (lambda: tar(member("null", kind=tarfile.CHRTYPE)), "neither a file, a folder nor a link"),
    "fifo": (lambda: tar(member("pipe", kind=tarfile.FIFOTYPE)), "neither a file, a folder nor a link"),
    "fifo, zip": (lambda: zipped(("pipe", b"", stat.S_IFIFO | 0o644)), "neither a file, a folder nor a link"),
    "long name": (lambda: tar(member("x" * 256, b"")), "name that is too long"),
    "nothing": (lambda: io.BytesIO(), "cannot be read"),
    "text": (lambda: io.BytesIO(b"#!/bin/sh\necho this is no archive\n" * 100), "cannot be read"),
    "xz": (lambda: io.BytesIO(lzma.compress(b"x")), "compressed with xz"),
    "cut gzip": (lambda: io.BytesIO(tar(member("a", bytes(range(256)) * 100)).getvalue()[:-100]), "cannot be read"),
    "cut tar": (lambda: io.BytesIO(tar(member("a", b"A" * 5000), mode="w").getvalue()[:3000]), "cannot be read"),
    "cut zip": (lambda: io.BytesIO(zipped(("a", b"A" * 5000, 0o644)).getvalue()[:-30]), "cannot be read"),
    "damaged tar": (lambda: damaged(tar(member("a", b"A"), member("b", b"B"), mode="w"), 1024), "damaged header"),
    "damaged zip": (lambda: damaged(zipped(("a", b"A" * 5000, 0o644), kind=0), 2000), "cannot be read"),
    "encrypted zip": (lambda: damaged(zipped(), 6, 1, b"PK\3\4", b"PK\1\2", 8), "is encrypted"),
    "lzma zip": (lambda: zipped(("a", b"A", 0o644), kind=zipfile.ZIP_LZMA), "compressed in a way"),
}


def damaged(file: io.BytesIO, at: int, value: int = 0xFF, *more: object) -> io.BytesIO:
    data = bytearray(file.getvalue())
    data[at] = value
    if more:
        _, directory, offset = more
        data[data.index(directory) + offset] = value  # type: ignore[arg-type, operator]
    return io.BytesIO(bytes(data))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(Unprocessable) as refused:
        bundle(make()).check()
    assert words in refused.value.message
    assert "bundle" in refused.value.errors


def test_bombs() -> None:
    with pytest.raises(TooLarge, match="larger than 1000 bytes"):
        bundle(tar(member("a", bytes(2000))), most_bytes=1000).check()
    with pytest.raises(TooLarge, match="larger than 1000 bytes"):
        bundle(zipped(("a", bytes(2000), 0o644)), most_bytes=1000).check()
    many = [member(f"d{number}", kind=tarfile.DIRTYPE) for number in range(100)]
    with pytest.raises(TooLarge, match="more than 100 files"):
        bundle(tar(*many)).check()
    with pytest.raises(TooLarge, match="more than 100 files"):
        bundle(zipped(*[(f"d{number}/", b"", 0o40755) for number in range(100)])).check()


def huge_pax_header() -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 200_000_000
    return info.tobuf() + bytes(info.size)


def many_global_headers() -> bytes:
    value = "x" * 100_000
    record = f" k={value}\n"
    header = b""
    for number in range(300):
        text = f"{len(record) + 11} {number:06}{record}".replace(" k=", "k=", 1)
        text = f"{len(text)} {text.partition(' ')[2]}"
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XGLTYPE, len(text)
        header += info.tobuf() + text.encode() + bytes(-len(text) % 512)
        header += tarfile.TarInfo(f"f{number}").tobuf()
    return header


def old_sparse() -> bytes:
    """A map of extents that goes on and on (GNU tar manual, "Old GNU Format")."""
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    extent = b"00000000001\0" * 42 + b"\1" + bytes(7)
    return bytes(block) + extent * 100_000


@pytest.mark.parametrize("make", [huge_pax_header, many_global_headers, old_sparse])
def test_headers_do_not_fill_the_memory(make: Callable[[], bytes]) -> None:
    archive = io.BytesIO(gzip.compress(make(), 1))
    tracemalloc.start()
    with pytest.raises((Unprocessable, TooLarge)):
        bundle(archive, most_files=10_000).check()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_zip_of_nothing_but_names_does_not_fill_the_memory() -> None:
    archive = zipped(*[(f"{number:0200}/", b"", 0o40755) for number in range(20_000)])
    tracemalloc.start()
    with pytest.raises(Unprocessable, match="too large"):
        bundle(archive).check()
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_many_files_do_not_fill_the_memory() -> None:
    archive = tar(*[member(f"files/{number}", b"x" * 100) for number in range(20_000)], mode="w")
    sent = bundle(archive, most_files=50_000)
    tracemalloc.start()
    sent.check()
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\\b", "a\nb", "a\0b", "x" * 256])
def test_inputs_that_are_no_plain_names(name: str) -> None:
    with pytest.raises(Unprocessable, match="inputs"):
        check_input_names(["good", name])


def test_inputs_that_stand_twice() -> None:
    check_input_names(["a b", "-rf", "żółć"])
    with pytest.raises(Unprocessable, match="twice"):
        check_input_names(["a", "b", "a"])


ARGUMENTS = [
    "",
    "a b",
    "$(touch mark)",
    "'; touch mark; '",
    "x\n#$ -N y\n#SBATCH --wrap=z\n",
    "żółć",
    "-x",
    "\\",
    "\n",
    "$n",
]


def test_arguments_are_never_code(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    (tmp_path / "run.sh").chmod(0o755)
    script = start_script(ARGUMENTS)
    assert not [line for line in script.splitlines() if line.startswith(("#$", "#SBATCH"))]
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == ARGUMENTS
    assert not (tmp_path / "mark").exists()

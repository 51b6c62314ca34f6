"""An account's storage folder on the host: its files, and beside them what is known of each path.

    <storage>/<slot>/<branch>/...              files
    <storage>/.metadata/<slot>/.../.<name>     what is known of the path <slot>/.../<name>

Of a path is known what the lines of its file say: `key=value`, percent-encoded, the last line about a key counts, and
`key` alone takes it away. Lines are only ever added, so the gateway and the jobs write without a lock, on network file
systems too. Everything is done on the host, as the account.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, unquote

from gateway import Command, CommandResult, NotFound, TooLarge

from .answers import INVALID, NOT_READABLE, OTHER, Fault

MOST_METADATA = 64 << 20  # bytes that one search reads
CHUNK = 1 << 18
SILENCE = 120.0  # seconds in which nothing moves, while a file is sent
REGEX_SECONDS = "5"
GONE = 66

WRITE = """
umask 077
mkdir -p -- "$(dirname -- "$1")" && temporary=$(mktemp -- "$(dirname -- "$1")/.upload.XXXXXXXX") || exit
cat > "$temporary" && mv -T -- "$temporary" "$1" || { rm -f -- "$temporary"; exit 1; }
"""
ADD = 'umask 077; mkdir -p -- "$(dirname -- "$1")" && cat >> "$1"'
READ = f'[ -f "$1" ] || exit {GONE}; exec cat -- "$1"'
FIND = f'[ -d "$1" ] || exit {GONE}; cd -- "$1" && LC_ALL=C exec grep -arHZ "" .'
KIND = 'if [ -d "$1" ]; then echo folder; elif [ -f "$1" ]; then echo file; fi'
LIST = f"""
[ -e "$1" ] || exit {GONE}
if [ -d "$1" ]; then depth=1; else depth=0; fi
exec find "$1" -mindepth $depth -maxdepth $depth -name '[!.]*' -printf '%y\\0%f\\0%s\\0'
"""
REMOVE = f'[ -e "$1" ] || exit {GONE}; rm -rf -- "$1" "$2" "$3"'


@dataclass(frozen=True, slots=True)
class Path:
    """A path in the storage: slot, branch, and what is below."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join(self.parts)

    @property
    def inner(self) -> str:
        """What is below the branch."""
        return "/".join(self.parts[2:])

    def beside(self, *inner: str) -> "Path":
        """Another path of the same branch."""
        return path_of("/".join((*self.parts[:2], *inner)))


def path_of(text: str) -> Path:
    """Raises Fault for one that is not allowed."""
    parts = tuple(part for part in text.split("/") if part)
    for part in parts:
        if part.startswith(".") or not part.isprintable() or len(part.encode("utf-8", "surrogatepass")) > 200:
            raise Fault(INVALID, f"Invalid path {text!r}: a name is printable, short, and does not begin with a dot")
    if len(text.encode("utf-8", "surrogatepass")) > 3000:
        raise Fault(INVALID, "Invalid path: it is too long")
    return Path(parts)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way to the host; it can be read again and again."""

    file: IO[bytes]

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(0)
        while piece := self.file.read(CHUNK):
            yield piece


class Storage:
    """The storage of one account on a host."""

    def __init__(self, host: Any, account: str, root: str) -> None:
        self.host = host
        self.account = account
        root = root.replace("{account}", account).rstrip("/")
        self.root = host.transport.home(account) + root[1:] if root.startswith("~/") else root

    # -- files --------------------------------------------------------------------------------------------------------

    def where(self, path: Path) -> str:
        """The absolute name on the host."""
        return "/".join((self.root, *path.parts))

    def kind(self, path: Path) -> str | None:
        """ "folder", "file", or None where there is nothing."""
        return self._run(KIND, self.where(path), repeatable=True).stdout.strip() or None

    def put(self, path: Path, content: bytes | Iterable[bytes]) -> None:
        """Write a whole file; nobody sees half of it."""
        self._run(WRITE, self.where(path), stdin=content)

    def make(self, path: Path) -> None:
        """Make a folder, and those above it."""
        self._run('umask 077; mkdir -p -- "$1"', self.where(path))

    def open(self, path: Path) -> Any:
        """A file for reading. Raises Fault."""
        try:
            return self.host.transport.open_file(self.where(path), self.account, self.root)
        except NotFound:
            raise self.missing(path) from None

    def read(self, path: Path, most: int) -> bytes:
        """A small file as a whole. Raises Fault."""
        with self.open(path) as file:
            if file.size > most:
                raise Fault(INVALID, f"Invalid {path}: it is larger than {most} bytes")
            content: bytes = file.read(0, most)
            return content

    def entries(self, path: Path) -> list[tuple[str, str, int]]:
        """Kind, name and size of what is in a folder, or of the file itself. Raises Fault."""
        result = self._run(LIST, self.where(path), expected=(GONE,), repeatable=True)
        if result.exit_code == GONE:
            raise self.missing(path)
        words = result.stdout.split("\0")[:-1]
        found = zip(words[::3], words[1::3], map(int, words[2::3]), strict=True)
        return sorted(
            (("dir" if kind == "d" else "file", name, size) for kind, name, size in found), key=lambda e: e[1]
        )

    def remove(self, path: Path) -> None:
        """A file or a whole folder, with what is known of it. Raises Fault."""
        inner = "/".join((self.root, ".metadata", *path.parts))
        result = self._run(REMOVE, self.where(path), self.record(path), inner, expected=(GONE,))
        if result.exit_code == GONE:
            raise self.missing(path)

    @staticmethod
    def missing(path: Path) -> Fault:
        return Fault(NOT_READABLE, f"Cannot find/read {path}")

    # -- metadata -----------------------------------------------------------------------------------------------------

    def known(self, path: Path) -> dict[str, str] | None:
        """What is known of a path; None where nothing is."""
        if not path.parts:
            return None
        result = self._run(READ, self.record(path), expected=(GONE,), repeatable=True)
        return record_of(result.stdout.split("\n")) or None

    def all_known(self, below: Path) -> dict[str, dict[str, str]]:
        """What is known of each path below that one."""
        folder = "/".join((self.root, ".metadata", *below.parts))
        result = self._run(FIND, folder, expected=(1, GONE), repeatable=True, most=MOST_METADATA)
        if len(result.stdout) >= MOST_METADATA:
            raise TooLarge("there is too much metadata to search at once; search a subtree with type=recursive")
        lines: dict[str, list[str]] = {}
        for line in result.stdout.split("\n"):
            name, nul, told = line.partition("\0")
            above, _, last = name.removeprefix("./").rpartition("/")
            if nul and last.startswith("."):
                lines.setdefault("/".join((*below.parts, *above.split("/"), last[1:])), []).append(told)
        return {name.replace("//", "/"): values for name, told in lines.items() if (values := record_of(told))}

    def tell(self, path: Path, values: Mapping[str, str | None]) -> None:
        """Write down what is known of a path; None takes a key away."""
        lines = [key if value is None else f"{key}={quote(value)}" for key, value in values.items()]
        if path.parts and lines:
            self._run(ADD, self.record(path), stdin="".join(f"{line}\n" for line in lines).encode())

    def matching(self, pattern: str, values: list[str]) -> list[bool]:
        """Which values an extended regular expression (POSIX) matches. grep decides on the host, as the account: its
        time is linear where Python's is not. Raises Fault."""
        lines = "".join(f"{value.replace(chr(10), ' ')}\n" for value in values).encode("utf-8", "replace")
        command = Command(("timeout", REGEX_SECONDS, "grep", "-anE", "-e", pattern), stdin=lines, repeatable=True)
        result = self.host.transport.run(command, self.account)
        if result.exit_code > 1:
            words = result.stderr.strip() or f"it takes longer than {REGEX_SECONDS} seconds"
            raise Fault(INVALID, f"Invalid regular expression {pattern!r}: {words}")
        hits = {int(line.partition(":")[0]) for line in result.stdout.split("\n") if line[:1].isdigit()}
        return [number in hits for number in range(1, len(values) + 1)]

    def record(self, path: Path) -> str:
        """The file with what is known of a path."""
        return "/".join((self.root, ".metadata", *path.parts[:-1], f".{path.parts[-1]}"))

    # -- the host -----------------------------------------------------------------------------------------------------

    def _run(
        self,
        script: str,
        *arguments: str,
        stdin: bytes | Iterable[bytes] = b"",
        expected: tuple[int, ...] = (),
        repeatable: bool = False,
        most: int | None = None,
    ) -> CommandResult:
        argv = ("/bin/sh", "-c", script, "sh", *arguments)
        command = Command(argv, stdin=stdin, timeout=SILENCE, repeatable=repeatable, most_output=most)
        result: CommandResult = self.host.transport.run(command, self.account)
        if result.exit_code not in (0, *expected):
            raise Fault(OTHER, f"Other error: {self.host.name} says: {result.stderr.strip()[-500:]}")
        return result


def record_of(lines: Iterable[str]) -> dict[str, str]:
    """What the lines of a record say."""
    record: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals:
            record[key] = unquote(value)
        else:
            record.pop(key, None)
    return record

"""Takes texts in: an archive of documents, or one document, becomes XML cut into sentences, uploads/x.tar.gz with
en/4.html in it becomes xml/en/4.xml. What cannot be read, and what has no text, is counted and named."""

import re
import tarfile
import time
import zipfile
from html.parser import HTMLParser

from .common import ElementTree, absolute, branch_of, os, parameter, sys, tell, wanted, write

LARGEST = 64 << 20  # bytes of one document
MOST = 50_000  # documents of an archive
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
END = re.compile(r"[.!?…。][\"'”»)\]]*\s(?=.)")
LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?")
SILENT = ("script", "style", "head", "template")
BLOCKS = ("p", "div", "li", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "br", "title", "tr")


def main():
    path = wanted()
    begun = time.monotonic()
    tell(path, status="importing")
    results = {"success": [], "failed": [], "empty": []}
    made = []
    try:
        for name, content in documents(path):
            kind, result = take(path, name, content)
            results[kind].append(name)
            made += [result] if result else []
    except (OSError, EOFError, ValueError, tarfile.TarError, zipfile.BadZipFile, RuntimeError) as problem:
        report(path, results, made, begun, "import failed")
        sys.exit(f"{path} cannot be read: {problem}")
    report(path, results, made, begun, "imported" if results["success"] or not results["failed"] else "import failed")


def report(path, results, made, begun, status):
    counts = {f"import_{kind}_count": len(names) for kind, names in results.items()}
    lists = {f"import_{kind}": ",".join(name.replace(",", "_") for name in names) for kind, names in results.items()}
    imported_to = {"imported_to": made[0]} if len(made) == 1 else {}
    tell(path, status=status, import_runtime=round(time.monotonic() - begun), **imported_to, **lists, **counts)


def documents(path):
    """Names and bytes; None for one that must not be read."""
    file = absolute(path)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for one in archive.infolist()[:MOST]:
                if not one.is_dir():
                    yield one.filename, archive.read(one) if one.file_size <= LARGEST else None
    elif path.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2")):
        with tarfile.open(file) as archive:
            for number, one in enumerate(archive):
                if not one.isdir() and number < MOST:
                    good = one.isfile() and one.size <= LARGEST
                    yield one.name, archive.extractfile(one).read() if good else None
    else:
        inner = branch_of(path)[1]
        with open(file, "rb") as document:
            yield re.sub("^uploads/", "", inner), document.read(LARGEST)


def take(path, name, content):
    """How it went, and the path of the text in the branch."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if content is None or not parts or name.startswith("/") or any(part.startswith(".") for part in parts):
        return "failed", None
    try:
        paragraphs = text_of(name, content)
    except (ValueError, ElementTree.ParseError):
        return "failed", None
    if paragraphs is None:
        return "failed", None
    cut = [sentences for sentences in map(sentences_of, paragraphs) if sentences]
    if not cut:
        return "empty", None
    language, rest = placed(parts)
    branch = branch_of(path)[0]
    made = f"xml/{language}/{os.path.splitext(rest)[0]}.xml"
    write(f"{branch}/{made}", as_xml(cut))
    about = {"language": language, "resource__type": "corpusfile", "size": sum(map(len, cut)), "status": "updated"}
    tell(f"{branch}/{made}", imported_from=branch_of(path)[1], **about)
    return "success", made


def placed(parts):
    """The language, and what is left of the name: en and 4.html of html/en/4.html."""
    for number, part in enumerate(parts[:-1]):
        if LANGUAGE.fullmatch(part):
            return parameter("lang", part), "/".join(parts[number + 1 :])
    return parameter("lang", "und"), "/".join(parts)


def text_of(name, content):
    """Its paragraphs; None for a kind of document that cannot be read."""
    kind = os.path.splitext(name)[1].lower()
    if kind in (".html", ".htm", ".xhtml"):
        reader = Reader()
        reader.feed(content.decode("utf-8"))
        reader.close()
        return "".join(reader.text).split("\n")
    if kind == ".xml":
        root = ElementTree.fromstring(content)
        blocks = list(root.iter("p")) or list(root.iter("s")) or [root]
        return [" ".join(block.itertext()) for block in blocks]
    if kind in (".txt", ""):
        return content.decode("utf-8").splitlines()
    return None


class Reader(HTMLParser):
    """The text of a page, a line for each block."""

    def __init__(self):
        super().__init__()
        self.text = []
        self.silent = 0

    def handle_starttag(self, tag, attributes):
        self.silent += tag in SILENT
        if tag in BLOCKS:
            self.text.append("\n")

    def handle_endtag(self, tag):
        self.silent -= tag in SILENT and self.silent > 0
        if tag in BLOCKS:
            self.text.append("\n")

    def handle_data(self, data):
        if not self.silent:
            self.text.append(re.sub(r"\s+", " ", data))


def sentences_of(paragraph):
    """Cut behind what ends a sentence, unless a small letter follows. Importing so needs nothing but Python."""
    text = " ".join(NOT_XML.sub(" ", paragraph).split())
    ends = [end.end() for end in END.finditer(text) if not text[end.end()].islower()]
    pieces = [text[begin:end].strip() for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [piece for piece in pieces if piece]


def as_xml(paragraphs):
    root = ElementTree.Element("text")
    number = 0
    for place, sentences in enumerate(paragraphs, 1):
        paragraph = ElementTree.SubElement(root, "p", id=str(place))
        for sentence in sentences:
            number += 1
            ElementTree.SubElement(paragraph, "s", id=str(number)).text = sentence
    return root


if __name__ == "__main__":
    main()

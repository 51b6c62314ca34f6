"""Aligns the words of aligned sentences: xml/en-sv/4.xml gives wordalign/en-sv/4, a line of `0-0 1-2` for each link."""

from .common import (
    ElementTree,
    absolute,
    branch_of,
    call,
    derived,
    os,
    put,
    sentences,
    sys,
    tell,
    tempfile,
    tool,
    wanted,
)


def main():
    path = wanted()
    branch, inner = branch_of(path)
    group = ElementTree.parse(absolute(path)).getroot().find("linkGrp")
    if group is None:
        sys.exit(f"{path} is no sentence alignment; run align first")
    texts = [tokens_of(branch, group.get(name)) for name in ("fromDoc", "toDoc")]
    pairs = []
    for link in group.iter("link"):
        sides = link.get("xtargets", ";").split(";")
        lines = [" ".join(text[number] for number in side.split()) for text, side in zip(texts, sides, strict=True)]
        if all(lines):
            pairs.append(lines)
    made = derived(inner, "wordalign")
    made = made[: -len(".xml")] if made.endswith(".xml") else made
    put(f"{branch}/{made}", aligned(pairs) if pairs else b"")
    tell(path, wordaligned=made, wordaligned_count=len(pairs))


def tokens_of(branch, inner):
    """The tokens of each sentence: those of `tokenize` where it was run, else what stands between blanks."""
    tokenized = derived(inner, "tok")
    text = tokenized if os.path.exists(absolute(f"{branch}/{tokenized}")) else inner
    return {number: " ".join(words) for number, words in sentences(f"{branch}/{text}")}


def aligned(pairs):
    with tempfile.TemporaryDirectory() as folder:
        source, target, links = (os.path.join(folder, name) for name in ("source", "target", "links"))
        for side, name in enumerate((source, target)):
            with open(name, "w", encoding="utf-8") as file:
                file.writelines(f"{pair[side]}\n" for pair in pairs)
        call([tool("EFLOMAL"), "-s", source, "-t", target, "-f", links], "")
        with open(links, "rb") as file:
            return file.read()


if __name__ == "__main__":
    main()

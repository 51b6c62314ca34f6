"""Aligns the sentences of texts in two languages: xml/en/4.xml and xml/sv/4.xml give xml/en-sv/4.xml."""

import sys

from .common import ElementTree, absolute, branch_of, os, parameter, sentences, tell, wanted, write


def main():
    path = wanted()
    branch, inner = branch_of(path)
    pairs = wanted_pairs(branch, inner)
    if not pairs:
        sys.exit(f"there is nothing to align in {path}: no text of the same name in another language")
    for source, target in pairs:
        align(branch, source, target)


def wanted_pairs(branch, inner):
    """Pairs of texts, the languages in the order of the alphabet."""
    if parameter("trg"):
        return [tuple(sorted((inner, parameter("trg"))))]
    texts = {}
    root = absolute(f"{branch}/xml")
    for language in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        if "-" not in language:
            for folder, _, names in os.walk(os.path.join(root, language)):
                for name in names:
                    rest = os.path.relpath(os.path.join(folder, name), os.path.join(root, language))
                    if not name.startswith("."):
                        texts.setdefault(rest, []).append(f"xml/{language}/{rest}")
    found = [(one, other) for same in texts.values() for one in same for other in same if one < other]
    return [pair for pair in found if any((text + "/").startswith(inner.rstrip("/") + "/") for text in pair)]


def align(branch, source, target):
    from nltk.translate.gale_church import align_blocks

    ours, theirs = sentences(f"{branch}/{source}"), sentences(f"{branch}/{target}")
    links = align_blocks(lengths(ours), lengths(theirs)) if ours and theirs else []
    languages = [text.split("/")[1] for text in (source, target)]
    made = "/".join(["xml", "-".join(languages), *source.split("/")[2:]])
    root = ElementTree.Element("cesAlign", version="1.0")
    group = ElementTree.SubElement(root, "linkGrp", targType="s", fromDoc=source, toDoc=target)
    blocks = joined(links)
    for number, (left, right) in enumerate(blocks, 1):
        targets = ";".join((" ".join(ours[i][0] for i in left), " ".join(theirs[i][0] for i in right)))
        ElementTree.SubElement(group, "link", id=f"SL{number}", xtargets=targets)
    write(f"{branch}/{made}", root)
    tell(
        f"{branch}/{made}", language=",".join(languages), resource__type="sentalign", size=len(blocks), status="aligned"
    )
    tell(f"{branch}/{source}", aligned_with=target)
    tell(f"{branch}/{target}", aligned_with=source)


def lengths(found):
    return [max(1, len(" ".join(words))) for _, words in found]


def joined(links):
    """Links between single sentences as links between those that belong together: (0,0) (1,1) (1,2) → 0:0 1:1,2."""
    blocks = []
    for left, right in links:
        if not blocks or (left not in blocks[-1][0] and right not in blocks[-1][1]):
            blocks.append(([], []))
        for side, number in zip(blocks[-1], (left, right), strict=True):
            if number not in side:
                side.append(number)
    return blocks


if __name__ == "__main__":
    main()

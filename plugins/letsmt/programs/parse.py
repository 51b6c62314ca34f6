"""Parses the sentences of a text: xml/en/4.xml becomes ud/en/4.xml, where each has its constituents."""

from .common import ElementTree, branch_of, call, derived, language_of, sentences, tell, tool, wanted, write

SWITCHES = ["-verbosity=0", "-graphics=0", "-links=0", "-constituents=3", "-echo=1"]


def main():
    path = wanted()
    branch, inner = branch_of(path)
    found = [(number, as_input(" ".join(words))) for number, words in sentences(path)]
    printed = call([tool("LINK_PARSER"), language_of(inner), *SWITCHES], "".join(f"{text}\n" for _, text in found))
    root = ElementTree.Element("text")
    parsed = 0
    lines = iter(printed.splitlines())
    for number, text in found:
        sentence = ElementTree.SubElement(root, "s", id=number)
        sentence.text = text
        for line in lines:
            if line == text:
                break
        tree = next(lines, "")
        if tree.startswith("("):
            ElementTree.SubElement(sentence, "parse").text = tree
            parsed += 1
    made = derived(inner, "ud")
    write(f"{branch}/{made}", root)
    tell(path, parsed=made, parsed_count=parsed)


def as_input(text):
    """Without what link-parser would take for a command of its own (link-parser(1))."""
    return text.lstrip("!%-$ ") or "."


if __name__ == "__main__":
    main()

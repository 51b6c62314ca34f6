"""Cuts the sentences of a text into tokens: xml/en/4.xml becomes tok/en/4.xml."""

from .common import ElementTree, branch_of, call, derived, language_of, sentences, tell, tool, wanted, write


def main():
    path = wanted()
    branch, inner = branch_of(path)
    found = sentences(path)
    command = [tool("SACREMOSES"), "-q", "-l", language_of(inner), "-j", "1", "tokenize", "-x"]
    lines = call(command, "".join(f"{' '.join(words)}\n" for _, words in found)).splitlines()
    root = ElementTree.Element("text")
    count = 0
    for (number, _), line in zip(found, lines, strict=True):
        sentence = ElementTree.SubElement(root, "s", id=number)
        for place, word in enumerate(line.split(), 1):
            ElementTree.SubElement(sentence, "w", id=f"{number}.{place}").text = word
            count += 1
    made = derived(inner, "tok")
    write(f"{branch}/{made}", root)
    tell(path, tokenized=made, tokens=count)


if __name__ == "__main__":
    main()

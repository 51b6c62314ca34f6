"""What the programs have in common: paths, what is written down of them, and texts as XML."""

import os
import subprocess
import sys
import tempfile
from urllib.parse import quote
from xml.etree import ElementTree

STORAGE = os.environ.get("LETSMT_STORAGE", "")


def wanted():
    """The path in the storage that this run is about."""
    file = os.environ.get("JOBGATE_FILE")
    return os.path.relpath(file, STORAGE) if file else os.environ["LETSMT_PATH"]


def absolute(path):
    return os.path.join(STORAGE, path)


def branch_of(path):
    """`slot/branch` of a path, and what is below."""
    slot, branch, inner = path.split("/", 2)
    return f"{slot}/{branch}", inner


def parameter(name, otherwise=None):
    return os.environ.get(f"JOBGATE_PARAM_{name}") or otherwise


def tool(name):
    return os.environ[f"LETSMT_{name}"]


def tell(path, **values):
    """Write down what is known of a path, beside what others wrote."""
    folder, name = os.path.split(os.path.join(STORAGE, ".metadata", path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    owner = os.environ.get("LETSMT_UID")
    told = {**({"owner": owner, "gid": owner} if owner else {}), **values}
    lines = "".join(f"{key.replace('__', '-')}={quote(str(value))}\n" for key, value in told.items())
    with open(os.path.join(folder, f".{name}"), "a") as file:
        file.write(lines)


def sentences(path):
    """Number and words of each sentence of a text. What is not cut into tokens is one word."""
    found = []
    for number, element in enumerate(ElementTree.parse(absolute(path)).getroot().iter("s"), 1):
        words = ["".join(word.itertext()).strip() for word in element.iter("w")]
        found.append((element.get("id") or str(number), words or [" ".join("".join(element.itertext()).split())]))
    return found


def write(path, root):
    """Write XML into the storage; nobody sees half of it."""
    ElementTree.indent(root)
    put(path, ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n")


def put(path, content):
    folder = os.path.dirname(absolute(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".written.", delete=False) as file:
        file.write(content)
    os.replace(file.name, absolute(path))


def call(command, text):
    """What a tool prints when it is given the text. Its failure ends the program."""
    try:
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, check=False, encoding="utf-8")
    except OSError as problem:
        sys.exit(
            f"{command[0]} cannot be run here: {problem.strerror}; the gateway's [dialects.letsmt] says where it is"
        )
    if done.returncode:
        sys.exit(f"{command[0]} failed with exit code {done.returncode}")
    return done.stdout


def language_of(inner):
    """Of xml/en/4.xml it is en."""
    parts = inner.split("/")
    return parameter("lang") or (parts[1] if len(parts) > 2 else "und")


def derived(inner, folder):
    """The path of what is made of a text: folder/en/4.xml for xml/en/4.xml."""
    first, _, rest = inner.partition("/")
    return f"{folder}/{rest if first == 'xml' else inner}"

"""The templates that `run=` names. Each is one program of `programs/`, which runs on the host with the tools that the
configuration names."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

ENVIRONMENT = "LETSMT_"
FROM_COMMON = re.compile(r"^from \.common import (\([^)]*\)|.*)\n", re.MULTILINE)
PATTERNS = {"tokenize": "*.xml", "parse": "*.xml", "wordalign": "*.xml"}
LANGUAGE = {"lang": {"type": "string", "description": "language of the text, such as en; default: its folder's name"}}
TARGET = {
    "trg": {"type": "string", "description": "path in the branch of the text to align with; default: of the same name"}
}
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "import": LANGUAGE,
    "reimport": LANGUAGE,
    "tokenize": LANGUAGE,
    "parse": LANGUAGE,
    "align": TARGET,
    "wordalign": {},
}
DESCRIPTIONS = {
    "import": "unpack an archive, or take one document, and write each text as XML, cut into sentences",
    "reimport": "the same once more",
    "tokenize": "cut sentences into tokens (sacremoses)",
    "parse": "parse sentences (link-grammar)",
    "align": "align the sentences of two texts (Gale and Church, as NLTK has it)",
    "wordalign": "align the words of aligned sentences (eflomal)",
}


def templates(options: Any) -> list[dict[str, Any]]:
    """The six, as `POST /api/templates` takes them."""
    tools = {name: getattr(options, name) for name in ("sacremoses", "link_parser", "eflomal")}
    environment = {f"{ENVIRONMENT}{name.upper()}": path for name, path in tools.items()}
    return [
        {
            "name": name,
            "description": words,
            "script": script(name, options.python),
            "parameters": dict(PARAMETERS[name]),
            "environment": environment,
        }
        for name, words in DESCRIPTIONS.items()
    ]


def script(name: str, python: str) -> str:
    """What the programs have in common, then the one program."""
    common, own = ((files(__package__) / "programs" / f"{part}.py").read_text() for part in ("common", program(name)))
    return f"#!{python}\n{common}\n{FROM_COMMON.sub('', own)}"


def program(name: str) -> str:
    return {"import": "import_", "reimport": "import_"}.get(name, name)

"""What our documents show works: every line with curl runs, and answers what stands below it."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from gateway import errors
from gateway.auth import trust
from tests.docs.pages import ANYTHING, BASE_URL, PAGES, ROOT, Block, blocks, demo_server, like, run_in_one_shell

WITH_CURL = [page for page in PAGES if any(block.language == "sh" for block in blocks(page))]


def test_what_may_stand_in_a_block() -> None:
    """Blocks that run are `sh`. A terminal that is only shown is `console`, and shows no curl."""
    for page in PAGES:
        for block in blocks(page):
            assert block.language in ("sh", "json", "text", "console", "toml", "python", "nginx", "ini", "html"), (
                page,
                block,
            )
            assert block.language in ("sh", "text", "python") or "curl " not in block.text, (page, block)


@pytest.mark.parametrize("page", WITH_CURL, ids=lambda page: page.name)
def test_the_examples_run(page: Path, tmp_path: Path) -> None:
    shown = blocks(page)
    scripts = [block for block in shown if block.language == "sh"]
    with demo_server(tmp_path) as server:
        printed = run_in_one_shell([block.text for block in scripts], server)
        for block, output in zip(scripts, printed, strict=True):
            answer = answer_below(shown, block)
            if answer:
                compare(page, answer, output.replace(server.url, BASE_URL))


def answer_below(shown: list[Block], block: Block) -> Block | None:
    below = shown[shown.index(block) + 1 :][:1]
    return next((answer for answer in below if answer.language in ("json", "text")), None)


def anything(text: str) -> str:
    """A pattern for what is shown, where "..." stands for the rest of a line or a part of it."""
    return re.escape(text).replace(re.escape(ANYTHING), ".*")


def compare(page: Path, answer: Block, output: str) -> None:
    where = f"{page.name}:{answer.line}: {output}"
    if answer.language == "text":
        assert re.fullmatch(anything(answer.text.strip()), output.strip()), where
    else:
        last = [line for line in output.splitlines() if line.strip()][-1]  # a status may have been printed before
        assert like(json.loads(answer.text), json.loads(last)), where


def test_the_readme_has_what_make_run_prints(tmp_path: Path) -> None:
    with demo_server(tmp_path) as server:
        hint = [line.strip() for line in server.log.read_text().splitlines() if line.startswith("  curl")]
    assert len(hint) == 2
    readme = (ROOT / "README.md").read_text()
    for line in hint:
        pasted = line.replace(server.url, BASE_URL).replace(f"{tmp_path}/", "")
        assert f"\n{pasted}\n" in readme, pasted


def test_python_that_is_shown_is_python_that_runs() -> None:
    """Every block of Python in the pages on plugins, dialects and portals stands so in a file that tests execute."""
    executed = ("docs/examples", "tests/docs", "plugins/tethys")
    texts = [file.read_text() for folder in executed for file in (ROOT / folder).glob("*.py")]
    for page in ("plugins.md", "dialects.md", "portal.md"):
        for block in blocks(ROOT / "docs" / page):
            if block.language == "python":
                assert any(block.text in text for text in texts), f"docs/{page}:{block.line}"


def test_toml_that_is_shown_is_in_the_example() -> None:
    shown = next(block.text for block in blocks(ROOT / "docs" / "plugins.md") if block.language == "toml")
    assert shown in (ROOT / "docs" / "examples" / "pyproject.toml").read_text()


def test_the_page_on_options_is_as_generated() -> None:
    tool = ROOT / "tools" / "configuration-page"
    loader = importlib.machinery.SourceFileLoader("configuration_page", str(tool))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("configuration_page", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    assert module.tables() in module.PAGE.read_text(), "run: .venv/bin/python tools/configuration-page"


def test_every_code_is_explained() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    sources = [file.read_text() for folder in ("gateway", "plugins") for file in (ROOT / folder).rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'\bcode(?:: str)? = ?"(\w+)"|code="(\w+)"', text)}
    words = {word for pair in codes for word in pair if word}
    words |= {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    words |= {code for code, _ in trust.VERIFY_ERRORS.values()}
    assert len(words) > 60
    assert not {word for word in words if f"`{word}`" not in page}

"""docs/: the pages made from the code are current, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servable.tfserving.flags import FLAGS

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "errors.md", "commands.md", "versions.md"])
def test_a_page_made_from_the_code_is_current(generator: ModuleType, name: str) -> None:
    text = generator.PAGES[name]()
    assert text == (DOCS / "reference" / name).read_text(), "run: python docs/generate.py"


def test_the_navigation_names_every_page() -> None:
    named = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert named == {str(page.relative_to(DOCS)) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_to_other_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_the_guide_for_users_of_tensorflow_serving_has_every_flag() -> None:
    guide = (DOCS / "guides" / "from-tensorflow-serving.md").read_text()
    flags = re.findall(r"`--([a-z_]+)(?:=\w+)?`", guide)
    assert {flag.name for flag in FLAGS} - set(flags) == set()


def test_every_setting_that_the_guide_names_is_one() -> None:
    guide = (DOCS / "guides" / "from-tensorflow-serving.md").read_text()
    table = guide.partition("| flag | setting |")[2].partition("\n\n")[0]
    named = {flag for row in table.splitlines() for flag in re.findall(r"--[a-z][a-z-]+", row.rpartition(" | ")[2])}
    known = set(re.findall(r"--[a-z][a-z-]+", (DOCS / "reference" / "commands.md").read_text()))
    assert named - known == set()

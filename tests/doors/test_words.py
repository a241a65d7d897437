"""Words that current scientific English does without."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS = re.compile(r"(?<![a-z])(told|shall|anew|besides|beware|to blame)(?![a-z])", re.IGNORECASE)
KINDS = {".py", ".md", ".ipynb", ".yml", ".toml", ".html", ".j2", ".js", ".css", ".sh"}
FOLDERS = ("widgets", "notebooks", "book", "tests")
OTHERS = {"_build", "published", "vendor", "__pycache__"}


def texts() -> list[Path]:
    """Everything that is written here, but this file and the licences of data, which are theirs."""
    inside = [path for name in FOLDERS for path in (ROOT / name).rglob("*")]
    found = [path for path in [*ROOT.iterdir(), *inside] if path.suffix in KINDS and not OTHERS & {*path.parts}]
    return [path for path in found if path not in (ROOT / "widgets/frostline/data/datasets/README.md", Path(__file__))]


def test_there_are_texts():
    assert len(texts()) > 500


@pytest.mark.parametrize("text", ["which is Told", "_told(", "writes anew"])
def test_a_word_is_found(text):
    assert WORDS.search(text)


def test_none_is_used():
    found = {str(path.relative_to(ROOT)): WORDS.findall(path.read_text()) for path in texts()}
    assert {name: words for name, words in found.items() if words} == {}

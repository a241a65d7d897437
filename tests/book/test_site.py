"""The book as it is built: links, box, files beside the page, and the refusal of a stale page."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from published_project import NAME, ROOT, SOURCE, UNRUN, build_book, executed_notebook, publish
from site_crawler import crawl, find_broken

VENDORED = ROOT / "widgets" / "frostline" / "book" / "vendor" / "html-manager"


@pytest.fixture(scope="module")
def page(site: Path) -> BeautifulSoup:
    return BeautifulSoup((site / "published" / f"{NAME}.html").read_bytes(), "html.parser")


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """A copy of the built project without its site and with few pages, which are built in seconds, to be altered."""
    root = shutil.copytree(built, tmp_path / "project", ignore=shutil.ignore_patterns("build"))
    files = [f"published/{NAME}", f"published/{UNRUN}", "status"]
    lines = ["format: jb-book", "root: index", "chapters:", *(f"  - file: {file}" for file in files)]
    (root / "book" / "_toc.yml").write_text("\n".join(lines) + "\n")
    (root / "book" / "index.md").write_text("# A small book\n")
    return root


def test_everything_on_the_site_resolves_inside_it(site: Path) -> None:
    """Over HTTP: links, anchors, assets, and a text for every image; and every page can be reached."""
    found = crawl(site)
    assert found.problems == []
    reached = {found.short(page) for page in found.pages}
    there = {p.relative_to(site).as_posix() for p in site.rglob("*.html") if "_static" not in p.parts}
    assert there - reached <= {"genindex.html", "search.html", "py-modindex.html"}


def test_crawler_would_notice(tmp_path: Path) -> None:
    body = '<a href="gone.html">x</a><a href="#gone">x</a><img src="gone.png"><script src="https://a.example/a.js">'
    (tmp_path / "index.html").write_text(f"<html><body>{body}</script></body></html>")
    assert [problem.split(": ", 2)[1] for problem in find_broken(tmp_path)] == [
        "dead link",
        "image without alt",
        "dead link",
        "asset of another host",
        "dead anchor",
    ]


def test_every_page_of_the_table_of_contents_is_there(built: Path, site: Path) -> None:
    pages = {p.relative_to(site).as_posix() for p in site.rglob("*.html") if "_static" not in p.parts}
    toc = (built / "book" / "_toc.yml").read_text()
    listed = re.findall(r"(?:root|file): (\S+)", toc)
    assert "index" in listed
    assert pages == {f"{name}.html" for name in [*listed, "genindex", "py-modindex", "search"]}


def test_box_stands_once_under_the_title(page: BeautifulSoup) -> None:
    (box,) = page.select(".frostline-status")
    assert box == page.select_one("article h1").find_next_sibling()
    assert "passed: 4 files, 24 numbers recomputed" in box.get_text()


def test_files_beside_the_page_are_those_of_the_run(built: Path, site: Path) -> None:
    published = built / "book" / "published"
    files = [SOURCE, *(f"book/published/{p.relative_to(published)}" for p in published.rglob("*.*"))]
    files = [file for file in files if not file.endswith(f"{UNRUN}.md")]
    assert len(files) == 7
    for file in files:
        assert (site / file.removeprefix("book/")).read_bytes() == (built / file).read_bytes()


def test_build_leaves_the_executed_notebook_as_it_was(executed: tuple[bytes, bytes], built: Path) -> None:
    assert (built / "book" / "published" / f"{NAME}.ipynb").read_bytes() == executed[1]


def test_nothing_of_thebe_or_a_math_renderer(page: BeautifulSoup) -> None:
    scripts = " ".join(str(script) for script in page.find_all("script")).lower()
    assert "thebe" not in scripts
    assert "mathjax" not in scripts


def edit_title(source: Path) -> None:
    notebook = json.loads(source.read_text())
    notebook["cells"][0]["source"] = "# Another title"
    source.write_text(json.dumps(notebook))


def test_altered_and_stale_pages_are_not_released(copied: Path) -> None:
    """One build for both; `test_status_box` tells what a draft may be from what may not even be drawn."""
    (copied / "book" / "published" / NAME / "report.csv").write_text("strategy,accuracy\npca_logistic,0.9\n")
    edit_title(copied / SOURCE)
    done = build_book(copied, release=True)
    assert done.returncode != 0
    assert f"published/{NAME}/report.csv: altered: its sha256 is not the one of the run" in done.stdout
    assert f"{SOURCE}: stale: the source notebook has changed since; run it again" in done.stdout
    assert list(copied.glob("build/site/_build/html/**/*.html")) == []


def test_stale_and_unrun_pages_are_drafts(copied: Path) -> None:
    """One build for both: a tutorial whose source was edited, and one that is declared and was never run."""
    edit_title(copied / SOURCE)
    done = build_book(copied)
    assert done.returncode == 0, done.stdout[-6000:]
    site = copied / "build" / "site" / "_build" / "html"
    page = BeautifulSoup((site / "published" / f"{NAME}.html").read_bytes(), "html.parser")
    assert page.select_one(".frostline-status .frostline-draft").get_text().startswith("Draft.")
    status = BeautifulSoup((site / "status.html").read_bytes(), "html.parser")
    rows = {row["data-tutorial"]: row.get_text(" ") for row in status.select("tbody tr[data-tutorial]")}
    assert "stale: the source notebook has changed since" in rows[NAME]
    assert "not run" in rows[UNRUN]
    stub = BeautifulSoup((site / "published" / f"{UNRUN}.html").read_bytes(), "html.parser")
    assert "It has not been run yet" in stub.select_one(".frostline-draft").get_text()
    assert find_broken(site) == []


def test_a_repository_a_notebook_after_its_stand_in_and_a_foreign_picture(copied: Path) -> None:
    """One build for three: buttons lead to the sources, what was a stand-in is a page, and one warning fails it all."""
    config, index = copied / "_config.yml", copied / "book" / "index.md"
    url = "https://github.com/lab/frostline"
    config.write_text(config.read_text().replace('  url: ""', f"  url: {url}"))
    picture = "https://example.org/badge.svg"
    index.write_text(index.read_text() + f'\n<img alt="badge" src="{picture}">\n')
    stand_in = copied / "book" / "published" / f"{UNRUN}.md"
    assert stand_in.is_file()
    notebook = json.dumps(executed_notebook()).encode()
    publish(copied, notebook, notebook, UNRUN)  # as `make publish` does after `make quickstart`

    done = build_book(copied)

    assert done.returncode != 0
    warnings = re.findall(r"WARNING: ([^\x1b\n]*)", done.stdout)
    assert warnings == [f"the page would fetch {picture} from another host"]
    assert not stand_in.exists()
    site = copied / "build" / "site" / "_build" / "html"
    page = BeautifulSoup((site / "published" / f"{NAME}.html").read_bytes(), "html.parser")
    links = {str(link["href"]) for link in page.select("a[href^='https://']")}
    assert links >= {
        url,
        f"{url}/edit/main/{SOURCE}",
        f"https://mybinder.org/v2/gh/lab/frostline/main?urlpath=lab/tree/{SOURCE}",
        f"https://colab.research.google.com/github/lab/frostline/blob/main/{SOURCE}",
    }
    status = BeautifulSoup((site / "status.html").read_bytes(), "html.parser")
    assert f"{url}/edit/main/book/status.md" in {str(link["href"]) for link in status.select("a[href]")}
    rows = {row["data-tutorial"]: row.get_text(" ") for row in status.select("tbody tr[data-tutorial]")}
    assert "not run" not in rows[UNRUN]
    assert find_broken(site) == [f"index.html: asset of another host: {picture}"]


def test_vendored_files_are_those_that_are_written_down() -> None:
    text = (VENDORED / "VENDORED.md").read_text()
    written = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", text, re.MULTILINE))
    there = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in VENDORED.iterdir()}
    own = {"VENDORED.md", "assets_path.js"}
    assert {name: digest for name, digest in there.items() if name not in own} == written


def test_vendored_files_carry_version_and_licence() -> None:
    text = (VENDORED / "VENDORED.md").read_text()
    assert re.search(r"`@jupyter-widgets/html-manager` \d+\.\d+\.\d+ from the npm registry", text)
    assert re.search(r"sha256 `[0-9a-f]{64}`", text)
    for licence in ("LICENSE", "embed.js.LICENSE.txt", "fontawesome.LICENSE.txt"):
        assert f"`{licence}`" in text
        assert (VENDORED / licence).stat().st_size > 300

"""Publishing one tutorial after the other, in any order, and again after a failure: the book builds each time."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import published_project as project

NAMES = ("first", "second", "third")
TOC = "format: jb-book\nroot: index\nchapters:\n" + "".join(f"  - file: published/{name}\n" for name in NAMES)
WALK = """
import json, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import published_project as project
from frostline.publishing import states
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

SETTINGS = dict(
    extensions=["myst_nb", "sphinx_external_toc", "frostline.book"],
    external_toc_exclude_missing=True, nb_execution_mode="off", html_theme="basic",
    exclude_patterns=["published/*/**"],
)

def build(root, fresh):
    book, places = str(root / "book"), (f"{{root}}/site", f"{{root}}/trees")
    with docutils_namespace():
        app = Sphinx(book, None, *places, "dummy", SETTINGS, None, sys.stderr, fresh, True)
        app.build()
    assert app.statuscode == 0
    return ["not been run yet" in app.env.get_doctree(f"published/{{name}}").astext() for name in {names!r}]

def step(root, what):
    notebook = json.dumps(project.executed_notebook()).encode()
    published = root / "book" / "published"
    if what.startswith("fail "):
        states.write_failure(published, what.removeprefix("fail "), "no cells", root)
    elif what != "build":
        (published / f"{{what}}.failed.json").unlink(missing_ok=True)
        if not (published / what).exists():
            project.publish(root, notebook, notebook, what)

for number, walk in enumerate(json.loads(sys.argv[2])):
    root = Path(sys.argv[1]) / str(number)
    (root / "book" / "published").mkdir(parents=True)
    (root / "book" / "index.md").write_text("# A book\\n")
    (root / "book" / "_toc.yml").write_text({toc!r})
    for place, what in enumerate(walk):
        step(root, what)
        drafts = build(root, fresh=number < 6)  # the others go on from what Sphinx knew
        published = root / "book" / "published"
        ends = ("ipynb", "failed.json")
        known = [any((published / f"{{name}}.{{end}}").exists() for end in ends) for name in {names!r}]
        assert drafts == [not each for each in known], (walk, place, drafts)
print("built")
"""


def test_every_order_builds_the_book_each_time(tmp_path: Path) -> None:
    """Sphinx with the extension alone, in one process; stand-ins of earlier builds lie where they were left."""
    walks = [[*order] for order in itertools.permutations(NAMES)]
    walks[0] += [NAMES[0]]
    walks += [
        ["build", "third", "build", "first"],
        ["fail second", "second", "first"],
        ["first", "fail second", "fail first", "second", "build", "third"],
    ]
    code = WALK.format(tests=str(Path(project.__file__).parent), toc=TOC, names=NAMES)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path, json.dumps(walks)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "built"

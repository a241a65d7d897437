"""A folder is replaced when it is as its manifest says, and nothing of anybody's is ever removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.artifacts import folders, runs
from frostline.artifacts.manifests import read_manifest
from frostline.errors import ArtifactError
from frostline.hashes import file_sha256

RUN, OTHER = "1" * 32, "2" * 32


def write_artifacts(folder: Path, run: str = RUN) -> Path:
    """A folder that is as its manifest says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(f"# Report of {run}\n")
    (folder / "report.csv").write_text("strategy\nlora\n")
    listed = {path.name: {"sha256": file_sha256(path)} for path in sorted(folder.glob("report.*"))}
    time = "2026-01-01T10:00:00+00:00"
    said = {"run": run, "tutorial": "t", "started": time, "ended": time, "parameters": {}, "seed": 1, "strategies": []}
    said |= {
        "format": 1,
        "repeats": [],
        "studies": [],
        "dataset": {"name": "d", "label_key": "l"},
        "versions": {},
        "files": listed,
    }
    (folder / "manifest.json").write_text(json.dumps(said))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def replace(folder: Path, new: Path, *, expected: bool = True, keeps: bool = False) -> Path | None:
    return folders.replace(folder, new, lambda _: expected, lambda _: keeps)


@pytest.fixture
def out(tmp_path) -> Path:
    return write_artifacts(tmp_path / "out")


@pytest.fixture
def new(tmp_path) -> Path:
    return write_artifacts(tmp_path / "staging", OTHER)


@pytest.fixture(autouse=True)
def nothing_stays_held():
    before = set(runs._held)  # of tests that began a run and saved nothing
    yield
    assert set(runs._held) <= before


def own_file(folder):
    (folder / "my_notes.md").write_text("three days of notes")


def own_folder(folder):
    (folder / "figures").mkdir()
    (folder / "figures" / "fig1.svg").write_text("<svg/>")


def empty_folder(folder):
    (folder / "to do").mkdir()


def hidden_file(folder):
    (folder / ".env").write_text("KEY=1")


def edited_file(folder):
    (folder / "report.md").write_text("# Report, with my corrections\n")


def link(folder):
    (folder / "report.csv").rename(folder.parent / "moved.csv")
    (folder / "report.csv").symlink_to(folder.parent / "moved.csv")


def another_run_inside(folder):
    write_artifacts(folder / "of yesterday")


def copied_manifest(folder):
    (folder / "report.md").unlink()
    (folder / "report.csv").write_text("mine")


def folder_like_a_system_file(folder):
    (folder / ".DS_Store").mkdir()
    (folder / ".DS_Store" / "notes").write_text("x")


def fewer_files(folder):
    (folder / "report.csv").unlink()


FOREIGN = {
    own_file: "holds my_notes.md, which no run wrote",
    own_folder: "holds figures, which no run wrote",
    empty_folder: "holds to do, which no run wrote",
    hidden_file: "holds .env, which no run wrote",
    edited_file: "holds report.md, changed since the run",
    link: "holds report.csv, changed since the run",
    another_run_inside: "holds of yesterday, which no run wrote",
    copied_manifest: "lacks report.md, which its manifest.json lists",
    folder_like_a_system_file: "holds .DS_Store, which no run wrote",
    fewer_files: "lacks report.csv, which its manifest.json lists",
}


@pytest.mark.parametrize(("fill", "said"), FOREIGN.items(), ids=lambda value: getattr(value, "__name__", ""))
class TestWhatIsSomebodys:
    def test_it_is_refused_before_the_work(self, out, fill, said):
        fill(out)
        before = contents(out)
        with pytest.raises(ArtifactError, match=f"OUTPUT_DIR .*out {said}.*name another folder"):
            folders.take(out)
        assert contents(out) == before

    def test_it_survives_when_it_came_while_the_run_went_on(self, out, new, fill, said):
        folders.take(out)
        fill(out)
        before, made = contents(out), contents(new)
        with pytest.raises(ArtifactError, match=said):
            replace(out, new)
        runs.let_go(out)
        assert contents(out) == before
        assert contents(new) == made

    def test_it_survives_when_it_came_at_the_last_moment(self, out, new, fill, said, monkeypatch):
        rename = os.rename

        def rename_and_fill(source, target):
            rename(source, target)
            if Path(source) == out:
                monkeypatch.undo()
                fill(Path(target))

        monkeypatch.setattr(os, "rename", rename_and_fill)
        with pytest.raises(ArtifactError, match=f"out {said}"):
            replace(out, new)
        assert read_manifest(out).run == RUN
        assert sorted(path.name for path in out.parent.iterdir() if path.name != "moved.csv") == ["out", "staging"]


@pytest.mark.parametrize("keeps", [False, True])
def test_a_folder_as_its_manifest_says_is_replaced_or_kept_under_a_free_name(out, new, keeps):
    (out.parent / "out-1").write_text("a file of mine")
    old, made = contents(out), contents(new)
    kept = replace(out, new, keeps=keeps)
    assert contents(out) == made
    assert kept == (out.parent / "out-2" if keeps else None)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "out-1", *(["out-2"] if keeps else [])]
    if kept is not None:
        assert contents(kept) == old


def test_artifacts_that_came_while_the_run_went_on_stay(out, new):
    with pytest.raises(ArtifactError, match="artifacts of another run, which came while this one went on"):
        replace(out, new, expected=False)
    assert read_manifest(out).run == RUN
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "staging"]


def test_system_files_are_in_nobodys_way_and_are_carried_over(out, new):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._report.md"):
        (out / name).write_bytes(b"\0")
    (out / ".ipynb_checkpoints").mkdir()
    (out / ".ipynb_checkpoints" / "notes-checkpoint.md").write_text("x")
    folders.refuse_others(out)
    replace(out, new)
    assert read_manifest(out).run == OTHER
    assert (out / ".ipynb_checkpoints" / "notes-checkpoint.md").exists()
    assert (out / ".DS_Store").exists()


@pytest.mark.parametrize("name", ["", ".DS_Store"])
def test_an_empty_folder_is_replaced(tmp_path, new, name):
    (tmp_path / "empty").mkdir()
    if name:
        (tmp_path / "empty" / name).touch()
    replace(tmp_path / "empty", new)
    assert read_manifest(tmp_path / "empty").run == OTHER


def test_a_write_protected_folder_is_left_alone(out, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ArtifactError, match="out is write-protected"):
        folders.take(out)


class TestTrying:
    @pytest.mark.parametrize("below", ["", "sub", "sub/deeper"])
    def test_a_file_in_the_way_is_named(self, tmp_path, below):
        (tmp_path / "afile").write_text("x")
        with pytest.raises(ArtifactError, match=r"OUTPUT_DIR .*afile is a file; name a folder"):
            folders.whole_path(tmp_path / "afile" / below)

    @pytest.mark.parametrize("text", ["a\0b", "x" * 300, "loop/sub"])
    def test_what_can_be_no_folder_is_refused(self, tmp_path, monkeypatch, text):
        monkeypatch.chdir(tmp_path)
        Path("loop").symlink_to("loop")
        with pytest.raises(ArtifactError, match="OUTPUT_DIR"):
            folders.take(folders.whole_path(text))

    def test_a_name_that_leaves_no_room_for_hidden_ones_is_refused(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"cannot be written.*name another folder"):
            folders.take(tmp_path / ("x" * 254))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("text", [".", "", "..", "/"])
    def test_the_current_folder_and_those_above_cannot_be_replaced(self, tmp_path, monkeypatch, text):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ArtifactError, match="current folder or one above it; name a folder in it"):
            folders.whole_path(text)

    def test_the_top_of_a_disk_cannot_be_replaced(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "disk")
        (tmp_path / "disk").mkdir()
        with pytest.raises(ArtifactError, match=r"top of a disk.*name a folder in it"):
            folders.whole_path(tmp_path / "disk")

    @pytest.mark.parametrize("where", ["mkdir", "write_bytes"])
    def test_a_folder_that_cannot_be_written_is_named_with_a_remedy(self, tmp_path, monkeypatch, where):
        def fail(*_args, **_kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, where, fail)
        with pytest.raises(
            ArtifactError, match=r"a/out cannot be written \(No space left on device\); make .*a writable"
        ):
            folders.take(tmp_path / "a" / "out")

    def test_trying_leaves_no_trace_but_the_folders_above(self, tmp_path):
        assert folders.take(tmp_path / "a" / "out")
        runs.let_go(tmp_path / "a" / "out")
        assert [path.name for path in tmp_path.rglob("*")] == ["a"]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from frostline.artifacts import folders
sys.path.insert(0, {tests!r})
from test_folders import write_artifacts, RUN, OTHER

def replace_and_die(top, step, before, keeps):
    calls = 0
    def deadly(original):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if before and calls == step: os.kill(os.getpid(), signal.SIGKILL)
            done = original(*args, **kwargs)
            if not before and calls == step: os.kill(os.getpid(), signal.SIGKILL)
            return done
        return call
    os.rename, os.unlink = deadly(os.rename), deadly(os.unlink)
    folders.take(top / "out")
    folders.replace(top / "out", top / "staging", lambda _: True, lambda _: keeps)

for keeps in (False, True):
    for before in (False, True):
        for step in range(1, 20):
            top = Path(sys.argv[1]) / f"{{keeps}}-{{before}}-{{step}}"
            write_artifacts(top / "out"), write_artifacts(top / "staging", OTHER)
            pid = os.fork()
            if not pid:
                replace_and_die(top, step, before, keeps)
                os._exit(0)
            if os.waitpid(pid, 0)[1] == 0:
                break
"""


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_step_of_replacing_loses_nothing(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent))
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    cases = sorted(tmp_path.iterdir())
    assert len(cases) > 12
    for top in cases:
        folders.recover_if_free(top / "out")
        folders.refuse_others(top / "out")
        found = {read_manifest(path.parent).run for path in top.rglob("manifest.json") if path.parent.name[0] != "."}
        assert found >= {OTHER}, top  # what was made
        assert found >= {RUN} or read_manifest(top / "out").run == OTHER, top
        assert read_manifest(top / "out").run in (RUN, OTHER), top
        if "True" in top.name.split("-")[0]:
            assert found >= {RUN}, top  # it was to be kept
        assert folders.take(top / "out")  # the dead process holds nothing
        runs.let_go(top / "out")


def test_what_stood_aside_gets_another_name_where_something_is_in_its_place(tmp_path, out, capsys):
    (tmp_path / ".out.before").mkdir()
    write_artifacts(tmp_path / ".out.before", OTHER)
    folders.recover_if_free(out)
    assert read_manifest(tmp_path / "out-1").run == OTHER
    assert read_manifest(out).run == RUN
    assert capsys.readouterr().out == "an earlier out is now beside it, as out-1\n"


class TestRescue:
    def test_it_goes_beside_the_folder(self, tmp_path):
        kept, lacking = folders.rescue(tmp_path / "out", lambda folder: (folder / "a").write_text("x") and None)
        assert lacking is None
        assert kept.parent == tmp_path
        assert kept.name.startswith("out-rescued-")

    def test_it_goes_into_the_cache_and_then_among_temporary_files(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
        tried = []

        def write(folder):
            tried.append(folder)
            if len(tried) < 3:
                raise OSError("full")

        kept, _ = folders.rescue(tmp_path / "out", write)
        assert [path.parent.name for path in tried[:2]] == [tmp_path.name, "rescued"]
        assert kept == tried[2]
        assert not tried[0].exists()
        kept.rmdir()

    def test_what_was_written_stays_where_the_rest_cannot_be_written_anywhere(self, tmp_path):
        def write(folder):
            (folder / "a").write_text("x")
            raise TypeError("no file holds this")

        kept, lacking = folders.rescue(tmp_path / "out", write)
        assert (kept.parent, str(lacking)) == (tmp_path, "no file holds this")
        assert [path.name for path in kept.iterdir()] == ["a"]

    def test_where_nothing_can_be_written_it_says_so(self, tmp_path):
        with pytest.raises(OSError, match="full; full; full"):
            folders.rescue(tmp_path / "out", lambda _: (_ for _ in ()).throw(OSError("full")))

"""Remedies for checkpoints, books and folders: what a message says to do helps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from remedy_parts import call, cells, refusal

import frostline
from frostline.artifacts import folders, runs
from frostline.cells import saving
from frostline.encoder.catalogue import FILES
from frostline.encoder.checkpoints import load_checkpoint, official_state
from frostline.publishing import starting, tutorials

pytestmark = pytest.mark.slow


class TestCheckpoints:
    """What is no checkpoint, and where another may be had."""

    @pytest.mark.filterwarnings("ignore:You are using `torch.load`")
    def test_a_folder_of_the_official_files_by_its_path(self, small_checkpoint, tmp_path):
        """Where there is no network; the files are those of another encoder."""
        message = refusal(lambda: load_checkpoint("whole-human"))
        names, source = re.search(r"fetch (.*?) elsewhere into one folder, from (\S+)", message).groups()
        assert set(names.split(", ")) == set(FILES)
        assert source.startswith("https://")
        known = load_checkpoint(small_checkpoint)
        for name in names.split(", "):
            if name.endswith(".json"):
                shutil.copy(small_checkpoint / name, tmp_path)
            else:
                torch.save(official_state(known.encoder()), tmp_path / name)
        assert load_checkpoint(tmp_path).encoder().config == known.config
        other = re.search(r"and pass its path, or use '(.*)'", message)[1]
        assert load_checkpoint(other).name == "mini"

    def test_an_unknown_name(self, small_checkpoint, tmp_path):
        message = refusal(lambda: load_checkpoint("whole_human"))
        known = re.search(r"known: (.*?)\.", message)[1].split(", ")
        assert {"mini", "whole-human"} <= set(known)
        assert load_checkpoint(known[0]).name == "mini"
        assert "A folder with args.json, vocab.json and weights works too" in message
        assert load_checkpoint(small_checkpoint).encoder()

    @pytest.mark.parametrize("absent", [("args.json",), ("args.json", "vocab.json"), ("model.safetensors",)])
    def test_files_that_a_folder_lacks(self, small_checkpoint, tmp_path, absent):
        folder = shutil.copytree(small_checkpoint, tmp_path / "some")
        for name in absent:
            (folder / name).unlink()
        message = refusal(lambda: load_checkpoint(folder))
        named = re.search(r"(?:lacks|holds no weights) \(?([^()]*?)(?: or [^()]*)?\)?$", message)[1].split(", ")
        assert tuple(named) == absent
        for name in named:
            shutil.copy(small_checkpoint / name, folder)
        assert load_checkpoint(folder).encoder()

    def test_embeddings_of_another_model(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        message = refusal(lambda: load_checkpoint(tmp_path))
        place, strategy = re.search(
            r"embeddings into (adata\.obsm) and use the strategy (probe_obsm:)KEY", message
        ).groups()
        adata = cells("ab" * 12)
        exec(f"{place}['X_other'] = values", {"adata": adata, "values": np.random.default_rng(0).normal(size=(24, 3))})
        dataset = frostline.load_dataset(adata, "kind")
        (built,) = frostline.strategies.build([f"{strategy}X_other"])
        built.ensure_applicable(dataset, frostline.split(dataset))


class TestBook:
    """What stands between a notebook and its page."""

    @pytest.fixture
    def lab(self, tmp_path, monkeypatch):
        starting.init(tmp_path / "lab")
        monkeypatch.chdir(tmp_path / "lab")
        return tmp_path / "lab"

    def source(self, lab):
        (path,) = (lab / "notebooks").glob("*.ipynb")
        return path.relative_to(lab)

    def add_line(self, message):
        """Put the line that a message holds into the file that it names."""
        line, toc = re.search(r"add the line `(.*?)` to (\S+)$", message).groups()
        with open(toc, "a", encoding="utf-8") as file:
            file.write(f"\n  {line}\n")

    def test_no_book_here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        command = re.search(r"`(frostline init .*?)`", refusal(tutorials.declared_tutorials))[1]
        assert call(command, monkeypatch) == 0
        monkeypatch.chdir(command.split()[-1])
        assert tutorials.declared_tutorials() == ["first_comparison"]

    def test_a_folder_that_holds_something(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        assert refusal(lambda: starting.init(tmp_path)).endswith("is not empty; name a new folder")
        assert starting.init(tmp_path / "new")

    def test_a_notebook_that_is_not_declared(self, lab):
        new = shutil.copy(self.source(lab), "notebooks/new.ipynb")
        message = refusal(lambda: tutorials.refuse_undeclared([lab.relative_to(lab) / new]))
        self.add_line(message)
        tutorials.refuse_undeclared([lab.relative_to(lab) / new])
        assert tutorials.declared_tutorials() == ["first_comparison", "new"]

    @pytest.mark.parametrize("name", ["mine.ipynb", "it's mine.ipynb", "run #2: $HOME.ipynb"])
    def test_a_notebook_of_another_folder(self, lab, tmp_path, name):
        elsewhere = tmp_path / name
        shutil.copy(self.source(lab), elsewhere)
        message = refusal(lambda: tutorials.refuse_undeclared([elsewhere]))
        command = re.search(r"copy it \((.*)\) and add", message)[1]
        subprocess.run(command, shell=True, check=True)
        self.add_line(message)
        here = lab.relative_to(lab) / "notebooks" / name
        tutorials.refuse_undeclared([here])
        assert tutorials.unfit(here) is None

    def test_a_book_that_declares_nothing(self, lab):
        toc = tutorials.TOC
        toc.write_text("format: jb-book\nroot: index\n")
        message = refusal(tutorials.declared_notebooks)
        line = re.search(r"add a line such as `(.*)`", message)[1]
        toc.write_text(toc.read_text() + "chapters:\n  " + line.replace("NAME", "first_comparison") + "\n")
        assert tutorials.declared_notebooks() == [self.source(lab)]

    def test_a_folder_of_this_machine(self, lab):
        there = str(lab / "artifacts" / "x")
        message = refusal(lambda: tutorials.prepare(self.source(lab), {"OUTPUT_DIR": there}))
        assert message.endswith("give it relative to the current folder")
        assert refusal(lambda: tutorials.prepare(self.source(lab), {"OUTPUT_DIR": "~/x"})) == message.replace(
            there, "~/x"
        )
        assert (
            tutorials.prepare(self.source(lab), {"OUTPUT_DIR": os.path.relpath(there)}).values["OUTPUT_DIR"]
            == "artifacts/x"
        )


@pytest.fixture
def common_user(monkeypatch):
    """A folder of one's own and no right to anything else: root, who may do all, becomes another user for a while."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders.take(folder / "first")  # imports what it takes, which the other user may have no right to read
        runs.let_go(folder / "first")
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(folder, 65534, 65534)
            os.setresuid(65534, 65534, 0)
        try:
            yield folder
        finally:
            if is_root:
                os.setresuid(0, 0, 0)


class TestFolders:
    """Where results may not be written, or files not be read."""

    @pytest.mark.parametrize("way", ["make it writable", "another"])
    def test_one_that_is_not_writable(self, common_user, way):
        (common_user / "closed").mkdir(mode=0o555)
        out = common_user / "closed" / "out"
        message = refusal(lambda: folders.take(out))
        made = re.search(
            r"cannot be written \(Permission denied\); make (.*) writable, or name another folder$", message
        )
        if way == "another":
            out = common_user / "another"
        else:
            Path(made[1]).chmod(0o755)
        assert folders.take(out)
        runs.let_go(out)

    @pytest.mark.parametrize("way", ["moved", "another"])
    @pytest.mark.parametrize("protected", [False, True])
    def test_one_that_holds_something(self, common_user, way, protected):
        out = common_user / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
        out.chmod(0o555 if protected else 0o755)
        message = refusal(lambda: folders.take(out))
        assert ("is write-protected" if protected else "no folder of artifacts (thesis.txt)") in message
        assert message.endswith("it would be replaced whole: move it, or name another folder")
        if way == "another":
            out = common_user / "another"
        else:
            out.rename(common_user / "moved")
        assert folders.take(out)
        runs.let_go(out)

    @pytest.mark.parametrize("name", ["afile/out", ".", ".."])
    def test_one_that_cannot_be_replaced(self, tmp_path, monkeypatch, name):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        Path("afile").touch()
        assert re.search(r"name a folder (in it|that is not below a file)$", refusal(lambda: folders.whole_path(name)))
        assert folders.whole_path("out").parent == Path.cwd()

    def test_a_file_that_may_not_be_read(self, common_user):
        path = common_user / "it's mine.h5ad"
        cells("ab" * 12).write_h5ad(path)
        path.chmod(0)
        message = refusal(lambda: frostline.load_dataset(path, "kind"))
        command = re.search(r"may not be read by you: (chmod .*), or ask its owner$", message)[1]
        subprocess.run(command, shell=True, check=True)
        assert len(frostline.load_dataset(path, "kind")) == 24

    def test_where_an_embedding_goes(self, tmp_path):
        source, output = tmp_path / "in.h5ad", tmp_path / "it's new" / "out.npy"
        source.touch()
        message = refusal(lambda: saving.refuse_bad_target(source, output))
        subprocess.run(re.search(r"make it first \((.*)\)$", message)[1], shell=True, check=True)
        saving.refuse_bad_target(source, output)

    def test_an_embedding_that_cannot_be_written_there(self, common_user):
        (common_user / "closed").mkdir(mode=0o555)
        message = refusal(lambda: saving.refuse_bad_target(Path("in.h5ad"), common_user / "closed" / "out.npy"))
        assert message.endswith("name another one")
        saving.refuse_bad_target(Path("in.h5ad"), common_user / "out.npy")

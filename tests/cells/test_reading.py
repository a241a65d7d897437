"""Files: each kind that is no readable .h5ad gets words of its own, at every door, and the line in them works."""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io, sparse

from frostline.cells import reading
from frostline.cells.datasets import load_dataset, refuse_unknown_source
from frostline.cells.previews import path_problem, preview
from frostline.cells.reading import read_h5ad
from frostline.errors import DatasetError
from frostline.pretraining.corpus import read_corpus

N, M = 12, 6
COUNTS = np.random.default_rng(0).poisson(3.0, (N, M)).astype(np.float32) + 1


@pytest.fixture
def good(tmp_path):
    """An .h5ad file with raw and a layer."""
    obs = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * (N // 2))}, index=[f"c{i}" for i in range(N)])
    adata = anndata.AnnData(sparse.csr_matrix(COUNTS), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(M)]))
    adata.raw, adata.layers["umi"] = adata.copy(), adata.X.copy()
    adata.write_h5ad(tmp_path / "good.h5ad")
    return tmp_path / "good.h5ad"


def words(path) -> str:
    """What every door says of a file: the same."""
    said = set()
    for door in (read_h5ad, preview, lambda source: load_dataset(source, "kind"), lambda source: read_corpus([source])):
        with pytest.raises(DatasetError) as error:
            door(path)
        said.add(str(error.value))
    assert len(said) == 1, said
    return said.pop()


def run_line(line: str) -> None:
    with warnings.catch_warnings(action="ignore"):  # of names that stand twice, which the line mends
        exec(line, {})


class TestOtherKinds:
    @pytest.mark.parametrize("name", ["cells.h5ad.gz", "cells.h5ad"])
    def test_gzip_and_its_line(self, good, name):
        path = good.with_name(name)
        path.write_bytes(gzip.compress(good.read_bytes()))
        said = words(path)
        assert said == path_problem(str(path))
        assert "is compressed with gzip; unpack it first: " in said
        subprocess.run(said.split("first: ")[1], shell=True, check=True)
        assert len(load_dataset(good.with_name("cells.h5ad"), "kind")) == N

    @pytest.mark.parametrize("head", [b"PK\x03\x04", b"\xfd7zXZ\x00", b"BZh9", b"\x28\xb5\x2f\xfd"])
    def test_other_archives(self, tmp_path, head):
        (tmp_path / "cells.h5ad").write_bytes(head + b"...")
        assert "is compressed with " in words(tmp_path / "cells.h5ad")

    @pytest.mark.parametrize("packer", ["zip -q {0}.zip {0}", "xz -k {0}", "bzip2 -k {0}", "zstd -q -k {0}"])
    @pytest.mark.parametrize("renamed", [False, True])
    def test_other_archives_and_their_lines(self, good, monkeypatch, packer, renamed):
        """The name of the file inside a .zip is not known, so that the line unpacks it into the current folder."""
        monkeypatch.chdir(good.parent)
        path = good.rename(good.with_name("it's good.h5ad"))
        if shutil.which(packer.split()[0]) is None and not packer.startswith("zip"):
            pytest.skip(f"{packer.split()[0]} is not installed")
        if packer.startswith("zip"):
            with zipfile.ZipFile(f"{path.name}.zip", "w") as file:
                file.write(path.name)
        else:
            subprocess.run(packer.format(shlex.quote(path.name)), shell=True, check=True)
        path.unlink()
        (packed,) = path.parent.glob("it's good.h5ad.*")
        if renamed:
            packed = packed.rename(path)
        subprocess.run(words(packed).split("first: ")[1], shell=True, check=True)
        assert len(load_dataset(path, "kind")) == N

    def test_an_address_and_its_line(self, good, tmp_path, monkeypatch):
        """From a server on this machine."""
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        good.rename(good.with_name("it's good.h5ad"))
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/it's%20good.h5ad?download=1"
            said = path_problem(address)
            line, name = re.search(r"download it first \((.*)\), then give (.*)$", said).groups()
            subprocess.run(f"{line} -sS --noproxy '*'", shell=True, check=True)
            server.shutdown()
        assert len(load_dataset(name, "kind")) == N

    @pytest.mark.parametrize("name", ["cells.h5", "cells.h5ad"])
    def test_10x_and_its_line(self, tmp_path, name, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / name
        ours = sparse.csc_matrix(COUNTS.T.astype(np.int32))  # genes x cells
        with h5py.File(path, "w") as file:
            group = file.create_group("matrix")
            group["barcodes"] = np.array([f"AC-{i}" for i in range(N)], dtype="S")
            group["data"], group["indices"], group["indptr"] = ours.data, ours.indices, ours.indptr
            group["shape"] = np.array(ours.shape, np.int32)
            group["features/id"], group["features/name"] = ([f"{k}{i // 2}" for i in range(M)] for k in "EG")
            group["features/feature_type"], group["features/genome"] = [["Gene Expression"] * M, ["GRCh38"] * M]
        said = words(path)
        assert re.search(r"is a file of 10x \(Cell Ranger\).*sc\.read_10x_h5\(", said)
        run_line(said.split("write one with ")[1])
        converted = tmp_path / ("cells.h5ad" if name == "cells.h5" else "cells.converted.h5ad")
        np.testing.assert_array_equal(read_h5ad(converted).X.toarray(), COUNTS)
        assert read_h5ad(converted).var_names.is_unique

    def test_zarr_and_its_line(self, good, monkeypatch):
        monkeypatch.chdir(good.parent)
        folder = good.with_name("cells.zarr")
        with warnings.catch_warnings(action="ignore"):  # of the next version of zarr
            anndata.read_h5ad(good).write_zarr(folder)
        said = words(folder)
        assert said == path_problem(str(folder))
        run_line(said.split("write one with ")[1])
        assert len(load_dataset(good.with_name("cells.h5ad"), "kind")) == N

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("cells.csv", "sc.read_csv("),
            ("cells.loom", "sc.read_loom("),
            ("cells.mtx", "sc.read_mtx("),
            ("cells.rds", "in R with anndataR::write_h5ad(readRDS("),
            ("cells.RData", "in R with anndataR::write_h5ad(get(load("),
            ("cells.h5Seurat", "in R with SeuratDisk::Convert("),
        ],
    )
    def test_other_endings(self, tmp_path, name, line):
        for content in (b"x", gzip.compress(b"x")):  # R packs its files by itself
            (tmp_path / name).write_bytes(content)
            if content == b"x" or "anndataR" in line:
                said = words(tmp_path / name)
                assert re.search(r"is no \.h5ad file; (pip install \w+, then )?write one", said)
                assert line in said

    def test_a_table_and_its_line(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        table = pd.DataFrame(COUNTS, [f"c{i}" for i in range(N)], [f"G{i}" for i in range(M)])
        for name, separator in (("cells.csv", ","), ("cells.tsv", "\t"), ("cells.txt", "\t"), ("it's.csv", ",")):
            table.to_csv(tmp_path / name, sep=separator)
            run_line(words(tmp_path / name).split("write one with ")[1])
            np.testing.assert_array_equal(read_h5ad((tmp_path / name).with_suffix(".h5ad")).X, COUNTS)

    def test_a_book_of_tables_and_its_line(self, tmp_path, monkeypatch):
        """It is no archive. What pandas gets of it is stood in for: openpyxl need not be installed."""
        monkeypatch.chdir(tmp_path)
        with zipfile.ZipFile(tmp_path / "cells.xlsx", "w") as file:
            file.writestr("xl/workbook.xml", "")
        table = pd.DataFrame(COUNTS, columns=[f"G{i}" for i in range(M)])
        table.insert(0, "cell", [f"c{i}" for i in range(N)])
        monkeypatch.setattr(pd, "read_excel", lambda path, sheet: {"Sheet1": table}[sheet])
        said = words(tmp_path / "cells.xlsx")
        assert "pip install openpyxl, then write one with " in said
        run_line(said.split("write one with ")[1])
        np.testing.assert_array_equal(read_h5ad(tmp_path / "cells.h5ad").X, COUNTS)

    def test_a_matrix_and_its_line(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        io.mmwrite(tmp_path / "cells.mtx", sparse.csr_matrix(COUNTS.T))
        run_line(words(tmp_path / "cells.mtx").split("write one with ")[1])
        np.testing.assert_array_equal(read_h5ad(tmp_path / "cells.h5ad").X.toarray(), COUNTS)

    def test_a_folder_of_10x_and_its_line(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "filtered"
        folder.mkdir()
        with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
            io.mmwrite(file, sparse.csr_matrix(COUNTS.T))
        for name, lines in (
            ("features", [f"E{i}\tG{i // 2}\tGene Expression" for i in range(M)]),
            ("barcodes", [f"AC-{i}" for i in range(N)]),
        ):
            (folder / f"{name}.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
        run_line(words(folder).split("write one with ")[1])
        np.testing.assert_array_equal(read_h5ad(tmp_path / "filtered.h5ad").X.toarray(), COUNTS)

    @pytest.mark.parametrize("modalities", [("rna", "atac"), ("atac", "gex")])
    def test_several_modalities_and_their_line(self, good, monkeypatch, modalities):
        """As MuData lays them out; mudata itself is not needed for the line."""
        monkeypatch.chdir(good.parent)
        path = good.with_name("cells.h5mu")
        adata = anndata.read_h5ad(good)
        with h5py.File(path, "w") as file:
            file.create_group("obs"), file.create_group("var")
            for name in modalities:
                anndata.io.write_elem(file, f"mod/{name}", adata)
        said = words(path)
        assert f"(MuData: {', '.join(sorted(modalities))})" in said
        run_line(said.split("write one of them with ")[1])
        assert len(load_dataset(good.with_name("cells.h5ad"), "kind", layer="raw")) == N

    def test_several_modalities_and_seurat(self, tmp_path):
        for name, groups, said in (
            ("mu.h5mu", ("mod/rna", "obs", "var"), "several modalities"),
            ("s.h5ad", ("assays",), "is an h5Seurat file"),
            ("l.h5ad", ("matrix", "row_attrs", "col_attrs"), "is a loom file"),
        ):
            with h5py.File(tmp_path / name, "w") as file:
                for group in groups:
                    file.create_group(group)
            assert said in words(tmp_path / name)

    @pytest.mark.parametrize(
        ("address", "line"),
        [
            ("https://example.org/a/cells.h5ad", "curl -L -o cells.h5ad https://example.org/a/cells.h5ad"),
            ("https://x.org/my cells.h5ad?a=1&b", "curl -L -o 'my cells.h5ad' 'https://x.org/my cells.h5ad?a=1&b'"),
            ("s3://bucket/cells.h5ad", "aws s3 cp s3://bucket/cells.h5ad ."),
            ("gs://bucket/cells.h5ad", "gcloud storage cp gs://bucket/cells.h5ad ."),
            ("file:///data/cells.h5ad", "give the path alone, /data/cells.h5ad"),
        ],
    )
    def test_addresses(self, address, line):
        for door in (preview, refuse_unknown_source, lambda source: load_dataset(source, "kind")):
            with pytest.raises(DatasetError, match=re.escape(line)):
                door(address)
        assert line in path_problem(address)

    def test_a_file_without_an_ending_is_no_name_of_a_data_set(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "cells").write_bytes(b"cell,label\n")
        with pytest.raises(DatasetError, match=r"cells is no \.h5ad file"):
            refuse_unknown_source("cells")
        with pytest.raises(DatasetError, match="unknown data set 'others'"):
            refuse_unknown_source("others")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty (0 bytes)"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "git lfs pull --include cells.h5ad"),
            (b"\n<!DOCTYPE html><html>", "is a web page"),
            (b"<?xml version='1.0'?><Error>", "is a web page"),
            (b"cell,label\n", "cannot be read as .h5ad (truncated or not an AnnData file?)"),
        ],
    )
    def test_what_else_bears_the_name(self, tmp_path, content, said):
        (tmp_path / "cells.h5ad").write_bytes(content)
        assert said in words(tmp_path / "cells.h5ad")

    def test_links_folders_and_pipes(self, tmp_path):
        (tmp_path / "link.h5ad").symlink_to("gone.h5ad")
        (tmp_path / "folder.h5ad").mkdir()
        os.mkfifo(tmp_path / "pipe.h5ad")
        for name, said in (("link", "a link to gone.h5ad"), ("folder", "a folder without"), ("pipe", "no regular")):
            path = tmp_path / f"{name}.h5ad"
            assert said in path_problem(str(path))
            with pytest.raises(DatasetError, match=said):
                load_dataset(path, "kind")

    def test_no_right_to_read(self, good, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert "may not be read by you: chmod u+r" in words(good)


class TestState:
    @pytest.mark.slow
    def test_locked_by_another_program(self, good):
        code = "import h5py, sys, time; file = h5py.File(sys.argv[1], 'r+'); print(1, flush=True); time.sleep(60)"
        other = subprocess.Popen([sys.executable, "-c", code, good], stdout=subprocess.PIPE)
        try:
            assert other.stdout is not None
            other.stdout.readline()
            said = re.search(r"is locked: another program .*, start with (\w+)=(\w+) set$", words(good))
            code = "import sys; from frostline.cells.reading import read_h5ad; print(read_h5ad(sys.argv[1]).n_obs)"
            again = {"capture_output": True, "text": True, "env": {**os.environ, said[1]: said[2]}}
            assert subprocess.run([sys.executable, "-c", code, good], **again).stdout == f"{N}\n"
        finally:
            other.kill()
            other.communicate()
        assert len(load_dataset(good, "kind")) == N  # closed there

    @pytest.mark.parametrize("link", ["__cause__", "__context__"])
    def test_newer_than_this_anndata_however_the_errors_are_chained(self, link):
        error = OSError("the file is odd")
        setattr(error, link, KeyError("no reader for IOSpec(encoding_type='array', encoding_version='9.9.9')"))
        assert "which does not know IOSpec(encoding_type=" in reading._reason(Path("some.h5ad"), error)

    @pytest.mark.parametrize("part", ["obs/kind", "obs"])
    def test_newer_than_this_anndata(self, good, part):
        with h5py.File(good, "r+") as file:
            file[part].attrs["encoding-version"] = "9.9.9"
        said = words(good)
        assert f"newer anndata than {anndata_version()}" in said
        assert "encoding_version='9.9.9'" in said
        assert "pip install -U anndata" in said


def anndata_version() -> str:
    from importlib.metadata import version

    return version("anndata")


class TestForeignParts:
    @pytest.mark.parametrize("part", ["X", "X/data", "obs", "obs/kind", "raw/X", "layers/umi", "uns/new", "obsm/a/b"])
    def test_links_to_other_files(self, good, part):
        elsewhere = good.with_name("elsewhere.h5ad")
        elsewhere.write_bytes(good.read_bytes())
        with h5py.File(good, "r+") as file:
            if part in file:
                del file[part]
            file[part] = h5py.ExternalLink(elsewhere.name, f"/{part}")
        said = words(good)
        assert f"/{part} lies in another file (elsewhere.h5ad)" in said
        assert "write_h5ad('whole.h5ad')" in said

    @pytest.mark.parametrize("part", ["X", "obs/kind"])
    def test_the_line_makes_a_file_that_holds_everything(self, good, monkeypatch, part):
        monkeypatch.chdir(good.parent)
        shutil.copy(good, "elsewhere.h5ad")
        with h5py.File(good, "r+") as file:
            del file[part]
            file[part] = h5py.ExternalLink("elsewhere.h5ad", f"/{part}")
        run_line(words(good).split("where it was made: ")[1].replace("...", repr(str(good))))
        assert len(load_dataset(good.with_name("whole.h5ad"), "kind")) == N

    def test_values_in_other_files(self, good):
        secret = good.with_name("secret.txt")
        secret.write_bytes(bytes(4 * N))
        with h5py.File(good, "r+") as file:
            file.create_dataset("obsm/x", (N, 1), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        assert f"/obsm/x lies in another file ({secret})" in words(good)

    def test_views_of_other_files(self, good):
        layout = h5py.VirtualLayout((N, 1), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "d", (N, 1))
        with h5py.File(good, "r+") as file:
            file.create_virtual_dataset("obsm/x", layout)
        assert "/obsm/x lies in another file (other.h5)" in words(good)

    def test_a_way_out_behind_a_link_inside(self, good):
        with h5py.File(good, "r+") as file:
            file["uns/a"] = h5py.SoftLink("/uns/z/X")
            file["uns/z"] = h5py.ExternalLink("good.h5ad", "/")
        assert "/uns/z lies in another file" in words(good)

    def test_links_inside_are_followed(self, good):
        with h5py.File(good, "r+") as file:
            file["uns/codes"] = h5py.SoftLink("/obs/kind/codes")
            file["uns/again"] = file["obs/kind"]
        adata = read_h5ad(good)
        assert adata.uns["codes"].tolist() == [0, 1] * (N // 2)
        assert adata.uns["again"].tolist() == ["a", "b"] * (N // 2)

    @pytest.mark.parametrize(("depth", "is_sound"), [(reading.DEEPEST, True), (reading.DEEPEST + 1, False)])
    def test_parts_are_as_deep_as_is_allowed(self, good, depth, is_sound):
        """A part that stands at two places, and one below as many groups as its depth."""
        with h5py.File(good, "r+") as file:
            file["uns/again"] = file["obs/kind"]
            file["/".join(["uns", *"a" * (depth - 1), "b"])] = 1.0
            with contextlib.nullcontext() if is_sound else pytest.raises(DatasetError, match="its links form a circle"):
                reading.refuse_foreign_parts(file, good)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["hard", "soft", "doubling"])
    def test_circles_end_soon(self, good, kind):
        with h5py.File(good, "r+") as file:
            group = file["uns"]
            if kind == "hard":
                group["a"] = group
            elif kind == "soft":
                group["a"] = h5py.SoftLink("/")
            else:
                for _ in range(40):
                    group["a"] = group["b"] = group.file.create_group(None)
                    group = group["a"]
        started = time.perf_counter()
        with pytest.raises(DatasetError, match="its links form a circle or multiply"):
            read_h5ad(good)
        assert time.perf_counter() - started < 20

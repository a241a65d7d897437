"""Atlases on workers: the same as by one process, to the last bit, whoever is killed when; others are refused."""

from __future__ import annotations

import errno
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import cellxgene_asks
import numpy as np
import pandas as pd
import psutil
import pytest
import scanpy as sc
import zarr
from anndata.experimental import read_elem_lazy
from anndata.io import write_elem
from typer.testing import CliRunner

from frostline import cli
from frostline.annotation.annotating import annotate as annotate_alone
from frostline.annotation.folders import load_model
from frostline.cluster import atlases
from frostline.cluster.connections import Workers, connecting, threads_of
from frostline.cluster.loops import MORE_MEMORY
from frostline.cluster.parts import folder_of
from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.monitor import Monitor

pytestmark = pytest.mark.slow
HOW = {"max_length": 24}


def same_bits(left, right):
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()


def files(output):
    return {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def with_value(adata, row, column, value):
    """Put a value where none may be stored yet."""
    rows = adata.X.tolil()
    rows[row, column] = value
    adata.X = rows.tocsr()
    return adata


def embed(atlas, output, workers, **options):
    return atlases.embed(atlas, output, workers=workers, **{**HOW, **options})


@pytest.fixture(scope="module")
def whole(atlas, workers, tmp_path_factory):
    """An output of three parts; not to be changed."""
    output = tmp_path_factory.mktemp("whole") / "out.zarr"
    done = embed(atlas, output, workers, rows=1)
    assert (done.n_cells, done.parts, done.earlier) == (2_500, 3, 0)
    assert not folder_of(output).exists()
    return output


def test_an_embedding_is_that_of_one_process_to_the_last_bit(atlas, embedded, whole):
    read, source = ad.read_zarr(whole), ad.read_h5ad(atlas)
    assert same_bits(read.obsm["X_scGPT"], embedded)
    pd.testing.assert_frame_equal(read.obs, source.obs)
    assert read.var_names.tolist() == source.var_names.tolist()


def test_parts_of_another_size_give_the_same_bits(atlas, embedded, workers, tmp_path):
    done = embed(atlas, tmp_path / "out.zarr", workers, rows=1_025)
    assert (done.parts, same_bits(ad.read_zarr(tmp_path / "out.zarr").obsm["X_scGPT"], embedded)) == (2, True)


def test_the_output_is_read_lazily_chunk_by_chunk(embedded, whole):
    lazy = read_elem_lazy(zarr.open_group(whole, mode="r")["obsm/X_scGPT"])
    assert lazy.chunks == ((1_024, 1_024, 452), (128,))
    assert same_bits(lazy[2_000:2_100].compute(), embedded[2_000:2_100])


def test_scanpy_works_on_the_output_and_with_values_cellxgene_reads_it(atlas, whole, tmp_path):
    cells = ad.read_zarr(whole)[:300].copy()
    sc.pp.neighbors(cells, use_rep="X_scGPT", method="gauss")
    assert cells.obsp["distances"].shape == (300, 300)
    assert cellxgene_asks.refusals(whole) == ["it is no file"]
    cells.write_h5ad(tmp_path / "without.h5ad")
    assert cellxgene_asks.refusals(tmp_path / "without.h5ad") == ["it has no values in X"]
    cells.X = ad.read_h5ad(atlas).X[:300]
    cells.write_h5ad(tmp_path / "for-cellxgene.h5ad")
    assert cellxgene_asks.refusals(tmp_path / "for-cellxgene.h5ad") == []


@pytest.mark.parametrize("layout", ["zarr", "dense"])
def test_zarr_and_dense_atlases_give_the_same(atlas, embedded, workers, tmp_path, layout):
    whole = ad.read_h5ad(atlas)[:1_100].copy()
    if layout == "zarr":
        write_elem(zarr.open_group(tmp_path / "in.zarr", mode="w", zarr_format=2), "/", whole)
        path = tmp_path / "in.zarr"
    else:
        whole.X = whole.X.toarray()
        path = tmp_path / "in.h5ad"
        whole.write_h5ad(path, compression="gzip")
    embed(path, tmp_path / "out.zarr", workers)
    assert same_bits(ad.read_zarr(tmp_path / "out.zarr").obsm["X_scGPT"][:1_024], embedded[:1_024])  # whole blocks


@pytest.fixture(scope="module")
def labelled(model, query, workers, tmp_path_factory):
    """An output of three parts, by workers, and its report; not to be changed."""
    output = tmp_path_factory.mktemp("labelled") / "out.zarr"
    return output, atlases.annotate(model, query, output, rows=1_024, workers=workers)[1]


def test_labels_are_those_of_one_process_to_the_last_bit(model, query, labelled):
    alone = annotate_alone(load_model(model), query)
    output, report = labelled
    read = ad.read_zarr(output)
    own = read.obs[[name for name in read.obs if name.startswith("frostline")]]
    pd.testing.assert_frame_equal(own, alone.obs, check_exact=True)
    assert same_bits(read.obsm["frostline_probabilities"], alone.probabilities)
    assert same_bits(read.obsm["X_frostline"], alone.embedding)
    assert str(report) == str(alone.report)
    assert list(read.obs)[:2] == ["batch", "depth"]


ALONE = """
import sys
from frostline.cluster import Workers, annotate
annotate(*sys.argv[1:4], rows=1024, workers=eval(sys.argv[4]))
print({"distributed", "torch"} & sys.modules.keys())
"""


@pytest.mark.parametrize("asked", ["None", "Workers(number=1)"])
def test_labels_without_an_encoder_need_no_workers_unless_they_save_time(model, query, labelled, tmp_path, asked):
    """They are the same, and what workers and encoders need is not even imported."""
    command = [sys.executable, "-c", ALONE, model, query, tmp_path / "out.zarr", asked]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
    assert files(tmp_path / "out.zarr") == files(labelled[0])


@pytest.mark.parametrize("here_first", [True, False])
def test_labels_begun_here_go_on_with_workers_and_the_reverse(model, query, labelled, workers, tmp_path, here_first):
    output = tmp_path / "out.zarr"
    label = functools.partial(atlases.annotate, model, query, output, rows=1_024)
    record = folder_of(output) / "parts" / "000000.json"
    first, then = (None, workers) if here_first else (workers, None)
    with pytest.raises(Cancelled):
        label(workers=first, monitor=Monitor(cancelled=record.exists))
    done, _ = label(workers=then)
    assert done.earlier == 1 if here_first else done.earlier >= 1
    assert files(output) == files(labelled[0])


@pytest.mark.parametrize(
    ("asked", "later"),
    [
        (None, 5),
        (Workers(), 5),
        (Workers(number=1), 1),
        (Workers(number=3), 3),
        (Workers(number=1, memory="1GB"), 0),
        (Workers(scheduler="tcp://1.2.3.4:5"), 0),
        (Workers(number=2, cluster="slurm"), 0),
        (Workers(number=1, resources={"GPU": 1}), 0),
    ],
)
def test_workers_that_are_asked_for_by_more_than_a_number_start_at_once(
    model, query, tmp_path, asked, later, monkeypatch
):
    jobs = []

    def refused(job, *_):
        jobs.append(job)
        raise FrostlineError("enough")

    monkeypatch.setattr(atlases, "_carried_out", refused)
    monkeypatch.setattr(atlases, "cores", lambda: 5)
    with pytest.raises(FrostlineError, match="enough"):
        atlases.annotate(model, query, tmp_path / "out.zarr", workers=asked)
    assert [job.later for job in jobs] == [later]


def test_what_is_said_to_help_workers_short_of_memory_is_not_refused(model, query, tmp_path, monkeypatch):
    begun, workers = [], SimpleNamespace(cluster=SimpleNamespace(workers={}))

    def ended(job, *_):
        begun.append(job.plan)
        threads_of(workers, MORE_MEMORY)

    monkeypatch.setattr(atlases, "_computed", ended)
    command = f"annotate {model} {query} -o {tmp_path / 'out.zarr'} --rows 2048"
    for more in ("", " --memory 8GB", f" -o {tmp_path / 'OTHER.zarr'} --rows 1024"):
        said = str(CliRunner().invoke(cli.app, shlex.split(command + more)).exception)
        assert "give them more (--memory; " in said, said
        assert "-o OTHER.zarr --rows 1024" in said
    assert [plan.rows for plan in begun] == [2048, 2048, 1024]


def test_a_part_that_fails_here_is_tried_by_workers(model, query, workers, tmp_path, monkeypatch):
    """A value that no count can be, in the second of three parts."""
    with_value(ad.read_h5ad(query), 1_100, 3, -1.0).write_h5ad(tmp_path / "sick.h5ad")
    monkeypatch.setattr(atlases, "connecting", lambda _, monitor: connecting(workers, monitor))
    with pytest.raises(atlases.PartsFailed, match=r"each tried 3 times.*\n  rows 1,024 to 2,047: .* negative"):
        atlases.annotate(model, tmp_path / "sick.h5ad", tmp_path / "out.zarr", rows=1_024)
    records = sorted(path.name for path in (folder_of(tmp_path / "out.zarr") / "parts").iterdir())
    assert records == ["000000.json", "000002.json"]


def test_a_whole_output_is_left_and_other_settings_are_refused(atlas, whole):
    before, nobody = whole.stat().st_mtime_ns, Workers(scheduler="tcp://127.0.0.1:9")
    assert embed(atlas, whole, nobody, rows=1).earlier == 3
    assert whole.stat().st_mtime_ns == before
    with pytest.raises(FrostlineError, match=r"another seed \(0, now 1\): name another output"):
        embed(atlas, whole, nobody, rows=1, seed=1)


@pytest.mark.parametrize("own", [True, False])
def test_what_a_run_killed_at_its_end_left_beside_a_whole_output_is_removed(atlas, whole, own):
    rest = folder_of(whole)
    (rest / "parts").mkdir(parents=True)
    (rest / "parts" / "000000.json" if own else rest / "thesis.docx").touch()
    assert embed(atlas, whole, Workers(scheduler="tcp://127.0.0.1:9"), rows=1).earlier == 3
    assert rest.exists() is not own
    shutil.rmtree(rest, ignore_errors=True)


@pytest.mark.parametrize("written", ["anndata.io.write_elem", "frostline.cluster.atlases.kept"])
def test_a_disk_that_is_full_is_no_damaged_atlas(atlas, tmp_path, monkeypatch, written):
    """Of tables, and of the work that is laid down for workers."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(written, full)
    with pytest.raises(FrostlineError, match=r"out.zarr.unfinished cannot be written \(.*No space left on device\)"):
        embed(atlas, tmp_path / "out.zarr", Workers(scheduler="tcp://127.0.0.1:9"))
    assert list((folder_of(tmp_path / "out.zarr") / "scratch").iterdir()) == []


def test_an_output_that_another_process_has_just_finished_is_not_computed_again(atlas, whole, monkeypatch):
    looks = iter([False, True])
    monkeypatch.setattr(atlases.parts, "is_whole", lambda *_: next(looks))
    assert embed(atlas, whole, Workers(scheduler="tcp://127.0.0.1:9"), rows=1).earlier == 3
    assert not folder_of(whole).exists()


@pytest.fixture(scope="module")
def cancelled(atlas, client, workers, tmp_path_factory):
    """An output that was cancelled when its first part was done; not to be changed."""
    output, heard = tmp_path_factory.mktemp("cancelled") / "begun.zarr", []
    record = folder_of(output) / "parts" / "000000.json"
    with pytest.raises(Cancelled):
        embed(atlas, output, workers, rows=1_024, monitor=Monitor(lambda *said: heard.append(said), record.exists))
    assert not output.exists()
    assert any("cells/s" in words for _, words in heard)
    assert sorted(fraction for fraction, _ in heard) == [fraction for fraction, _ in heard]
    while any(client.run(lambda dask_worker: len(dask_worker.state.executing)).values()):
        time.sleep(0.05)  # parts that were under way are written, and nobody asks for them
    return output


@pytest.fixture
def begun(cancelled, tmp_path):
    """A copy of it."""
    shutil.copytree(folder_of(cancelled), folder_of(tmp_path / cancelled.name))
    return tmp_path / cancelled.name


def test_a_cancelled_run_goes_on(atlas, embedded, workers, begun):
    done = embed(atlas, begun, workers, rows=1_024)
    assert done.earlier >= 1
    assert same_bits(ad.read_zarr(begun).obsm["X_scGPT"], embedded)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_length": 50}, r"another max_length \(24, now 50\)"),
        ({"precision": "bf16"}, r"another precision \(fp32, now bf16\)"),
    ],
)
def test_other_settings_never_go_on(atlas, workers, begun, change, said):
    with pytest.raises(FrostlineError, match=said):
        embed(atlas, begun, workers, rows=1_024, **change)


def test_another_input_of_the_same_shape_never_goes_on(atlas, workers, begun, tmp_path):
    other = with_value(ad.read_h5ad(atlas), 0, 0, 77)
    other.write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(FrostlineError, match="another input"):
        embed(tmp_path / "other.h5ad", begun, workers, rows=1_024)


def test_a_part_that_is_not_as_it_was_written_is_computed_again(atlas, embedded, workers, begun):
    chunk = folder_of(begun) / "store/obsm/X_scGPT/0.0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    embed(atlas, begun, workers, rows=1_024)
    assert same_bits(ad.read_zarr(begun).obsm["X_scGPT"], embedded)


def test_parts_that_fail_are_listed_and_the_others_kept(atlas, embedded, workers, tmp_path):
    """A value that no count can be, in the second of three parts."""
    sick = ad.read_h5ad(atlas)
    spread = set(np.unique(np.linspace(0, 2_499, 2_000).astype(int)).tolist())
    row = next(row for row in range(1_100, 2_000) if row not in spread)
    with_value(sick, row, 3, -1.0).write_h5ad(tmp_path / "sick.h5ad")
    with pytest.raises(atlases.PartsFailed) as failed:
        embed(tmp_path / "sick.h5ad", tmp_path / "out.zarr", workers, rows=1_024)
    assert list(failed.value.reasons) == [1]
    assert "rows 1,024 to 2,047: 1 values are missing, infinite (or above 3.4e38) or negative" in str(failed.value)
    assert "each tried 3 times" in str(failed.value)
    records = sorted(path.name for path in (folder_of(tmp_path / "out.zarr") / "parts").iterdir())
    assert records == ["000000.json", "000002.json"]


COMMAND = """
import sys
from frostline.cluster import atlases
from frostline.cluster.connections import Workers
from frostline.monitor import Monitor
heard = []
def hear(_, words):
    if "cells/s" in words and not heard:
        heard.append(words)
        print("at work", flush=True)
if __name__ == "__main__":
    workers = Workers(scheduler=sys.argv[3]) if sys.argv[3:] else Workers(number=2, memory="2GB")
    atlases.embed(sys.argv[1], sys.argv[2], max_length=24, rows=1024, workers=workers, monitor=Monitor(hear))
    print("whole")
"""


@pytest.fixture
def command(tmp_path, atlas):
    """Start the work in a process of its own, with two workers of its own or those of a scheduler."""
    script = tmp_path / "work.py"
    script.write_text(COMMAND, encoding="utf-8")
    output = tmp_path / "out.zarr"

    def start(*scheduler):
        command = [sys.executable, script, atlas, output, *scheduler]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start, output


def workers_of(process):
    """Processes that compute, as soon as there are two."""
    while process.poll() is None:
        found = [
            p for p in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())
        ]
        if len(found) >= 2:
            return found
        time.sleep(0.05)
    pytest.fail("it ended before it had workers")


def wait_for(path: Path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)


def test_killed_clients_and_workers_leave_a_run_that_goes_on(command, workers, embedded):
    """A client as soon as it has begun; one after its first part, and its workers end with it; a worker with parts."""
    start, output = command
    for moment, scheduler in (("store", (workers.scheduler,)), ("parts/000000.json", ())):
        process = start(*scheduler)
        wait_for(folder_of(output) / moment, process)
        own = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert psutil.wait_procs(own, 60)[1] == []
        assert not output.exists()
    (folder_of(output) / "parts" / "000002.json").unlink(missing_ok=True)  # by then its workers may have done all
    process = start()
    assert process.stdout.readline() == "at work\n"
    workers_of(process)[0].kill()
    said, _ = process.communicate(timeout=120)
    assert (process.returncode, said.strip()) == (0, "whole")
    assert same_bits(ad.read_zarr(output).obsm["X_scGPT"], embedded)


def test_two_clients_do_not_write_one_output(atlas, workers, begun):
    held = "import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire()"
    wait = "print(1, flush=True); time.sleep(60)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{held}; {wait}", folder_of(begun) / "lock"], stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        with pytest.raises(FrostlineError, match="is at work already"):
            embed(atlas, begun, workers, rows=1_024)
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("out.h5ad", "must end in .zarr"),
        ("none/out.zarr", "there is no folder"),
        ("there.zarr", "is not of frostline"),
        ("link.zarr", "is a link to gone.zarr, which is not there: name that, or another"),
    ],
)
def test_bad_targets_are_refused(atlas, workers, tmp_path, output, said):
    (tmp_path / "there.zarr").mkdir()
    (tmp_path / "link.zarr").symlink_to("gone.zarr")
    with pytest.raises(FrostlineError, match=said):
        embed(atlas, tmp_path / output, workers)


def test_a_precision_that_workers_would_decide_is_refused(atlas, workers, tmp_path):
    with pytest.raises(FrostlineError, match="precision 'auto' may be another one on each worker: name fp32 or bf16"):
        embed(atlas, tmp_path / "out.zarr", workers, precision="auto")


def test_an_atlas_stored_gene_by_gene_is_refused_before_any_work(atlas, workers, tmp_path):
    whole = ad.read_h5ad(atlas)
    whole.X = whole.X.tocsc()
    whole.write_h5ad(tmp_path / "csc.h5ad")
    with pytest.raises(DatasetError, match=r"gene by gene \(CSC\).*adata.X = adata.X.tocsr"):
        embed(tmp_path / "csc.h5ad", tmp_path / "out.zarr", Workers(scheduler="tcp://127.0.0.1:9"))


def test_cells_without_a_known_gene_have_no_embedding_and_are_counted(atlas, embedded, workers, tmp_path):
    some = ad.read_h5ad(atlas)[:1_500].copy()
    with_value(some, 700, slice(None), 0).write_h5ad(tmp_path / "some.h5ad")
    done = embed(tmp_path / "some.h5ad", tmp_path / "out.zarr", workers)
    found = ad.read_zarr(tmp_path / "out.zarr").obsm["X_scGPT"]
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [700]
    assert done.said["X_scGPT_made"]["unreadable"] == 1
    assert np.allclose(found[:700], embedded[:700], atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "device", "there", "number"),
    [
        (None, "auto", True, 1),
        (Workers(memory="1GB"), "cuda", True, 1),
        (Workers(number=3), "auto", True, 3),
        (Workers(scheduler="tcp://1.2.3.4:5"), "auto", True, None),
        (Workers(cluster="slurm"), "auto", True, None),
        (None, "auto", False, None),
        (None, "cpu", True, None),
    ],
)
def test_one_process_has_the_gpu_unless_more_are_asked_for(asked, device, there, number, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    reached = []

    def refused(workers, _monitor):
        reached.append(workers)
        raise FrostlineError("enough")

    monkeypatch.setattr(atlases, "connecting", refused)
    monkeypatch.setattr(atlases, "_refuse", lambda *_: None)
    with pytest.raises(FrostlineError, match="enough"):
        atlases.embed("atlas.h5ad", "out.zarr", device=device, workers=asked)
    (workers,) = reached
    assert workers == replace(asked or Workers(), number=number)

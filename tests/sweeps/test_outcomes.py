"""What counts as done: artifacts that passed their check, unchanged, of this very run."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from frostline.sweeps import outcomes
from frostline.sweeps.outcomes import RunOutcome, look
from frostline.sweeps.queues import Queue

pytestmark = pytest.mark.slow


def test_only_whole_and_unchanged_artifacts_are_done(grid_of, done_here, at_once):
    planned = grid_of("datasets: [pancreas]\nseeds: [1]")
    (run,) = planned.runs
    planned.folder.mkdir(parents=True)
    assert look(run) is None
    Queue(planned).run(at_once(done_here), lambda: 1)
    found = look(run)
    assert found is not None
    assert (found.state, found.seconds) == ("done", 2.0)

    written = (run.folder / outcomes.FILE).read_text()
    for damaged in ("", written[:40], written.replace(run.key, "0" * 64)):  # half-written, or of another run
        (run.folder / outcomes.FILE).write_text(damaged)
        assert outcomes.read(run) is None
        again = look(run)  # by the check of what is there
        assert again is not None
        assert again.manifest_sha256 == found.manifest_sha256
        assert outcomes.read(run) == again

    outcomes.write(run.folder, RunOutcome(key=run.key, state="failed", said="killed"))
    assert look(run).state == "done"  # the artifacts were there already
    (run.folder / outcomes.FILE).unlink()
    run.executed.rename("elsewhere.ipynb")
    assert look(run) is None  # its notebook was killed, or failed, after it had saved
    Path("elsewhere.ipynb").rename(run.executed)
    assert look(run).state == "done"

    with Path("own.ipynb").open("a") as file:
        file.write("\n")
    (edited,) = grid_of("datasets: [pancreas]\nseeds: [1]").runs
    run.folder.rename(edited.folder)
    (edited.folder / outcomes.FILE).unlink()
    assert look(edited) is None  # of another notebook
    edited.folder.rename(run.folder)
    assert look(run).state == "done"
    with (run.artifacts / "report.md").open("a") as file:
        file.write("my notes")
    assert look(run) is None


def test_runs_in_a_folder_that_cannot_be_written_are_looked_at(grid_of, done_here, at_once, monkeypatch):
    planned = grid_of("datasets: [pancreas]\nseeds: [1]")
    (run,) = planned.runs
    planned.folder.mkdir(parents=True)
    Queue(planned).run(at_once(done_here), lambda: 1)
    (run.folder / outcomes.FILE).unlink()

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(outcomes, "write", refused)
    assert look(run).state == "done"
    assert not (run.folder / outcomes.FILE).exists()


def test_a_failure_is_known_and_so_is_its_reason(grid_of):
    (run,) = grid_of("seeds: [1]").runs
    run.folder.mkdir(parents=True)
    outcomes.write(run.folder, RunOutcome(key=run.key, state="failed", said="no such column"))
    assert look(run).said == "no such column"

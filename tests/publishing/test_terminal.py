"""What a terminal shows: a leaderboard that fits, plain lines in a log."""

from __future__ import annotations

import dataclasses
import io

import pytest
from kept_models import islet_model
from rich.cells import cell_len
from rich.console import Console

import frostline
from frostline.comparison.comparisons import compare
from frostline.publishing import terminal

LONG = [
    "probe_obsm:X_scVI_of_all_donors_with_batch_correction_and_2000_genes_v1",
    "probe_obsm:X_scVI_of_all_donors_without_batch_correction_and_2000_genes_v1",
    "probe_obsm:X_scVI_of_all_donors_with_batch_correction_and_2000_genes_v11",
    "probe_obsm:X_細胞の埋め込みと注釈についての長い名前の例",
    "head",
]


def test_leaderboard_fits_whatever_the_names(make_record):
    comparison = compare([make_record(name) for name in LONG])
    lines = terminal.leaderboard_lines(comparison.table())
    assert len(lines) == 1 + len(LONG)
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= terminal.WIDTH
    assert len(lines[0].split("  ")) >= 7
    assert [name for name in terminal.COLUMNS if name not in lines[0]] == ["GPU MB"]  # none was used
    assert any(line.startswith("head ") for line in lines)
    names = [line.split("  ")[0] for line in lines]
    assert len(set(names)) == len(names)
    assert all(name.startswith("probe_") for name in names if ".." in name)


def test_short_names_are_shown_whole(make_record):
    lines = terminal.leaderboard_lines(compare([make_record("pca_logistic"), make_record("lora_attention")]).table())
    assert {line.split()[0] for line in lines[1:]} == {"pca_logistic", "lora_attention"}


def test_results_begin_with_the_verdict(save_artifacts, tmp_path):
    folder = save_artifacts(tmp_path / "run")
    lines = terminal.result_lines(folder)
    verdict = frostline.load_comparison(folder).verdict
    assert " ".join(lines).startswith(verdict)
    assert max(map(cell_len, lines)) <= terminal.WIDTH


def test_log_has_a_line_for_each_piece_of_work_and_no_control_characters(capfd, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.progress(["tiny"]) as heard:
        heard["tiny"](None, "Load")
        for epoch in range(5):
            heard["tiny"](epoch / 10, f"lora: epoch {epoch}\x1b[31m")
        now[0] += terminal.INTERVAL
        heard["tiny"](0.5, "lora: epoch 5")
        heard["tiny"](0.75, "head: epoch 1")
    out, said = capfd.readouterr()
    assert out == ""
    assert said.splitlines() == [
        "tiny: Load",
        "tiny: lora: epoch 0 [31m (0%)",
        "tiny: lora: epoch 5 (50%)",
        "tiny: head: epoch 1 (75%)",
    ]


def test_log_has_one_line_for_work_that_counts(capfd, monkeypatch):
    monkeypatch.setattr(terminal.time, "monotonic", lambda: 0.0)
    with terminal.progress(["embed"]) as heard:
        for done in range(64, 2_101, 64):
            heard["embed"](done / 2_100, f"{done:,} of 2,100 cells embedded")
        heard["embed"](1.0, "writing")
    assert capfd.readouterr().err.splitlines() == [
        "embed: 64 of 2,100 cells embedded (3%)",
        "embed: writing (100%)",
    ]


def test_terminal_has_one_line_for_each_notebook():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    with terminal._bars(console) as bars:
        for name in ("first", "second"):
            terminal._line(bars, name)(0.5, "lora: [bold]epoch[/bold] " + "x" * 200)
        bars.refresh()
    text = shown.getvalue()
    assert "first" in text
    assert "second" in text
    assert "[bold]epoch[/bold]" in text


def test_a_model_of_few_cells_says_that_none_can_be_called_unknown(tmp_path):
    model = islet_model()
    for alpha, says in ((0.05, False), (0.01, True)):
        calibration = dataclasses.replace(model.calibration, alpha=alpha)
        lines = terminal.model_lines(dataclasses.replace(model, calibration=calibration), tmp_path, tmp_path)
        assert ("No cell can be called unknown: beside 175 labelled cells" in " ".join(lines)) is says


@pytest.mark.parametrize("room", [12, 18, 40])
def test_shortened_names_stay_different(room):
    shown = terminal._shortened(LONG, room)
    assert len(set(shown)) == len(LONG)
    assert all(cell_len(name) <= room for name in shown)

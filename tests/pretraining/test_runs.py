"""Pre-training on small synthetic sets: what it learns, how it resumes, what it refuses; and `mini`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_pretraining import FIRST, SECOND, SMALL, STEPS

from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.pretraining import losses, runs
from frostline.pretraining.corpus import principal_components, read_corpus
from frostline.pretraining.runs import pretrain
from frostline.scratch import scratch_path

pytestmark = pytest.mark.slow

FILES = ["MODEL_CARD.md", "args.json", "corpus_genes.csv", "history.csv", "model.safetensors", "vocab.json"]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def stop_after(steps: int) -> Monitor:
    asked = iter(range(10_000))
    return Monitor(cancelled=lambda: next(asked) >= steps)


def history_of(folder: Path) -> np.ndarray:
    return np.genfromtxt(folder / "history.csv", delimiter=",", names=True)


@pytest.mark.parametrize("phase", [FIRST, SECOND])
def test_the_loss_falls(corpus, tmp_path, phase):
    pretrain(corpus, tmp_path, settings=replace(SMALL, phases=(replace(phase, steps=60),)))
    history = history_of(tmp_path)
    for name in ("loss", "components", "mvc", "contrast"):
        assert history[name][-1] < history[name][0], name


def test_history_holds_the_mean_of_every_ten_steps_of_a_phase(finished):
    history = history_of(finished.folder)
    assert history["step"].tolist() == [10, 20, 24, 34, 40]
    assert history["phase"].tolist() == [1, 1, 1, 2, 2]


def test_states_differ_between_cells_before_the_first_step(corpus):
    pooled = read_corpus(corpus)
    torch.manual_seed(0)
    encoder = runs.build_encoder(pooled, SMALL, 0).eval()
    tokens = pooled.tokens(seed=0).take(np.arange(20))
    ids, values = runs.draw_subset(tokens, 16, 17, np.random.default_rng(0))
    with torch.inference_mode():
        states = encoder.cls_states(torch.from_numpy(ids), torch.from_numpy(values) / 10)
    spread = (states - states.mean(dim=0)).norm(dim=1).mean() / states.norm(dim=1).mean()
    assert spread > 0.2


def test_a_finished_folder_holds_the_checkpoint_and_nothing_else(finished, corpus):
    assert sorted(path.name for path in finished.folder.iterdir()) == FILES
    args = json.loads((finished.folder / "args.json").read_text())
    assert [file["cells"] for file in args["corpus"]] == [80, 80]
    assert [file["file"] for file in args["corpus"]] == [path.name for path in corpus]
    assert (args["steps"], args["seed"], args["n_bins"]) == (STEPS, 0, 51)
    assert args["final_losses"] == finished.losses
    card = (finished.folder / "MODEL_CARD.md").read_text()
    assert "demonstration" in card
    assert args["corpus"][0]["sha256"] in card
    assert str(corpus[0].parent) not in card + json.dumps(args)


def test_the_checkpoint_loads_strictly(finished):
    checkpoint = load_checkpoint(finished.folder)
    encoder = checkpoint.encoder()
    assert not encoder.load_report.ignored
    assert list(checkpoint.vocabulary)[:3] == ["<pad>", "<cls>", "<eoc>"]
    assert finished.n_genes == len(checkpoint.vocabulary) - 3 == encoder.config.n_tokens - 3


def test_same_seed_same_weights(finished, corpus, tmp_path):
    progress = []
    monitor = Monitor(progress=lambda fraction, _: progress.append(fraction))
    again = pretrain(corpus, tmp_path / "again", steps=STEPS, settings=SMALL, monitor=monitor)
    assert weights(again.folder) == weights(finished.folder)
    assert progress == [step / STEPS for step in range(STEPS)]


def test_a_seed_of_numpy_is_a_plain_one(finished, corpus, tmp_path):
    again = pretrain(corpus, tmp_path, seed=np.int64(0), steps=STEPS, settings=SMALL)
    assert weights(again.folder) == weights(finished.folder)


def test_the_global_random_stream_is_left_alone(corpus, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    pretrain(corpus, tmp_path, steps=2, settings=SMALL)
    assert torch.equal(torch.rand(1), expected)


def state_at_the_border(corpus, folder: Path) -> dict:
    with pytest.raises(Cancelled):
        pretrain(corpus, folder, settings=SMALL, monitor=stop_after(24))
    state = torch.load(folder / runs.STATE_FILE, weights_only=True)
    assert state["step"] == 24
    return state


def test_the_second_phase_goes_on_from_the_encoder_and_the_heads_of_the_first(corpus, tmp_path):
    """What the heads tell at the border is what they gave, component by component, in the units of the new phase."""
    state = state_at_the_border(corpus, tmp_path / "both")
    run = runs._Run(read_corpus(corpus), 0, 24, replace(SMALL, phases=(FIRST,)))
    run.start(Path("nowhere"))
    while run.step < 24:
        run.advance()
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(state["model"][name], tensor), name
    assert not state["optimizer"]["state"]
    for name in ("gene2query.weight", "gene2query.bias", "w.weight"):
        assert torch.equal(state["heads"][name], run.predicted.heads.state_dict()[name])
    assert state["heads"]["w.weight"].any()

    pooled = run.corpus
    given = torch.randn(6, 16)  # <cls> states of six cells
    with torch.no_grad():
        before = run.predicted.heads["components"](given).numpy()
    after = (given @ state["heads"]["components.weight"].T + state["heads"]["components.bias"]).numpy()
    old = principal_components(pooled, 8, 0, exponent=0.25)
    new = principal_components(pooled, 5, 0, exponent=0.0, n_neighbors=4)
    assert after.shape == (6, 10)
    expected = before[:, :5] / old[:, :5].std(axis=0)
    for part in (slice(5), slice(5, 10)):  # the components, and their means over neighbours
        np.testing.assert_allclose(after[:, part] / new[:, part].std(axis=0), expected, rtol=1e-4, atol=1e-5)


def test_a_later_phase_may_tell_more_components_than_the_one_before(corpus):
    phases = (replace(SECOND, steps=1), replace(FIRST, steps=1))
    run = runs._Run(read_corpus(corpus), 0, 2, replace(SMALL, phases=phases))
    run.start(Path("nowhere"))
    run.advance()
    weight = run.predicted.heads["components"].weight
    assert weight.shape == (8, 16)
    assert torch.isfinite(weight).all()
    assert weight[5:].any()  # drawn, where the phase before has none


@pytest.mark.parametrize("name", ["mvc_weight", "contrast_weight"])
def test_an_objective_without_weight_changes_nothing_but_is_still_reported(corpus, name):
    """The total is the weighted sum of the parts, by hand; InfoNCE and MVC are in the history all the same."""
    phase = replace(FIRST, mvc_weight=0.7, contrast_weight=0.2)
    for settings in (replace(SMALL, phases=(phase,)), replace(SMALL, phases=(replace(phase, **{name: 0.0}),))):
        run = runs._Run(read_corpus(corpus), 0, 3, settings)
        run.start(Path("nowhere"))
        run.advance()
        total, components, mvc, contrast = run.history[0]
        of = settings.phases[0]
        assert total == pytest.approx(components + of.mvc_weight * mvc + of.contrast_weight * contrast, rel=1e-5)
        assert mvc > 0
        assert contrast > 0


def test_a_run_of_another_length_is_divided_in_proportion(corpus, tmp_path):
    done = pretrain(corpus, tmp_path, steps=10, settings=SMALL)
    history = history_of(done.folder)
    assert list(zip(history["step"], history["phase"], strict=True)) == [(6, 1), (10, 2)]


def test_a_run_too_short_for_a_phase_leaves_it_out(corpus, tmp_path, monkeypatch):
    """Even when it has to go on from the state of its only step."""
    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", lambda *_args, **_kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(corpus, tmp_path, steps=1, settings=SMALL)
    pretrain(corpus, tmp_path, steps=1, settings=SMALL)
    assert (tmp_path / "history.csv").read_text().splitlines()[1].startswith("1,1,")


def test_every_phase_draws_other_batches(corpus):
    run = runs._Run(read_corpus(corpus), 0, STEPS, replace(SMALL, phases=(FIRST, FIRST)))
    run.start(Path("nowhere"))
    first = run.batch(0)
    run.step = 20
    run.enter_phase()
    again = run.batch(20)
    assert first.components.shape == again.components.shape
    assert not torch.equal(first.components, again.components)


def test_each_phase_begins_with_an_epoch_of_all_cells(corpus):
    """The second begins at step 24, in the middle of an epoch if that were counted from the first step."""
    run = runs._Run(read_corpus(corpus), 0, STEPS, SMALL)
    run.start(Path("nowhere"))
    for first in (0, 24):
        run.step = first
        run.enter_phase()
        steps = len(run.predicted.components) // run.batch_cells
        seen = [row.tobytes() for i in range(steps) for row in run.batch(first + i).components.numpy()]
        assert len(set(seen)) == len(seen) == steps * run.batch_cells


@pytest.mark.parametrize("stops", [[3], [16, 7], [24], [30, 2]])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(finished, corpus, tmp_path, stops):
    for steps in stops:
        with pytest.raises(Cancelled, match="of 40"):
            pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL, monitor=stop_after(steps))
        assert [path.name for path in tmp_path.iterdir()] == [runs.STATE_FILE]
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_a_killed_run_goes_on_from_the_last_saved_step(finished, corpus, tmp_path):
    def kill(fraction: float, _message: str) -> None:
        if fraction == 14 / STEPS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL, save_every=6, monitor=Monitor(kill))
    assert torch.load(tmp_path / runs.STATE_FILE, weights_only=True)["step"] == 12
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    assert weights(tmp_path) == weights(finished.folder)


def test_a_run_killed_while_it_wrote_its_checkpoint_writes_it_again(finished, corpus, tmp_path, monkeypatch):
    def no_space(*_args, **_kwargs):
        (tmp_path / "args.json").write_text("{")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", no_space)
        with pytest.raises(OSError, match="no space"):
            pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL, monitor=stop_after(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert weights(tmp_path) == weights(finished.folder)


def test_a_finished_run_is_returned_without_training(finished, corpus):
    before = weights(finished.folder)
    again = pretrain(corpus, finished.folder, steps=STEPS, settings=SMALL, monitor=stop_after(0))
    assert again == finished
    assert weights(finished.folder) == before


@pytest.mark.parametrize("gone", ["model.safetensors", "vocab.json"])
def test_a_finished_run_that_lost_a_file_is_run_again(finished, corpus, tmp_path, gone):
    folder = shutil.copytree(finished.folder, tmp_path / "copy")
    (folder / gone).unlink()
    with pytest.raises(FrostlineError, match="differs in seed"):
        pretrain(corpus, folder, steps=STEPS, settings=SMALL, seed=3)
    pretrain(corpus, folder, steps=STEPS, settings=SMALL)
    for name in FILES:
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_a_run_that_another_process_ends_first_ends_as_well(finished, corpus, tmp_path, monkeypatch):
    """The same run, in the same folder, while this one writes its checkpoint."""
    save = runs.save_checkpoint

    def other_too(folder, *given, **how):
        save(folder, *given, **how)
        monkeypatch.setattr(runs, "save_checkpoint", save)
        pretrain(corpus, folder, steps=STEPS, settings=SMALL)

    monkeypatch.setattr(runs, "save_checkpoint", other_too)
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert weights(tmp_path) == weights(finished.folder)


def test_two_states_are_never_written_under_one_name(corpus, tmp_path, monkeypatch):
    """Each is moved to its place when it is whole, and what a killed run was writing is cleared."""
    names, save = [], torch.save
    monkeypatch.setattr(torch, "save", lambda state, path: (names.append(path.name), save(state, path)))
    left = scratch_path(tmp_path, ".pt")
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", "-999999999-"))  # no process has such a number
    left.write_bytes(b"half")
    with pytest.raises(Cancelled):
        pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL, save_every=1, monitor=stop_after(3))
    assert len(set(names)) == len(names) == 4
    assert [path.name for path in tmp_path.iterdir()] == [runs.STATE_FILE]


@pytest.mark.parametrize("state", ["finished", "stopped"])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 3}, "seed"),
        ({"steps": 41}, r"steps \(40 there, 41 here\)"),
        ({"settings": replace(SMALL, d_hid=64)}, "d_hid"),
        (
            {"settings": replace(SMALL, phases=(FIRST, replace(SECOND, warmup=3)))},
            r"in warmup of phase 2 \(2 there, 3 here\);",
        ),
        ({"settings": replace(SMALL, phases=(FIRST,))}, "steps of phase 2"),
        ({"corpus": 1}, "corpus"),
    ],
)
def test_another_plan_in_the_same_folder_is_refused(finished, corpus, tmp_path, state, change, word):
    folder = finished.folder if state == "finished" else tmp_path
    arguments = {"steps": STEPS, "settings": SMALL, "seed": 0, **change}
    files = corpus[: arguments.pop("corpus", 2)]
    if state == "stopped":
        with pytest.raises(Cancelled):
            pretrain(corpus, folder, steps=STEPS, settings=SMALL, monitor=stop_after(0))
    with pytest.raises(FrostlineError, match=word):
        pretrain(files, folder, **arguments)


def test_another_plan_works_in_another_folder_and_the_old_one_goes_on_in_its_own(finished, corpus, tmp_path):
    with pytest.raises(Cancelled):
        pretrain(corpus, tmp_path / "mine", steps=STEPS, settings=SMALL, monitor=stop_after(5))
    remedy = r"seed \(0 there, 3 here\); choose another folder, or repeat that run's arguments to go on with it$"
    with pytest.raises(FrostlineError, match=remedy):
        pretrain(corpus, tmp_path / "mine", steps=STEPS, settings=SMALL, seed=3)
    another = pretrain(corpus, tmp_path / "another", steps=STEPS, settings=SMALL, seed=3)
    assert another.steps == STEPS
    assert weights(another.folder) != weights(finished.folder)  # of another seed
    pretrain(corpus, tmp_path / "mine", steps=STEPS, settings=SMALL, seed=0)
    assert weights(tmp_path / "mine") == weights(finished.folder)


def test_a_damaged_state_is_named_and_without_it_the_run_starts_again(finished, corpus, tmp_path):
    (tmp_path / runs.STATE_FILE).write_bytes(b"not a state")
    with pytest.raises(FrostlineError, match="remove it to start again") as refused:
        pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    Path(str(refused.value).partition(" cannot be read")[0]).unlink()
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    assert weights(tmp_path) == weights(finished.folder)


def test_a_lower_learning_rate_keeps_the_loss_finite(corpus, tmp_path):
    wild, tame = (replace(SMALL, phases=(replace(FIRST, learning_rate=rate, warmup=0),)) for rate in (1e30, 1e-3))
    with pytest.raises(FrostlineError, match=r"loss is not finite at step \d+; lower the learning rate"):
        pretrain(corpus, tmp_path / "wild", settings=wild)
    assert pretrain(corpus, tmp_path / "tame", settings=tame).steps == FIRST.steps


def test_folding_moves_the_scale_into_the_first_layer(corpus):
    pooled = read_corpus(corpus)
    encoder = runs.build_encoder(pooled, SMALL, 0).eval()
    ids, values = (
        torch.from_numpy(part) for part in runs.draw_subset(pooled.tokens(0), 30, 31, np.random.default_rng(0))
    )
    with torch.inference_mode():
        in_training = encoder.cls_states(ids, values / losses.VALUE_SCALE)
        runs.fold_values(encoder)
        torch.testing.assert_close(encoder.cls_states(ids, values), in_training, rtol=1e-5, atol=1e-5)


def test_too_few_cells_are_refused(corpus, tmp_path):
    with pytest.raises(DatasetError, match=r"160 cells and 120 .* must exceed 128"):
        pretrain(corpus, tmp_path, steps=2)


@pytest.mark.parametrize("change", [{"steps": 0}, {"save_every": 0}])
def test_no_steps_are_refused(corpus, tmp_path, change):
    with pytest.raises(FrostlineError, match="at least 1"):
        pretrain(corpus, tmp_path, **change)


def test_mini_files_are_small_and_complete(mini):
    sizes = {path.name: path.stat().st_size for path in mini.folder.iterdir()}
    assert sorted(sizes) == FILES
    assert sum(sizes.values()) <= 10_000_000
    assert sizes["history.csv"] < 20_000


def test_mini_fits_the_parts_that_the_official_encoder_is_made_of(mini):
    """Renamed as the official code does, the tensors fill torch's own layers, which give the same states."""
    args = json.loads((mini.folder / "args.json").read_text())
    d, n_genes = args["embsize"], len(mini.vocabulary)
    layer = torch.nn.TransformerEncoderLayer(d, args["nheads"], args["d_hid"], args["dropout"], batch_first=True)
    official = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.ModuleDict(
                {"embedding": torch.nn.Embedding(n_genes, d), "enc_norm": torch.nn.LayerNorm(d)}
            ),
            "value_encoder": torch.nn.ModuleDict(
                {
                    "linear1": torch.nn.Linear(1, d),
                    "linear2": torch.nn.Linear(d, d),
                    "norm": torch.nn.LayerNorm(d),
                }
            ),
            "transformer_encoder": torch.nn.TransformerEncoder(layer, args["nlayers"]),
        }
    ).eval()
    state = load_file(mini.folder / "model.safetensors")
    official.load_state_dict({name.replace("Wqkv.", "in_proj_"): tensor for name, tensor in state.items()})
    ids, values = torch.tensor([[1, 5, 700, 8000]]), torch.tensor([[-2.0, 50.0, 7.0, 1.0]])
    with torch.inference_mode():
        genes, value = official["encoder"], official["value_encoder"]
        x = genes["enc_norm"](genes["embedding"](ids))
        x = x + value["norm"](value["linear2"](value["linear1"](values[..., None]).relu()))
        expected = official["transformer_encoder"](x)
        torch.testing.assert_close(mini.encoder()(ids, values), expected, rtol=1e-5, atol=1e-5)


def test_mini_vocabulary_knows_blood(mini):
    assert {"CD3D", "MS4A1", "LYZ", "NKG7"} <= mini.vocabulary.keys()


def test_mini_states_differ_between_cells(mini):
    encoder = mini.encoder()
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(3 + rng.integers(0, encoder.config.n_tokens - 3, (8, 100)))
    ids[:, 0] = encoder.config.cls_id
    values = torch.from_numpy(rng.integers(1, 51, (8, 100)).astype(np.float32))
    values[:, 0] = -2
    with torch.inference_mode():
        states = encoder.cls_states(ids, values)
    assert torch.isfinite(states).all()
    assert (states - states.mean(dim=0)).norm(dim=1).min() > 1


def test_the_learning_rate_rises_to_its_peak_and_falls_along_a_cosine_to_zero():
    rates = [runs._schedule(step, 100, 10) for step in range(101)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 * (1 + np.cos(np.pi * i / 100)) / 2 for i in range(10)])
    assert rates[10:] == pytest.approx([(1 + np.cos(np.pi * i / 100)) / 2 for i in range(10, 101)])
    assert max(rates) < 1
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)

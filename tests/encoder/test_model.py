"""The encoder computes what the official code computes, and lets adapters take part."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import frostline
from frostline.encoder.checkpoints import load_checkpoint, match_tensors
from frostline.encoder.embedding import encode, normalise, pad_tokens
from frostline.encoder.model import Attention, ClsDecoder, Encoder, EncoderConfig, Head, set_dropout
from frostline.encoder.tokens import Tokens

NAMINGS = {
    "Wqkv": lambda key: key,
    "in_proj": lambda key: key.replace("self_attn.Wqkv.", "self_attn.in_proj_"),
    "_impl.Wqkv": lambda key: key.replace("self_attn.", "self_attn._impl."),
}


@pytest.fixture(scope="module")
def encoder(golden) -> Encoder:
    return load_checkpoint(golden / "checkpoint").encoder()


@pytest.fixture(params=NAMINGS)
def folder_of_naming(request, golden, tmp_path):
    """The golden checkpoint as the official code writes it under one of its three namings."""
    source = golden / "checkpoint"
    for name in ("args.json", "vocab.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    state = torch.load(source / "best_model.pt", weights_only=True)
    renamed = {NAMINGS[request.param](key): tensor for key, tensor in state.items()}
    assert sum(request.param in key for key in renamed) == 8
    torch.save(renamed, tmp_path / "best_model.pt")
    return tmp_path


@pytest.fixture
def official(golden):
    """Arrays of a golden file."""
    return lambda name: np.load(golden / f"{name}.npz")


@pytest.fixture
def head(golden) -> ClsDecoder:
    """The official classification head."""
    state = torch.load(golden / "cls_head.pt", weights_only=True)
    decoder = ClsDecoder(64, 5)
    decoder.load_state_dict({key.removeprefix("cls_decoder."): tensor for key, tensor in state.items()})
    return decoder.eval()


def cls_states(encoder: Encoder, arrays) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.cls_states(torch.from_numpy(arrays["gene_ids"]), torch.from_numpy(arrays["values"]))


class TestOfficialNumbers:
    def test_every_naming_gives_the_official_embeddings(self, folder_of_naming, golden):
        adata = anndata.read_h5ad(golden / "input_tiefree.h5ad")
        embedding = frostline.embed(adata, checkpoint=folder_of_naming)
        assert embedding.dtype == np.float32
        np.testing.assert_allclose(embedding, np.load(golden / "emb_tiefree.npy"), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("name", ["tiefree", "ties_seed0", "tiefree_maxlen200_seed0"])
    def test_official_tokens_give_the_official_embeddings(self, encoder, official, golden, name):
        embedding = normalise(cls_states(encoder, official(f"tokens_{name}")).numpy())
        np.testing.assert_allclose(embedding, np.load(golden / f"emb_{name}.npy"), rtol=0, atol=1e-5)

    def test_hidden_states_after_every_layer_are_the_official_ones(self, encoder, official):
        arrays = official("hidden_states_2cells")
        seen: list[torch.Tensor] = []
        hooks = [
            block.register_forward_hook(lambda _module, _args, out: seen.append(out))
            for block in encoder.transformer_encoder.layers
        ]
        ids = torch.from_numpy(arrays["gene_ids"])
        with torch.inference_mode():
            encoder(ids, torch.from_numpy(arrays["values"]))
        for hook in hooks:
            hook.remove()
        present = (ids != encoder.config.pad_id).numpy()
        assert 0 < (~present).sum() < present.size
        assert len(seen) == 4
        for i, states in enumerate(seen, start=1):
            expected = arrays[f"hidden_{i}"][present]
            np.testing.assert_allclose(states.numpy()[present], expected, rtol=0, atol=1e-5, err_msg=f"layer {i}")

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["finetune_tokens_nozero", "finetune_tokens_zero"])
    def test_logits_on_fine_tuning_tokens_are_the_official_ones(self, encoder, head, official, name):
        arrays = official(name)
        states = cls_states(encoder, arrays)
        np.testing.assert_allclose(states.numpy(), arrays["cell_emb"], rtol=0, atol=1e-5)
        with torch.inference_mode():
            np.testing.assert_allclose(head(states).numpy(), arrays["logits"], rtol=0, atol=1e-4)

    def test_logits_on_embedding_tokens_are_the_official_ones(self, encoder, head, official):
        arrays = official("cls_logits_embed_tokens")
        states = cls_states(encoder, official("tokens_tiefree"))
        np.testing.assert_allclose(states.numpy(), arrays["cell_emb"], rtol=0, atol=1e-5)
        with torch.inference_mode():
            np.testing.assert_allclose(head(states).numpy(), arrays["logits"], rtol=0, atol=1e-4)

    def test_a_training_step_is_the_official_one(self, golden, head, official):
        """All weights trained on 8 cells: loss, norm of every gradient, logits before and after a step of Adam."""
        expected = json.loads((golden / "train_step.json").read_text())
        logits, arrays = official("train_step"), official("finetune_tokens_nozero")
        encoder = load_checkpoint(golden / "checkpoint").encoder()  # in eval mode: no dropout
        model = nn.ModuleDict({"encoder": encoder, "cls_decoder": head})
        ids, values = (torch.from_numpy(arrays[key][:8]) for key in ("gene_ids", "values"))
        targets = torch.from_numpy(official("cls_logits_embed_tokens")["labels"][:8])
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

        before = head(encoder.cls_states(ids, values))
        loss = nn.functional.cross_entropy(before, targets)
        loss.backward()
        np.testing.assert_allclose(before.detach().numpy(), logits["logits_before"], rtol=0, atol=1e-4)
        assert loss.item() == pytest.approx(expected["loss"], abs=1e-4)
        norms = gradient_norms(model)
        assert norms.keys() == expected["grad_norms"].keys()
        for name, norm in expected["grad_norms"].items():
            assert norms[name] == pytest.approx(norm, abs=1e-4), name
        total = np.sqrt(sum(norm**2 for norm in norms.values()))
        assert total == pytest.approx(expected["total_norm"], abs=1e-4)

        optimiser.step()
        with torch.inference_mode():
            after = head(encoder.cls_states(ids, values))
        np.testing.assert_allclose(after.numpy(), logits["logits_after"], rtol=0, atol=1e-4)


def gradient_norms(model: nn.ModuleDict) -> dict[str, float]:
    """Norms under the official names; q, k and v share one tensor there."""
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        official_name = name.removeprefix("encoder.")
        for letter in "qkv":
            official_name = official_name.replace(f"self_attn.{letter}_proj.", "self_attn.in_proj_")
        squares[official_name] = squares.get(official_name, 0.0) + float(parameter.grad.double().pow(2).sum())
    return {name: float(np.sqrt(square)) for name, square in squares.items()}


@pytest.fixture(scope="module")
def cells() -> Tokens:
    """Cells of 1 to 60 genes."""
    rng = np.random.default_rng(0)
    lengths = np.array([1, 60, 7, 33, 33, 2, 48, 19])
    ids = np.concatenate([rng.choice(1_900, n, replace=False) for n in lengths]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(ids, rng.integers(1, 51, len(ids)).astype(np.uint8), offsets)


class TestIndependence:
    @pytest.fixture
    def expected(self, encoder, cells):
        """Each cell alone, without padding."""
        return np.concatenate([encode(encoder, cells.take(np.array([i]))) for i in range(len(cells))])

    @pytest.mark.parametrize("batch_tokens", [1, 70, 130, 10_000])
    def test_batch_size_does_not_matter(self, encoder, cells, expected, batch_tokens):
        states = encode(encoder, cells, batch_tokens=batch_tokens)
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5)

    def test_order_within_the_batch_does_not_matter(self, encoder, cells, expected):
        order = np.random.default_rng(1).permutation(len(cells))
        np.testing.assert_allclose(encode(encoder, cells.take(order)), expected[order], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("extra", [1, 100])
    def test_padding_does_not_matter(self, encoder, cells, expected, extra):
        ids, values = pad_tokens(cells, encoder.config)
        ids = nn.functional.pad(ids, (0, extra), value=encoder.config.pad_id)
        values = nn.functional.pad(values, (0, extra), value=-2.0)
        with torch.inference_mode():
            states = encoder.cls_states(ids, values).numpy()
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5)

    def test_what_padding_holds_does_not_matter(self, encoder, cells, expected):
        ids, values = pad_tokens(cells, encoder.config)
        values[ids == encoder.config.pad_id] = 37.0
        with torch.inference_mode():
            states = encoder.cls_states(ids, values).numpy()
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5)

    def test_the_order_of_genes_does_not_matter(self, encoder, cells, expected):
        rng = np.random.default_rng(2)
        order = np.concatenate(
            [rng.permutation(np.arange(a, b)) for a, b in zip(cells.offsets, cells.offsets[1:], strict=False)]
        )
        shuffled = Tokens(cells.gene_ids[order], cells.bins[order], cells.offsets)
        np.testing.assert_allclose(encode(encoder, shuffled), expected, rtol=0, atol=1e-5)

    def test_genes_and_bins_do_matter(self, encoder, cells, expected):
        other_genes = Tokens((cells.gene_ids + 1).astype(np.int32), cells.bins, cells.offsets)
        other_bins = Tokens(cells.gene_ids, (51 - cells.bins).astype(np.uint8), cells.offsets)
        for changed in (other_genes, other_bins):
            assert np.abs(encode(encoder, changed) - expected).max(axis=1).min() > 1e-3

    def test_computing_only_the_cls_state_gives_the_full_computations_state(self, encoder, cells):
        ids, values = pad_tokens(cells, encoder.config)
        with torch.inference_mode():
            short, full = encoder(ids, values, cls_only=True), encoder(ids, values)
        assert short.shape == (len(cells), 1, 64)
        assert full.shape == (len(cells), ids.shape[1], 64)
        np.testing.assert_allclose(short[:, 0].numpy(), full[:, 0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", ["linear1", "linear2", "q_proj", "k_proj", "v_proj", "out_proj"])
def test_a_changed_projection_of_any_layer_reaches_inference(golden, cells, target):
    """What replaces a projection is called: no fused path reads the weights past it."""

    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * self.inner(x)

    encoder = load_checkpoint(golden / "checkpoint").encoder()
    before = encode(encoder, cells)
    for block in encoder.transformer_encoder.layers:
        module = block if target.startswith("linear") else block.self_attn
        projection = getattr(module, target)
        setattr(module, target, Doubled(projection))
        assert np.abs(encode(encoder, cells) - before).max() > 1e-3
        setattr(module, target, projection)
        np.testing.assert_array_equal(encode(encoder, cells), before)


def test_values_are_clamped_from_above_at_512_and_not_from_below(encoder):
    ids = torch.tensor([[encoder.config.cls_id, 5, 6]])

    def state(value):
        with torch.inference_mode():
            return encoder.cls_states(ids, torch.tensor([[-2.0, 3.0, value]]))

    assert torch.equal(state(512.0), state(9e9))
    assert not torch.equal(state(511.0), state(512.0))
    assert not torch.equal(state(-2.0), state(-1.0))


class Alive(TorchDispatchMode):
    """The most bytes of tensors that were made inside and are held after any operation."""

    def __init__(self):
        super().__init__()
        self.held, self.most = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)):
            storage = tensor.untyped_storage()
            self.held[StorageWeakRef(storage).cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.held = {key: each for key, each in self.held.items() if not each[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.held.values()))
        return made


def test_a_block_holds_no_more_than_a_projection_needs():
    """The states and what attention reads and gives; then the states, what is added, the hidden layer and what it
    gives. A name that keeps a tensor longer costs a megabyte, for each, where cells are labelled."""
    config = EncoderConfig(n_tokens=50, d_model=32, n_heads=4, d_hid=64, n_layers=2)
    encoder, (cells, tokens) = Encoder(config).eval(), (16, 64)
    ids = torch.randint(2, 50, (cells, tokens), generator=torch.Generator().manual_seed(0))
    values = ids.float()
    with torch.inference_mode():
        x = encoder.embedded(ids, values)
        with Alive() as alive:
            encoder.transformer_encoder.layers[0](x, None)
    states = x.nbytes  # those that enter are counted by no operation inside
    assert alive.most <= 4.2 * states  # query, key, value and result; or added, hidden (twice as wide) and result


def test_dropout_acts_in_training_and_not_in_inference(golden, cells):
    encoder = load_checkpoint(golden / "checkpoint").encoder()
    batch = pad_tokens(cells, encoder.config)
    with torch.inference_mode():
        assert torch.equal(encoder.cls_states(*batch), encoder.cls_states(*batch))
        encoder.train()
        assert not torch.equal(encoder.cls_states(*batch), encoder.cls_states(*batch))
        set_dropout(encoder, 0.0)
        assert torch.equal(encoder.cls_states(*batch), encoder.cls_states(*batch))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("n_queries", [1, 6])
def test_attention_that_drops_weights_is_torchs_with_some_of_them_missing(padded, n_queries):
    attention = Attention(EncoderConfig(10, 12, 2, 8, 1, dropout=0.4)).train()
    draws = torch.Generator().manual_seed(0)
    q, k = (torch.randn(3, 2, n, 6, generator=draws) for n in (n_queries, 6))
    v = torch.eye(6).expand(3, 2, 6, 6)  # the output is then the weights
    mask = (torch.arange(6) < 4)[None, None, None, :].expand(3, 1, 1, 6) if padded else None
    whole = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.manual_seed(1)
    found = torch.stack([attention._dropping(q, k, v, attn_mask=mask, dropout_p=0.4) for _ in range(400)])
    kept = whole.expand_as(found)[found != 0]
    torch.testing.assert_close(found[found != 0], kept / 0.6, rtol=1e-4, atol=1e-6)
    dropped = (found == 0)[:, whole > 0].float().mean()
    assert dropped == pytest.approx(0.4, abs=0.01)
    attention.dropout.p = 0.0
    torch.testing.assert_close(attention._dropping(q, k, v, attn_mask=mask, dropout_p=0.0), whole)


def test_attention_drops_weights_in_training_if_any_are_to_be_dropped_and_never_in_inference():
    attention = Attention(EncoderConfig(10, 12, 2, 8, 1, dropout=0.4))
    x = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        inference = attention.eval()(x, x, None)
        torch.testing.assert_close(inference, attention(x, x, None))
        torch.manual_seed(1)
        one, other = attention.train()(x, x, None), attention(x, x, None)
        attention.dropout.p = 0.0
        torch.testing.assert_close(attention(x, x, None), inference)
    assert not torch.allclose(one, other)


def test_the_cls_token_stands_first_with_the_pad_value(encoder, cells):
    ids, values = pad_tokens(cells, encoder.config)
    assert (ids[:, 0] == encoder.config.cls_id).all()
    assert (values[:, 0] == -2).all()
    assert (values[ids == encoder.config.pad_id] == -2).all()


def test_the_feed_forward_width_is_read_and_not_assumed():
    encoder = Encoder(EncoderConfig(n_tokens=9, d_model=8, n_heads=2, d_hid=20, n_layers=1))
    block = encoder.transformer_encoder.layers[0]
    assert (block.linear1.out_features, block.linear2.in_features) == (20, 20)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="embsize 10 is not divisible by nheads 4"):
        EncoderConfig(n_tokens=9, d_model=10, n_heads=4, d_hid=8, n_layers=1)


def test_whole_human_shapes_hold_as_many_parameters_as_the_released_file():
    """51,330,049 in the file, of which its decoders and flag encoder are not the encoder's."""
    config = EncoderConfig(n_tokens=60_697, d_model=512, n_heads=8, d_hid=512, n_layers=12)
    with torch.device("meta"):
        encoder = Encoder(config)
    n_decoder = 2 * (512 * 512 + 512) + 512 + 1
    n_mvc, n_flag = (512 * 512 + 512) + 512 * 512, 2 * 512
    assert sum(p.numel() for p in encoder.parameters()) == 51_330_049 - n_decoder - n_mvc - n_flag


def test_the_head_is_a_layer_norm_and_a_linear_layer():
    head = Head(512, 6)
    assert sum(p.numel() for p in head.parameters()) == 4_102
    states = torch.linspace(-3, 5, 4 * 512).reshape(4, 512).sin()
    torch.testing.assert_close(head.eval()(states), head.eval()(1_000 * states), rtol=1e-3, atol=1e-3)


def test_matching_reports_every_tensor_it_took(golden):
    encoder = load_checkpoint(golden / "checkpoint").encoder()
    state = torch.load(golden / "checkpoint" / "best_model.pt", weights_only=True)
    _, report = match_tensors(state, encoder)
    assert set(report.matched) | set(report.ignored) == set(state)
    assert encoder.load_report == report

"""CellMap without a browser: what is sent, and what comes back."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import zlib

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from ipywidgets.embed import dependency_state

import frostline
from frostline.comparison import palette
from frostline.errors import FrostlineError
from frostline.escaping import for_script
from frostline.panels import CellMap, cellmap, mapped, packing
from frostline.panels.results import still_html

CLASSES = ("B cell", "NK", "T cell")
PROBABILITIES = {
    "pca_logistic": [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.1, 0.7], [0.5, 0.3, 0.2], [0.0, 0.1, 0.9]],
    "head": [[0.6, 0.2, 0.2], [0.05, 0.05, 0.9], [0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.0, 0.2, 0.8]],
}
LABELS = ("B cell", "NK", "T cell", "NK", "T cell")
"""pca_logistic errs on cell 3 (B cell, .5); head on 1 (T cell, .9), 2 (B cell, .8) and 3 (B cell, .4)."""


@pytest.fixture(scope="module")
def comparison(make_record):
    return frostline.compare([record_of(make_record, name) for name in PROBABILITIES])


def record_of(make_record, name, **changes):
    content = {
        "classes": CLASSES,
        "cells": tuple(f"c{i}" for i in range(5)),
        "labels": LABELS,
        "probabilities": np.array(PROBABILITIES[name]),
        "umap": np.array([[0.0, 0.0], [1.0, 5.0], [2.0, 10.0], [4.0, 2.5], [8.0, 10.0]]),
        "groups": ("d1", "d1", "d2", "d2", "d2"),
        "group_key": "donor",
        "weights_sha256": None if name == "pca_logistic" else "ab" * 32,
    }
    return make_record(name, n=5, **{**content, **changes})


@pytest.fixture
def shown(comparison):
    made = CellMap(comparison, "pca_logistic", "head")
    yield made
    made.close()


def array_of(shown: CellMap, key: str) -> np.ndarray:
    """One array of the buffer, as the browser reads it."""
    kind, start, size = shown._facts["arrays"][key]
    return np.frombuffer(zlib.decompress(shown._data), dtype=f"<{kind}", count=size, offset=start)


class TestBuffer:
    def test_points_are_parts_of_the_largest_extent_of_each_axis(self, shown):
        points = array_of(shown, "points0").reshape(5, 2)
        wanted = np.array([[0, 0], [0.125, 0.5], [0.25, 1], [0.5, 0.25], [1, 1]]) * 65_534
        assert np.abs(points - wanted).max() <= 0.5

    def test_labels_groups_and_names_are_those_of_the_record(self, shown):
        columns = {column["key"]: column for column in shown._facts["columns"]}
        assert columns["label"]["names"] == list(CLASSES)
        assert [CLASSES[code] for code in array_of(shown, "label")] == list(LABELS)
        assert columns["group"]["title"] == "donor"
        assert array_of(shown, "group").tolist() == [0, 0, 1, 1, 1]
        assert array_of(shown, "names").tobytes().decode() == "c0\nc1\nc2\nc3\nc4"

    def test_the_likeliest_classes_come_first_with_their_probabilities(self, shown):
        assert array_of(shown, "tops1").reshape(5, 3).tolist() == [
            [0, 1, 2],
            [2, 0, 1],
            [0, 1, 2],
            [0, 1, 2],
            [2, 1, 0],
        ]
        assert np.abs(array_of(shown, "chances1") / 65_534 - [0.6, 0.9, 0.8, 0.4, 0.8]).max() < 1e-5
        percent = [[20, 20], [5, 5], [10, 10], [35, 25], [20, 0]]
        assert array_of(shown, "others1").reshape(5, 2).tolist() == percent

    def test_every_array_begins_where_four_bytes_can(self, shown):
        assert all(start % 4 == 0 for _, start, _ in shown._facts["arrays"].values())

    def test_a_view_without_a_map_says_so_and_a_cell_without_a_place_is_absent(self, make_record):
        unplaced = CellMap(frostline.compare([record_of(make_record, "head", umap=None)]))
        assert [view["placed"] for view in unplaced._facts["views"]] == [False]
        assert "points0" not in unplaced._facts["arrays"]
        points = np.array([[0.0, 1.0], [np.nan, 2.0], [4.0, 3.0]])
        assert packing._coordinates(points).tolist() == [[0, 0], [65_535, 65_535], [65_534, 65_534]]

    def test_wide_gaps_are_narrowed_and_the_moves_lead_back(self, make_record):
        rng = np.random.default_rng(0)
        places = rng.normal(size=(30, 2)) + np.repeat([[0, 0], [400, 0], [0, 300]], 10, axis=0)
        record = make_record("head", n=30, umap=places)
        found = CellMap(frostline.compare([record]))
        drawn, codes = array_of(found, "points0").reshape(30, 2) / 65_534, array_of(found, "islands0")
        assert codes.tolist() == np.repeat([0, 1, 2], 10).tolist()
        back = drawn + np.array(found._facts["views"][0]["moves"])[codes]
        back = (back - back.min(axis=0)) / np.ptp(back, axis=0)
        assert np.abs(back - (places - places.min(axis=0)) / np.ptp(places, axis=0)).max() < 1e-4
        spread = [np.ptp(drawn[codes == i], axis=0).min() for i in range(3)]
        assert min(spread) > 0.15  # of less than a hundredth of the map that was computed

    def test_coordinates_of_others_are_drawn_as_they_are_and_pca_is_never_narrowed(self, adata):
        wide = np.repeat([[0.0, 0.0], [400.0, 300.0]], [2, 2], axis=0) + np.arange(8.0).reshape(4, 2)
        grown = AnnData(obs=pd.concat([adata.obs.set_index(adata.obs_names + f"-{i}") for i in range(4)]))
        grown.obsm = {"X_umap": np.tile(wide, (4, 1)), "X_pca": np.tile(wide, (4, 1))}
        shown = CellMap(grown)
        assert [bool(view["moves"]) for view in shown._facts["views"]] == [True, False]
        assert shown._facts["narrow"] is False
        low, high = wide.min(axis=0), wide.max(axis=0)
        assert np.abs(array_of(shown, "points0").reshape(16, 2)[:4] / 65_534 - (wide - low) / (high - low)).max() < 1e-4

    def test_names_stay_whole_and_on_one_line(self, make_record):
        names = ("a\nb", "x" * 10_000, "<img src=x onerror=1>", "", "細胞")
        found = CellMap(frostline.compare([record_of(make_record, "head", cells=names)]))
        assert array_of(found, "names").tobytes().decode().split("\n") == ["a b", *names[1:3], "(empty)", "細胞"]
        found.selected = [0]
        assert found.cells == ["a\nb"]

    def test_more_than_254_classes_take_two_bytes(self):
        assert packing._codes(np.array([-1, 299]), 300).tolist() == [65_535, 299]
        assert packing._codes(np.array([-1, 253]), 254).tolist() == [255, 253]

    def test_other_predictions_of_the_same_cells_are_other_facts(self, comparison, make_record):
        turned = {"pca_logistic": "head", "head": "pca_logistic"}
        records = [
            record_of(make_record, name, probabilities=np.array(PROBABILITIES[turned[name]])) for name in PROBABILITIES
        ]
        one, other = (CellMap(each, "pca_logistic", "head")._facts for each in (comparison, frostline.compare(records)))
        assert {key for key in one if one[key] != other[key]} == {"crc"}

    def test_a_thousand_cells_take_less_than_95_kilobytes_of_a_page(self, make_record):
        """All that the page grows by: script, style, facts, cells, their frame, and the picture without JavaScript."""
        n, classes = 1_000, tuple(f"type {i:02d}" for i in range(25))
        rng = np.random.default_rng(0)
        kinds, middles = rng.integers(25, size=n), 8 * rng.normal(size=(2, 25, 2))
        cells = tuple("".join(letters) + "-1" for letters in rng.choice(list("ACGT"), (n, 16)))
        records = [
            make_record(
                name, n=n, classes=classes, cells=cells, labels=tuple(classes[kind] for kind in kinds),
                probabilities=rng.dirichlet(np.full(25, 0.2), size=n), umap=middle[kinds] + rng.normal(size=(n, 2)),
                validation_cells=(), validation_labels=(), validation_probabilities=None,
            )
            for name, middle in zip(PROBABILITIES, middles, strict=True)
        ]  # fmt: skip
        found = frostline.compare(records)
        state = json.dumps(dependency_state([CellMap(found, *PROBABILITIES)], drop_defaults=False))
        size = len(for_script(state)) + len(still_html(found, *PROBABILITIES))
        assert size < 95_000


class TestSelection:
    def test_positions_and_names_follow_each_other(self, shown):
        shown.selected = [3, 1]
        assert (shown.selected, shown.cells) == ([1, 3], ["c1", "c3"])
        assert np.frombuffer(shown._picked, "<u4").tolist() == [1, 3]
        shown.cells = ["c4"]
        assert (shown.selected, shown.cells) == ([4], ["c4"])
        shown.selected = np.array([True, False, False, False, True])
        assert shown.cells == ["c0", "c4"]
        shown.selected = []
        assert shown.cells == []

    def test_what_the_browser_sends_is_selected_and_observers_hear_of_it(self, shown):
        heard = []
        shown.observe(lambda change: heard.append((change["name"], change["new"])), ["selected", "cells"])
        shown.set_state({"_picked": memoryview(np.array([2, 4, 99], dtype="<u4").tobytes())})
        assert sorted(heard) == [("cells", ["c2", "c4"]), ("selected", [2, 4])]

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("selected", [5], "no cell 5: the map has the cells 0 to 4"),
            ("selected", [-1], "no cell -1"),
            ("selected", ["c1"], "positions of cells"),
            ("cells", ["c1", "c9"], "unknown cell 'c9'"),
            ("cells", "c1", r"write \['c1'\]"),
            ("colour", "age", "unknown colouring 'age'; known: label, prediction, correct, confidence, group"),
        ],
    )
    def test_what_is_not_there_is_refused_by_name(self, shown, name, value, message):
        with pytest.raises(FrostlineError, match=message):
            setattr(shown, name, value)
        assert shown.selected == []

    def test_it_stays_where_the_cells_are_the_same(self, shown, comparison, make_record):
        shown.selected = [2]
        shown.show(comparison, "head")
        assert shown.selected == [2]
        shown.show(frostline.compare([make_record()]))
        assert shown.selected == []

    def test_the_table_has_the_most_confidently_wrong_first(self, shown):
        shown.selected = range(5)
        table = shown.table()
        # Wrong with .9, .8 and .5; then right, the least confidence of both maps .6 and .8
        assert table["cell"].tolist() == ["c1", "c2", "c3", "c0", "c4"]
        assert table["true class"].tolist() == ["NK", "T cell", "NK", "B cell", "T cell"]
        assert table["head"].tolist() == ["T cell", "B cell", "B cell", "B cell", "T cell"]
        assert table["p of pca_logistic"].tolist() == [0.6, 0.7, 0.5, 0.7, 0.9]
        shown.selected = []
        assert shown.table().empty


class TestPair:
    def test_it_is_what_to_take_and_the_best_of_the_other_kind(self, make_record):
        records = [
            make_record("pca_logistic", skill=3),
            make_record("frozen_probe", skill=1, weights_sha256="ab"),
            make_record("lora", skill=2, weights_sha256="ab"),
        ]
        found = frostline.compare(records)
        assert mapped.default_pair(found) == ("pca_logistic", "lora")
        assert [view.name for view in CellMap(found).mapped.views] == ["pca_logistic", "lora"]
        assert [view.name for view in CellMap(found, right="pca_logistic").mapped.views] == ["lora", "pca_logistic"]

    def test_where_that_starts_from_an_encoder_the_best_that_does_not(self, make_record):
        records = [
            make_record("pca_knn", skill=1),
            make_record("pca_logistic", skill=2),
            make_record("lora", skill=6, weights_sha256="ab"),
            make_record("head", skill=5, weights_sha256="ab"),
        ]
        assert mapped.default_pair(frostline.compare(records)) == ("lora", "pca_logistic")

    def test_one_strategy_is_one_map(self, comparison):
        assert len(CellMap(comparison, "head", "head").mapped.views) == 1

    def test_an_unknown_strategy_is_refused(self, comparison):
        with pytest.raises(FrostlineError, match="unknown strategy 'lora'; known: pca_logistic, head"):
            CellMap(comparison, "lora")


@pytest.fixture
def adata():
    obs = pd.DataFrame({"cell_type": list("BBTT"), "donor": list("1212"), "guess": list("BTTX")})
    obs["p"] = [0.9, 0.8, 0.7, 0.6]
    obs.index = [f"n{i}" for i in range(4)]
    obsm = {"X_pca": np.arange(12.0).reshape(4, 3), "X_umap": np.arange(8.0).reshape(4, 2), "X_one": np.ones((4, 1))}
    return AnnData(np.ones((4, 2), dtype=np.float32), obs=obs, obsm=obsm)


class TestAnnData:
    def test_likely_columns_and_coordinates_are_found(self, adata):
        found = CellMap(adata).mapped
        assert [view.name for view in found.views] == ["X_umap", "X_pca"]
        assert [(column.key, column.title) for column in found.columns] == [("label", "cell_type"), ("group", "donor")]
        assert [key for key, _ in found.colourings] == ["label", "group"]

    def test_predictions_are_held_against_the_labels(self, adata):
        shown = CellMap(adata, "X_pca", "X_pca", label_key="cell_type", predicted_key="guess", confidence_key="p")
        assert shown.mapped.wrong()[:, 0].tolist() == [False, True, False, True]
        assert [key for key, _ in shown.mapped.colourings] == ["label", "prediction", "correct", "confidence", "group"]
        shown.selected = range(4)
        assert shown.table()["cell"].tolist() == ["n1", "n3", "n2", "n0"]
        assert adata[shown.cells].n_obs == 4

    def test_what_is_not_known_is_neither_right_nor_wrong(self, adata):
        adata.obs["kind"] = pd.Categorical(["B", None, "T", "T"])
        adata.obs["guess"] = ["B", "T", None, "B"]
        shown = CellMap(adata, label_key="kind", predicted_key="guess", confidence_key="p")
        assert shown.mapped.classes == ("B", "T")
        assert shown.mapped.wrong()[:, 0].tolist() == [False, False, False, True]
        assert array_of(shown, "label").tolist() == [0, 255, 1, 1]
        assert array_of(shown, "tops0").ravel().tolist() == [0, 1, 255, 0]
        shown.selected = [0, 1, 2, 3]
        table = shown.table().set_index("cell").loc[list(adata.obs_names)]
        assert table["kind"].tolist() == ["B", None, "T", "T"]
        assert table["guess"].tolist() == ["B", "T", None, "B"]
        assert table["p of guess"].isna().tolist() == [False, False, True, False]

    @pytest.mark.parametrize("kind", [float, "category", "Int64"])
    def test_whole_numbers_are_the_same_classes_whatever_their_type(self, adata, kind):
        adata.obs["kind"] = [0, 1, 2, 10]
        adata.obs["guess"] = pd.Series([0, 1, 1, np.nan], adata.obs_names).astype(kind)
        shown = CellMap(adata, label_key="kind", predicted_key="guess")
        assert shown.mapped.classes == ("0", "1", "10", "2")
        assert shown.mapped.wrong()[:, 0].tolist() == [False, False, True, False]

    @pytest.mark.parametrize("value", ["high", 95.0, -0.1, np.inf])
    def test_a_confidence_that_is_no_probability_is_named(self, adata, value):
        adata.obs["p"] = pd.Series([0.5, value, np.nan, 1.0], adata.obs_names)
        with pytest.raises(
            FrostlineError, match=rf"^column 'p' holds {value!r}, and .*confidence_key, or leave it out"
        ):
            CellMap(adata, predicted_key="guess", confidence_key="p")
        CellMap(adata, predicted_key="guess")

    def test_one_prediction_on_two_maps_is_listed_once(self, adata):
        shown = CellMap(adata, predicted_key="guess", confidence_key="p", label_key="cell_type")
        assert [(view.name, view.title) for view in shown.mapped.views] == [("guess", "X_umap"), ("guess", "X_pca")]
        shown.selected = [1]
        assert shown.table().columns.tolist() == ["position", "cell", "cell_type", "donor", "guess", "p of guess"]

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"left": "X_one"}, "unknown key of obsm with two columns or more 'X_one'; known: X_pca, X_umap"),
            ({"label_key": "kind"}, "unknown column of obs 'kind'"),
            ({"predicted_key": "kind"}, "unknown column of obs 'kind'"),
        ],
    )
    def test_a_key_that_is_not_there_is_named(self, adata, keys, message):
        with pytest.raises(FrostlineError, match=message):
            CellMap(adata, **keys)

    def test_without_coordinates_or_columns_it_says_what_to_do(self, adata):
        with pytest.raises(FrostlineError, match=r"scanpy\.tl\.umap"):
            CellMap(AnnData(adata.X, obs=adata.obs))
        with pytest.raises(FrostlineError, match="label_key='cell_type'"):
            CellMap(AnnData(adata.X, obsm={"X_umap": adata.obsm["X_umap"]}))

    def test_a_data_set_brings_its_own_columns(self, pbmc):
        shown = CellMap(dataclasses.replace(pbmc, cache={}))
        assert shown.mapped.columns[0].title == pbmc.label_key
        assert list(shown.mapped.columns[0].names) == sorted(set(pbmc.labels))


class TestPalette:
    def test_thirty_looks_differ(self):
        looks = [palette.style(i) for i in range(palette.LOOKS)]
        assert len({(look["color"], look["marker"]) for look in looks}) == 30

    def test_of_more_kinds_the_rarest_are_grey(self):
        counts = [5] * 35
        counts[3], counts[34] = 1, 9
        looks = palette.looks_of(counts)
        assert looks.count(-1) == 6
        assert looks[3] == -1
        assert looks[34] == 28
        assert sorted(look for look in looks if look >= 0) == list(range(29))

    def test_two_hundred_classes_are_sent_with_their_looks(self):
        codes = np.arange(200)
        column = mapped.MapColumn("label", "label", tuple(f"{i:03d}" for i in range(200)), codes)
        view = mapped.View("a", "a", np.random.default_rng(0).normal(size=(200, 2)))
        facts, _ = packing.packed(mapped.Mapped("", column.names, (view,), (column,), ()))
        assert sum(look == -1 for look in facts["columns"][0]["looks"]) == 171

    def test_a_right_cell_is_a_circle_and_a_wrong_one_a_cross_in_figures_too(self):
        assert [look["marker"] for look in palette.RIGHT_WRONG] == ["o", "X"]


def test_the_script_packs_its_code_as_it_is():
    code = (cellmap.HERE / "cell_map.js").read_bytes()
    (packed,) = re.findall(r'atob\("([A-Za-z0-9+/=]+)"\)', CellMap._esm)
    assert zlib.decompress(base64.b64decode(packed)) == code
    assert b"innerHTML" not in code
    assert b"insertAdjacentHTML" not in code

"""model.json: its own hash, and names in messages."""

from __future__ import annotations

import json

import pytest

from frostline.annotation.facts import content_sha256, read_facts, some
from frostline.errors import ModelError


def test_the_hash_is_of_the_content_and_not_of_the_way_it_is_written():
    content = {"a": 1, "b": {"c": [1.5, "é"]}, "content_sha256": "x"}
    turned = {"b": {"c": [1.5, "é"]}, "a": 1, "content_sha256": "y"}
    assert content_sha256(content) == content_sha256(turned)
    assert content_sha256(content) != content_sha256(content | {"a": 2})


def test_a_change_that_keeps_every_entry_valid_is_noticed(kept, tmp_path):
    folder = kept.save(tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content))  # written otherwise
    assert read_facts(folder).card.model_dump()["strategy"] == "pca_logistic"
    content["card"]["metrics"]["accuracy"] = 1.0
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"model.json has been altered since the model was kept"):
        read_facts(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"format": "frostline model", "format": 1}', '{"a": NaN}', "\ud800"])
def test_what_is_no_json_object_is_refused_by_name(tmp_path, text):
    (tmp_path / "model.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match=r"model.json (cannot be read|is of another program)"):
        read_facts(tmp_path)


def test_names_are_the_first_few_and_how_many_more():
    assert some(["b", "a"]) == "a, b"
    assert some("fedcba") == "a, b, c, d and 2 more"

"""Every hyper-parameter has bounds and a unit, and an object that breaks them is never made."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Interval, Unit
from hypothesis import given
from hypothesis import strategies as st

from frostline.bounds import Dropped, Epochs, Text, Whole, bounded, hold, setting, settings
from frostline.errors import FrostlineError
from frostline.profiles import PROFILES, Profile
from frostline.strategies import STRATEGIES, FullTuning, HeadTuning, Ia3, Lora, LoraAttention, PcaKnn, ProbeObsm

FIELDS = [(kind, field, domain) for kind in STRATEGIES.values() for field, domain in kind.settings().items()]
NUMBERS = [case for case in FIELDS if case[2].info.annotation in (int, float)]


def names(cases) -> list[str]:
    return [f"{kind.name}-{field}" for kind, field, _ in cases]


def refusal(make, *args, **values) -> str:
    with pytest.raises(FrostlineError) as caught:
        make(*args, **values)
    return str(caught.value)


@pytest.mark.parametrize("kind", STRATEGIES.values(), ids=list(STRATEGIES))
def test_every_hyper_parameter_has_bounds_with_a_unit_and_a_default_inside(kind):
    strategy = kind()
    assert list(kind.settings()) == list(strategy.parameters)
    for field, domain in kind.settings().items():
        assert domain.unit, field
        assert domain.extent, field
        assert getattr(kind(**{field: strategy.parameters[field]}), field) == strategy.parameters[field]


@pytest.mark.parametrize(("kind", "field", "domain"), NUMBERS, ids=names(NUMBERS))
def test_both_ends_are_taken_and_what_lies_beyond_is_refused_by_name(kind, field, domain):
    low, high, below = domain.span.ge, domain.span.le, domain.span.lt
    for value in (low, high if below is None else math.nextafter(below, 0)):
        others = {"epochs": 10_000} if field == "warmup_epochs" else {}
        assert getattr(kind(**{field: value}, **others), field) == value
    step = 1 if domain.info.annotation is int else 1e-9
    above = high + step if below is None else below
    for value in (low - step, above, -above, math.inf, -math.inf, math.nan, True, "3", None, 10**5000):
        said = refusal(kind, **{field: value})
        assert said.startswith(f"strategy '{kind.name}': {field} is "), said
        assert f"must be {domain}" in said
        assert domain.extent in said
        assert domain.unit in said


@pytest.mark.parametrize(("kind", "field", "domain"), NUMBERS, ids=names(NUMBERS))
def test_numpy_numbers_become_plain_ones(kind, field, domain):
    plain = getattr(kind(), field)
    made = kind(**{field: np.int64(plain) if domain.info.annotation is int else np.float64(plain)})
    assert made == kind()
    assert type(getattr(made, field)) is (int if domain.info.annotation is int else float)


@given(
    case=st.sampled_from(FIELDS),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-5, 5)
    | st.floats()
    | st.text()
    | st.characters()
    | st.binary()
    | st.lists(st.sampled_from(["linear1", "q_proj", "x", 3])),
)
def test_any_value_is_taken_or_refused_with_the_name_of_its_field(case, value):
    kind, field, _ = case
    try:
        made = kind(**{field: value})
    except FrostlineError as error:
        made, said = None, str(error)
    if made is None:
        assert f": {field} is " in said
        assert "\n" not in said
    else:
        assert kind(**{field: getattr(made, field)}) == made


def test_bounds_hold_whenever_a_strategy_is_made():
    assert "'head': epochs is 0" in refusal(dataclasses.replace, HeadTuning(), epochs=0)
    profile = PROFILES["quickstart"]
    assert "profile 'quickstart': head_epochs is 0" in refusal(dataclasses.replace, profile, head_epochs=0)
    assert "'head': checkpoint is ''" in refusal(HeadTuning.from_profile, profile, "")


def test_a_default_of_a_subclass_keeps_the_bounds_of_its_base():
    assert str(FullTuning.settings()["epochs"]) == str(HeadTuning.settings()["epochs"])
    assert str(LoraAttention.settings()["targets"]) == str(Ia3.settings()["targets"])

    @bounded
    class Own(HeadTuning):
        epochs: Annotated[Whole, Interval(ge=5, le=6), Unit("epochs")] = 5

    assert "from 5 to 6 (epochs)" in refusal(Own, epochs=7)
    assert HeadTuning(epochs=7).epochs == 7


def test_a_warm_up_longer_than_the_training_is_refused():
    assert FullTuning(epochs=1).warmup_epochs == 1
    assert "warmup_epochs is 3, and must be at most epochs, which is 2" in refusal(Lora, epochs=2, warmup_epochs=3)


@pytest.mark.parametrize("value", ["", " \t", 0, None, b"X_pca", ["X_pca"], Path("X_pca"), "a\0b", "\ud800", 1.5, True])
def test_a_key_of_obsm_is_text(value):
    assert refusal(ProbeObsm, value).startswith("strategy 'probe_obsm': obsm_key is ")


def test_a_checkpoint_may_be_a_path_and_text_of_a_kind_becomes_text():
    for kind in STRATEGIES.values():
        if "checkpoint" in kind.settings():
            made = kind(checkpoint=Path("some") / "folder")
            assert made == dataclasses.replace(kind(), checkpoint=Path("some", "folder"))
            assert json.loads(json.dumps(made.parameters))["checkpoint"] == str(Path("some", "folder"))
    assert type(ProbeObsm(np.str_("X_scVI")).obsm_key) is str
    assert ProbeObsm(Enum("Key", {"SCVI": "X_scVI"}, type=str).SCVI).obsm_key == "X_scVI"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("q_proj", "'q_proj' of type str"),
        ((), r"()"),
        (("q_proj", "q_proj"), "names one of them twice"),
        (("q_proj", 3), "('q_proj', 3)"),
        (("Q_PROJ",), "('Q_PROJ',)"),
        ({"q_proj"}, "of type set"),
        (None, "None"),
        ("", "''"),
    ],
)
def test_targets_are_names_each_once(value, seen):
    said = refusal(Lora, targets=value)
    assert said.startswith("strategy 'lora': targets is ")
    assert seen in said


def test_a_list_of_targets_becomes_a_tuple():
    assert Lora(targets=["q_proj", "v_proj"]) == Lora(targets=("q_proj", "v_proj"))


def test_other_kinds_of_number_are_said_their_type():
    for value in (Fraction(1, 2), np.array(0.5), np.bool_(True), 1j, np.datetime64("2020-01-01", "ns")):
        assert f"of type {type(value).__name__}" in refusal(HeadTuning, dropout=value)
    assert "3.0 of type float" in refusal(PcaKnn, n_components=3.0)


def test_a_long_value_is_cut():
    assert len(refusal(HeadTuning, epochs="x" * 100_000)) < 300


def test_profiles_are_bounded_too():
    assert [spec.name for spec in dataclasses.fields(Profile)] == list(settings(Profile))
    said = refusal(Profile, "mine", 100, 100, 0, 1, 1, 1e-3, 1e-3, 1)
    assert said == "profile 'mine': batch_size is 0, and must be a whole number from 1 to 65,536 (cells)"


def test_bounds_say_what_they_take():
    assert str(setting(Dropped)) == "a number from 0 to below 1 (share of the values)"
    assert str(setting(Annotated[Text, Unit("name")])) == "text that is not blank and that a file can hold (name)"
    several = Annotated[tuple[Literal["a", "b"], ...], Unit("layers")]
    assert str(setting(several)) == "one or more of a, b, each once (layers)"


@pytest.mark.parametrize("value", [0, "3", 1.0, None])
def test_an_argument_of_a_function_is_held_to_the_same_bounds(value):
    assert refusal(hold, Epochs, "epochs", value).startswith(f"epochs is {value!r}")
    assert hold(Epochs, "epochs", np.int64(3)) == 3


def test_arguments_that_there_are_not_are_a_type_error():
    with pytest.raises(TypeError, match="'magic'"):
        HeadTuning(magic=1)
    with pytest.raises(TypeError, match="max_cells"):
        Profile("mine")


def test_what_is_learned_is_copied_and_pickled_and_takes_no_part_in_equality():
    head = HeadTuning(epochs=3)
    head._learn(head=np.arange(3))
    for again in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert again == head == HeadTuning(epochs=3)
        assert again.head_.tolist() == [0, 1, 2]
    assert not hasattr(dataclasses.replace(head), "head_")

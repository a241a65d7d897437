"""What records must have in common to stand side by side: data, splits, training; and names that hold them apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from frostline.errors import FrostlineError
from frostline.records import Record

ALIKE = {
    "dataset": "data set",
    "data_sha256": "values of the data set",
    "label_key": "label column",
    "group_key": "group column",
    "profile": "profile",
    "seed": "seed",
    "split_kind": "kind of split",
}
"""What all records of a comparison have in common."""


def refuse_unlike(records: Sequence[Record]) -> None:
    """Refuse records of other data, other test cells, or other training, and of two studies at once."""
    for record in records:
        if record.budget is not None and record.unseen is not None:
            raise FrostlineError(
                f"a record of {record.strategy!r} is of repeat {record.repeat}{_study(record)}, and a study changes "
                "one thing; leave it out, or evaluate cut.with_budget(...) or cut.without_class(...) alone"
            )
    for key, what in ALIKE.items():
        _refuse_several(records, key, what, "only records of one data set and one plan of splits can be compared")
    plain = [record for record in records if record.budget is None and record.unseen is None]
    what, remedy = "test cells, labels or classes", "only records of the same split can be compared"
    for tested in _grouped(records, lambda record: record.repeat):
        _refuse_several(tested, "test_fingerprint", what, remedy, f" of repeat {tested[0].repeat}")
    for tested in _grouped(plain, lambda record: record.repeat):
        _refuse_several(tested, "classes", what, remedy, f" of repeat {tested[0].repeat}")
    for alike in _grouped(records, lambda record: (record.repeat, record.budget, record.unseen)):
        where = f" of repeat {alike[0].repeat}{_study(alike[0])}"
        for name in ("fingerprint", "training_fingerprint", "validation_cells", "validation_labels"):
            what, remedy = "training or validation cells, labels or genes", "evaluate all strategies on the same split"
            _refuse_several(alike, name, what, remedy, where)


def _study(record: Record) -> str:
    text = f", {record.budget} cells per class" if record.budget is not None else ""
    return text + (f", {record.unseen} withheld" if record.unseen is not None else "")


def _refuse_several(records: Sequence[Record], key: str, what: str, remedy: str, where: str = "") -> None:
    """Refuse records that differ in a field; what a record of an earlier version does not say is no difference."""
    seen = {getattr(record, key): record for record in reversed(records) if getattr(record, key) not in (None, ())}
    if len(seen) > 1:
        some = ", ".join(f"{record.strategy} ({_short(value)})" for value, record in reversed(seen.items()))
        raise FrostlineError(f"records{where} are of different {what}: {some}; {remedy}")


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 40 else f"{text[:20]}..."


def named_apart(records: Sequence[Record]) -> list[Record]:
    """Where there are several checkpoints, a strategy's name says which one it began from: `frozen_probe@mini`."""
    if len({record.weights_sha256 for record in records} - {None}) < 2:
        return list(records)
    labels: dict[str, str] = {}
    for record in records:
        if record.weights_sha256 is not None:
            labels.setdefault(record.weights_sha256, str(record.parameters.get("checkpoint", "")))
    several = [label for label in labels.values() if list(labels.values()).count(label) > 1]
    names = {digest: f"{label}-{digest[:8]}" if label in several else label for digest, label in labels.items()}
    return [_at(record, names.get(record.weights_sha256 or "", "")) for record in records]


def _at(record: Record, checkpoint: str) -> Record:
    named = not checkpoint or "@" in record.strategy
    return record if named else dataclasses.replace(record, strategy=f"{record.strategy}@{checkpoint}")


def refuse_other_parameters(records: Sequence[Record]) -> None:
    """Refuse a strategy whose hyper-parameters or weights are not the same throughout: its mean would be of several."""
    first: dict[str, Record] = {}
    for record in records:
        before = first.setdefault(record.strategy, record)
        known = None not in (before.weights_sha256, record.weights_sha256)
        other = [
            f"{name} {before.parameters.get(name)!r} and {record.parameters.get(name)!r}"
            for name in sorted(before.parameters.keys() | record.parameters.keys())
            if not (name == "checkpoint" and known)
            and _written(before.parameters.get(name)) != _written(record.parameters.get(name))
        ]
        if known and before.weights_sha256 != record.weights_sha256:
            other.append("other weights")
        if other:
            raise FrostlineError(
                f"records of {record.strategy!r} have different hyper-parameters: {'; '.join(other)} (repeats "
                f"{before.repeat}{_study(before)} and {record.repeat}{_study(record)}); "
                "evaluate all repeats with the same"
            )


def _written(value: object) -> object:
    """A hyper-parameter as a file holds it: of a tuple that is a list, and records are of this run and of files."""
    return list(value) if isinstance(value, tuple) else value


def refuse_gaps(records: Sequence[Record]) -> None:
    """Refuse a strategy that was evaluated twice on a split, or not on all of those that others were."""
    for alike in _grouped(records, lambda record: (record.budget, record.unseen)):
        seen: set[tuple[str, int]] = set()
        for record in alike:
            if (record.strategy, record.repeat) in seen:
                raise FrostlineError(f"two records of {record.strategy!r}, repeat {record.repeat}")
            seen.add((record.strategy, record.repeat))
        repeats = {name: {r for s, r in seen if s == name} for name in dict.fromkeys(r.strategy for r in alike)}
        if len({frozenset(found) for found in repeats.values()}) > 1:
            raise FrostlineError(f"strategies were evaluated on different repeats: {repeats}")


def _grouped(records: Sequence[Record], key: Callable[[Record], Hashable]) -> list[list[Record]]:
    """Records that share a key, in the order of both."""
    groups: dict[Hashable, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())

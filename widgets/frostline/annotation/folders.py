"""The folder of a model: model.json, what was trained, calibration and reference cells, and the hash of each.

Nothing in it is code: weights and calibration are safetensors, reference cells plain arrays, and no pickle is ever
read. A folder is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.cards import versions
from frostline.annotation.certificates import Certificate
from frostline.annotation.facts import COPY, FORMAT, MODEL, SCHEMA, ModelFacts, content_sha256, read_facts, some
from frostline.annotation.hierarchies import Hierarchy
from frostline.annotation.models import Calibration, Model
from frostline.annotation.novelty import Centroids
from frostline.annotation.places import put_in_place, recover, refuse_bad_target
from frostline.annotation.references import packed, unpacked
from frostline.encoder.catalogue import CHECKPOINTS
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import CheckpointError, ModelError
from frostline.hashes import file_sha256
from frostline.plain_files import expanded, is_plain_file
from frostline.scratch import scratch_folder
from frostline.strategies import STRATEGIES, Strategy
from frostline.strategies.base import as_safetensors

CALIBRATION = "calibration.safetensors"
REFERENCE = "reference.npz"
MOST = 2**33
"""Bytes of any other file."""


def save_model(model: Model, folder: str | Path) -> Path:
    """Keep a model in a folder.

    Parameters
    ----------
    model
        What `adapt` returned.
    folder
        New, empty, or of a model already, which is replaced.

    Returns
    -------
    Path
        The folder, links followed.

    Raises
    ------
    ModelError
        The folder holds anything else, or cannot be written.
    """
    place = refuse_bad_target(folder)
    files = _files(model)
    facts = _facts(model, files)
    try:
        with scratch_folder(place.parent) as staging:
            for name, content in {MODEL: facts, **files}.items():
                (staging / name).write_bytes(content)
            staging.chmod(0o755)
            put_in_place(staging, place)
    except OSError as error:
        raise ModelError(f"model folder {place} cannot be written ({error.strerror or error})") from error
    return place


def _files(model: Model) -> dict[str, bytes]:
    """Content of all files but model.json, by name."""
    found = model.calibration
    weights = model.strategy.weight_files()
    arrays = {
        "energies": found.energies,
        "distances": found.distances,
        **{f"centroids.{name}": array for name, array in found.centroids.arrays().items()},
        **{f"hierarchy.{name}": array for name, array in found.hierarchy.arrays().items()},
    }
    files = {**weights, CALIBRATION: as_safetensors(arrays, {"of": _digest(weights)})}
    return files if model.reference is None else {**files, REFERENCE: packed(model.reference)}


def _digest(files: Mapping[str, bytes]) -> str:
    """Of the weights that a calibration belongs to."""
    digests = [f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _facts(model: Model, files: Mapping[str, bytes]) -> bytes:
    """Content of model.json."""
    strategy, parameters = model.strategy, dict(model.strategy.parameters)
    if parameters.get("checkpoint"):
        parameters["checkpoint"] = _found_from_anywhere(parameters["checkpoint"])
    content: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA,
        "strategy": {
            "name": type(strategy).name,
            "parameters": parameters,
            "classes": strategy.classes_,
            "genes": strategy.genes_,
        },
        "checkpoint": model.card["checkpoint"],
        "genes": model.genes,
        "ensembl": model.ensembl,
        "calibration": {
            "temperature": model.calibration.temperature,
            "alpha": model.calibration.alpha,
            "certificate": model.calibration.certificate.facts(),
        },
        "card": dict(model.card),
        "versions": versions(),
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        },
    }
    content["content_sha256"] = content_sha256(content)
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _found_from_anywhere(checkpoint: str | Path) -> str:
    """Name of a checkpoint, or its folder as it is found from every other folder."""
    return str(checkpoint) if str(checkpoint) in CHECKPOINTS else str(expanded(checkpoint).absolute())


def load_model(folder: str | Path, *, checkpoint: str | Path | None = None) -> Model:
    """Load a model that `Model.save` or `frostline adapt` has kept.

    One that was made for a GPU that is not here takes the device `auto`; the precision stays, which decides the labels.

    Parameters
    ----------
    folder
        Of the model.
    checkpoint
        Where its checkpoint is, for one that is a folder and is not where it was; its weights must be the same.

    Raises
    ------
    ModelError
        It is no model of frostline, is of a newer version, a file is missing or has been altered, or the files do not
        fit together; says which.
    CheckpointError
        The checkpoint is not there, or holds other weights than the model was fitted on.

    Examples
    --------
    >>> load_model("no-such-folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    frostline.errors.ModelError: no-such-folder is no folder of a model: there is no such folder; name the folder ...
    """
    place = expanded(folder)
    if not os.path.lexists(place):
        recover(place)
    facts = read_facts(place)
    files = _read_files(place, facts)
    if facts.checkpoint:
        facts.strategy.parameters["checkpoint"] = _checkpoint(place, facts, checkpoint)
    try:
        return _rebuilt(place, facts, files)
    except (ModelError, CheckpointError):
        raise
    except Exception as error:  # whatever files give that fit neither each other nor the strategy
        raise ModelError(
            f"the files of {place} do not fit together ({type(error).__name__}: {error}); keep the model again"
        ) from error


def _read_files(place: Path, facts: ModelFacts) -> dict[str, bytes]:
    """Content of the other files, each as it was kept."""
    missing = [name for name in facts.files if not is_plain_file(place / name)]
    links = [name for name in missing if os.path.lexists(place / name)]
    if links:
        raise ModelError(
            f"{some(links)} in {place} is no file of its own, but a link, a folder or a pipe; put the file itself "
            "there (cp --dereference), or keep the model again"
        )
    if missing:
        raise ModelError(f"{place} lacks {some(missing)}, which its {MODEL} lists; copy the whole folder again")
    files = {}
    for name, about in facts.files.items():
        path = place / name
        if path.stat().st_size > MOST or file_sha256(path) != about.sha256:
            raise ModelError(
                f"{path} has been altered since the model was kept (its sha256 differs); copy the folder again"
            )
        files[name] = path.read_bytes()
    return files


def _checkpoint(place: Path, facts: ModelFacts, given: str | Path | None) -> str:
    """Name or folder of the checkpoint that a model was fitted on."""
    assert facts.checkpoint is not None
    name = given or facts.strategy.parameters.get("checkpoint")
    wanted = facts.checkpoint
    said = "; say where it is: load_model(..., checkpoint=FOLDER), for frostline annotate --checkpoint FOLDER"
    remedy = "" if wanted.name in CHECKPOINTS else said
    try:
        opened = load_checkpoint(str(name))
    except CheckpointError as error:
        raise CheckpointError(f"{place} was fitted on checkpoint {wanted.name!r}: {error}{remedy}") from error
    if opened.weights_sha256 != wanted.weights_sha256:
        raise CheckpointError(
            f"{place} was fitted on checkpoint {wanted.name!r} with the sha256 {wanted.weights_sha256[:12]}..., and "
            f"{str(name)!r} holds other weights ({opened.weights_sha256[:12]}...){remedy}"
        )
    return _found_from_anywhere(str(name))


def _rebuilt(place: Path, facts: ModelFacts, files: Mapping[str, bytes]) -> Model:
    if len(facts.ensembl) != len(facts.genes):
        raise ModelError(
            f"{place / MODEL} has {len(facts.genes):,} genes and {len(facts.ensembl):,} Ensembl ids; {COPY}"
        )
    strategy = _strategy(place, facts, files)
    calibration = _calibration(place, facts, files)
    reference = None
    if REFERENCE in files:
        reference = unpacked(files[REFERENCE], str(place / REFERENCE), len(facts.genes))
        _refuse_other_classes(place / REFERENCE, np.unique(reference.labels).tolist(), facts.strategy.classes, few=True)
    return Model(
        strategy=strategy,
        genes=tuple(facts.genes),
        ensembl=tuple(facts.ensembl),
        calibration=calibration,
        reference=reference,
        card=facts.card.model_dump(),
    )


def _strategy(place: Path, facts: ModelFacts, files: Mapping[str, bytes]) -> Strategy:
    about = facts.strategy
    if about.name not in STRATEGIES:
        raise ModelError(
            f"{place / MODEL} is of strategy {about.name!r}, which this version of frostline does not have; upgrade "
            "frostline, or keep the model again"
        )
    if about.parameters.get("device") in ("cuda", "mps"):
        from frostline.encoder.devices import is_there  # torch

        if not is_there(about.parameters["device"]):
            about.parameters["device"] = "auto"
    weights = _weights(files)
    for name, content in weights.items():
        if name.endswith(".safetensors"):
            _finite(place / name, content)
    return STRATEGIES[about.name].restored(about.parameters, about.classes, about.genes, weights)


def _weights(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name not in (CALIBRATION, REFERENCE)}


def _finite(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    """Arrays of a safetensors file; refused where a number is none."""
    from safetensors.numpy import load

    arrays = load(content)
    bad = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        raise ModelError(f"{path} holds numbers that are not finite, in {some(bad)}; keep the model again")
    return arrays


def _calibration(place: Path, facts: ModelFacts, files: Mapping[str, bytes]) -> Calibration:
    path = place / CALIBRATION
    content = files[CALIBRATION]
    arrays = _finite(path, content)
    if _metadata(content).get("of") != _digest(_weights(files)):
        raise ModelError(f"{path} is the calibration of other weights than this folder holds; keep the model again")
    hierarchy = Hierarchy.from_arrays(_below(arrays, "hierarchy."))
    _refuse_other_classes(path, hierarchy.classes, facts.strategy.classes)
    certificate = Certificate.from_facts(facts.calibration.certificate)
    if not certificate.n == len(arrays["energies"]) == len(arrays["distances"]):
        raise ModelError(f"{path} holds {len(arrays['energies']):,} cells, and {MODEL} says {certificate.n:,}")
    return Calibration(
        temperature=facts.calibration.temperature,
        certificate=certificate,
        energies=arrays["energies"],
        distances=arrays["distances"],
        centroids=Centroids.from_arrays(_below(arrays, "centroids.")),
        hierarchy=hierarchy,
        alpha=facts.calibration.alpha,
    )


def _metadata(content: bytes) -> dict[str, str]:
    """What a safetensors file says of itself."""
    size = int.from_bytes(content[:8], "little")
    return cast(dict[str, str], json.loads(content[8 : 8 + size]).get("__metadata__", {}))


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _refuse_other_classes(path: Path, seen: Sequence[str], classes: Sequence[str], *, few: bool = False) -> None:
    """Refuse classes that are not those of the strategy; `few`: some of them are enough."""
    if set(seen) != set(classes) and not (few and set(seen) < set(classes)):
        other = sorted(set(seen) ^ set(classes))
        raise ModelError(f"{path} is of other classes than {MODEL} says: {some(other)}; keep the model again")

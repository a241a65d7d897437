"""The checkpoints that are known by name: where they come from and what is publicly known of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILES = ("args.json", "vocab.json", "best_model.pt")
"""Of an official checkpoint, as they are downloaded."""


@dataclass(frozen=True)
class Pin:
    """What is publicly known of a file."""

    sha256: str
    size: int | None = None
    """In bytes, where it is known."""
    seen: str = ""
    """Where the sha256 stands."""
    gate: bool = True
    """Refuse a file that is another one; else only say so."""


@dataclass(frozen=True)
class CheckpointSpec:
    """One known checkpoint."""

    name: str
    description: str
    megabytes: int
    """Size of the weights."""
    folder: Path | None = None
    """Where it is, for one that is installed with the package."""
    hub: tuple[str, ...] = ()
    """Repositories of the Hugging Face Hub, for one that is downloaded; tried in this order."""
    drive_folder: str | None = None
    """Id of its Google Drive folder, tried last."""
    pins: Mapping[str, Pin] = field(default_factory=dict)
    """File -> what is publicly known of it."""
    overlaps: Mapping[str, str] = field(default_factory=dict)
    """Data set -> what must be said of results on it, since pre-training may have seen its like."""

    @property
    def is_here(self) -> bool:
        """Whether it loads without a network."""
        return self.folder is not None or (cache_folder() / self.name).is_dir()

    @property
    def sources(self) -> tuple[str, ...]:
        """Where it comes from, in the order in which it is tried."""
        hubs = tuple(f"https://huggingface.co/{name}" for name in self.hub)
        drive = (f"https://drive.google.com/drive/folders/{self.drive_folder}",) if self.drive_folder else ()
        return hubs + drive

    @property
    def gates(self) -> dict[str, Pin]:
        """Files that are refused when they are not the known ones."""
        return {file: pin for file, pin in self.pins.items() if pin.gate}

    def trust(self, file: str, sha256: str | None = None) -> str:
        """Why a downloaded file is trusted, in words; with its sha256, whether it is the known one."""
        pin = self.pins.get(file)
        if pin is None:
            return "no public sha256: trusted as it was first downloaded"
        if sha256 is None or sha256 == pin.sha256:
            return f"sha256 {pin.seen}" + ("" if pin.gate else ", a hint: mirrors add keys")
        return f"differs from the sha256 that is {pin.seen}; mirrors add keys"

    @property
    def offline_way(self) -> str:
        """What to do without a network."""
        return (
            f"Without a network, fetch {', '.join(FILES)} elsewhere into one folder, from {' or '.join(self.sources)}, "
            "and pass its path, or use 'mini'"
        )


def _official(
    name: str, description: str, drive_folder: str, *, hub: tuple[str, ...] = (), pins: Mapping[str, Pin] | None = None
) -> CheckpointSpec:
    return CheckpointSpec(
        name=name,
        description=f"official scGPT, {description}",
        megabytes=205,
        hub=(*hub, f"perturblab/scgpt-{'human' if name == 'whole-human' else name}"),
        drive_folder=drive_folder,
        pins=pins or {},
    )


_SIX = "public, seen in six independent places"


# The official model zoo as listed in scGPT's README; one size, since all share architecture and vocabulary.
CHECKPOINTS = {
    spec.name: spec
    for spec in (
        CheckpointSpec(
            name="mini",
            description="a small scGPT-architecture encoder for demonstration, pre-trained by frostline on 8,656 blood "
            "cells; not the official weights",
            megabytes=7,
            folder=Path(__file__).parents[1] / "data" / "mini",
            overlaps={"pbmc68k-reduced": "The checkpoint mini was pre-trained on other cells of the same donor."},
        ),
        _official(
            name="whole-human",
            description="33 million normal human cells (recommended)",
            drive_folder="1oWh_-ZRdhtoGQ2Fw24HP41FgLoomVo-y",
            hub=("u-cellm/scGPT-whole-human", "wanglab/scGPT-human"),
            pins={
                "best_model.pt": Pin(
                    sha256="6cb5d451ab5c4b33eb673adbe4fddc61d2389df1b89b7651a9fe2e557572b922",
                    size=205_385_258,  # bytes
                    seen=_SIX,
                ),
                "vocab.json": Pin(
                    sha256="acca93d114ca62c3f0f50debbd23e8c87f0714f4737764454f6b2b13f2e8580f",
                    seen=_SIX,
                ),
                "args.json": Pin(
                    sha256="c18e075e018140cb8b2d9029387b9de26607a5ce6a8ccabd6ead70cd76b95d60",
                    seen=_SIX,
                    gate=False,
                ),
            },
        ),
        _official(
            name="continual-pretrained",
            description="whole-human, continued with cell type labels for zero-shot embeddings",
            drive_folder="1_GROJTzXiAV8HB4imruOTk6PEGuNOcgB",
            pins={
                "best_model.pt": Pin(
                    sha256="ad0252a1971e0cd619b7116dbab3177432236c4537225d54280a2aa7e5fe402a",
                    size=207_861_754,  # bytes
                    seen="public, seen in one place only: unconfirmed",
                )
            },
        ),
        _official(
            name="brain",
            description="13.2 million brain cells",
            drive_folder="1vf1ijfQSk7rGdDGpBntR5bi5g6gNt-Gx",
        ),
        _official(
            name="blood",
            description="10.3 million blood and bone marrow cells",
            drive_folder="1kkug5C7NjvXIwQGGaGoqXTk_Lb_pDrBU",
        ),
        _official(
            name="heart",
            description="1.8 million heart cells",
            drive_folder="1GcgXrd7apn6y4Ze_iSCncskX3UsWPY2r",
            pins={
                "best_model.pt": Pin(
                    sha256="23b4c43f403a4069e3acaa2a11c9a7be971b14e3c363739a6c4d24651c3feee7",
                    seen="public, seen in two places",
                )
            },
        ),
        _official(
            name="lung",
            description="2.1 million lung cells",
            drive_folder="16A1DJ30PT6bodt4bWLa4hpS7gbWZQFBG",
        ),
        _official(
            name="kidney",
            description="814 thousand kidney cells",
            drive_folder="1S-1AR65DF120kNFpEbWCvRHPhpkGK3kK",
        ),
        _official(
            name="pan-cancer",
            description="5.7 million cells of various cancers",
            drive_folder="13QzLHilYUd0v3HTwa_9n4G4yEF-hdkqa",
        ),
    )
}


def cache_folder(kind: str = "checkpoints") -> Path:
    """Return the folder of downloaded checkpoints (or of another kind): $FROSTLINE_CACHE/KIND, or the user's cache."""
    import os

    import platformdirs

    base = os.environ.get("FROSTLINE_CACHE") or platformdirs.user_cache_dir("frostline")
    return Path(os.path.expanduser(base)) / kind

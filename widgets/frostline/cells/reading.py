"""Files of cells: what one is, whether it may be read, and the line that mends it where it cannot.

A file is looked at before anyone reads it: nothing in it may lead to another file, and its parts may not form a circle.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.plain_files import expanded, is_system_file

if TYPE_CHECKING:
    from anndata import AnnData

_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:/{1,3}[^/]")
MOST_PARTS = 20_000
"""Groups and arrays that a file may have where some stand at several places; an .h5ad has hundreds."""
CHUNK_CACHE, PLACES_CACHE = 2**20, 2**18
"""Bytes of an array's chunks that are held while it is read, one of the largest of h5py, not the 8 MB of HDF5 2.0; and
of what says where all is, names of cells included, of which HDF5 would hold up to 32 MB."""
DEEPEST = 50
"""Levels of groups in groups."""

_SCANPY = "import scanpy as sc; adata = sc.{}; adata.var_names_make_unique(); adata.write_h5ad({!r})"
_BY_ENDING = {
    ".h5": "read_10x_h5({path!r})",
    ".loom": "read_loom({path!r})",
    ".csv": "read_csv({path!r})",
    ".tsv": "read_text({path!r}, delimiter='\\t')",
    ".txt": "read_text({path!r})",
    ".xlsx": "read_excel({path!r}, 'Sheet1'); adata.X = adata.X.astype('float32')",
    ".mtx": "read_mtx({path!r}).T",
}
"""How scanpy reads files of other kinds; rows are cells."""
_NEEDS = {".loom": "loompy", ".xlsx": "openpyxl"}
"""What scanpy reads them with and does not bring along."""
_IN_R = {
    ".rds": "anndataR::write_h5ad(readRDS({path!r}), {to!r})",
    ".h5seurat": "SeuratDisk::Convert({path!r}, dest = 'h5ad')",
    ".rdata": "anndataR::write_h5ad(get(load({path!r})), {to!r})",
}
_PACKED = {
    b"\x1f\x8b": ("gzip", ".gz", "gunzip {}"),
    b"PK\x03\x04": ("zip", ".zip", "unzip {}"),
    b"\xfd7zXZ": ("xz", ".xz", "xz -d {}"),
    b"BZh": ("bzip2", ".bz2", "bunzip2 {}"),
    b"\x28\xb5\x2f\xfd": ("zstandard", ".zst", "zstd -d {}"),
}
_PACKED_BY_NATURE = {".xlsx", ".rds", ".rdata"}
_HDF5 = b"\x89HDF\r\n\x1a\n"


def problem(source: str | Path) -> str:
    """Say why a path is no .h5ad file that can be read, and how to mend that; empty where nothing is seen.

    Parameters
    ----------
    source
        As it was typed; only the first bytes of a file are read.

    Examples
    --------
    >>> problem("https://example.org/cells.h5ad")[:52]
    'https://example.org/cells.h5ad is an address, and fr'
    """
    text = str(source)
    if _ADDRESS.match(text):
        return _address(text)
    try:
        return _problem(expanded(source), text)
    except (OSError, ValueError) as error:  # no right to look there, a name too long, or with a zero byte
        return f"{text} cannot be looked at: {error}"


def _address(text: str) -> str:
    scheme, _, rest = text.partition(":/")
    if scheme.lower() == "file":
        return f"{text} is an address, and frostline reads files: give the path alone, /{rest.lstrip('/')}"
    address = f"{scheme}://{rest.lstrip('/')}"
    name = Path(re.split("[?#]", rest)[0]).name or "cells.h5ad"
    quoted = shlex.quote(address)
    fetch = {"s3": f"aws s3 cp {quoted} .", "gs": f"gcloud storage cp {quoted} ."}
    line = fetch.get(scheme.lower(), f"curl -L -o {shlex.quote(name)} {quoted}")
    return f"{text} is an address, and frostline reads files: download it first ({line}), then give {name}"


def _problem(path: Path, text: str) -> str:
    if path.is_symlink() and not path.exists():
        return f"{text} is a link to {os.readlink(path)}, which is not there"
    if path.is_dir():
        return _folder(path, text)
    if not path.exists():
        return _other_kind(path, text) if path.suffix != ".h5ad" else _missing(path, text)
    if not path.is_file():
        return f"{text} is no regular file"
    if not os.access(path, os.R_OK):
        return _no_right(path)
    return _content(path, text)


def _no_right(path: Path) -> str:
    return f"{path} may not be read by you: chmod u+r {shlex.quote(str(path))}, or ask its owner"


def _missing(path: Path, text: str) -> str:
    near = path.parent if path.parent.is_dir() else None
    there = _files_in(near)[:3] if near else []
    return f"there is no file {text}" + (f"; in its folder: {', '.join(there)}" if there else "")


def _files_in(folder: Path) -> list[str]:
    """Names of files that may be meant."""
    return sorted(file.name for file in folder.glob("*.h5ad") if not is_system_file(file))


def _folder(path: Path, text: str) -> str:
    target = f"{path.name.removesuffix('.zarr').removesuffix('.h5ad') or 'cells'}.h5ad"
    if any((path / name).exists() for name in (".zgroup", "zarr.json", ".zattrs")):
        line = f"import anndata; anndata.read_zarr({text!r}).write_h5ad({target!r})"
        return f"{text} is a zarr folder and no .h5ad file; write one with {line}"
    if any((path / name).exists() for name in ("matrix.mtx", "matrix.mtx.gz")):
        line = _SCANPY.format(f"read_10x_mtx({text!r})", target)
        return f"{text} is a folder of 10x and no .h5ad file; write one with {line}"
    inside = _files_in(path)[:3]
    return f"{text} is a folder" + (f"; in it: {', '.join(inside)}" if inside else " without an .h5ad file")


def _content(path: Path, text: str) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if not head and path.suffix == ".h5ad":
        return f"{text} cannot be read as .h5ad: it is empty (0 bytes); download or write it again"
    if head.startswith(b"version https://git-lfs"):
        return f"{text} is a pointer of Git LFS, not the file itself: git lfs pull --include {shlex.quote(path.name)}"
    if re.match(rb"\s*(<\?xml|<!doctype|<html|<head)", head, re.IGNORECASE):
        return f"{text} is a web page, saved under this name (a login or an error page?): download the file again"
    packed = {} if path.suffix.lower() in _PACKED_BY_NATURE else _PACKED
    for magic, (kind, ending, line) in packed.items():
        if head.startswith(magic):
            name = str(path) if path.suffix == ending else f"{path}{ending}"
            line = line.format(shlex.quote(name))
            line = line if name == str(path) else f"{shlex.join(['mv', str(path), name])} && {line}"
            return f"{text} is compressed with {kind}; unpack it first: {line}"
    return "" if path.suffix == ".h5ad" or head.startswith(_HDF5) else _other_kind(path, text)


def _other_kind(path: Path, text: str) -> str:
    ending, target = path.suffix.lower(), f"{path.stem}.h5ad"
    if ending in _IN_R:
        return f"{text} is no .h5ad file; write one in R with {_IN_R[ending].format(path=text, to=target)}"
    if ending in _BY_ENDING:
        line = _SCANPY.format(_BY_ENDING[ending].format(path=text), target)
        return f"{text} is no .h5ad file; {_first(ending)}write one with {line}"
    return f"{text} is no .h5ad file; write one with adata.write_h5ad({target!r})"


def _first(ending: str) -> str:
    """The step before a line that needs what may not be installed."""
    return f"pip install {_NEEDS[ending]}, then " if ending in _NEEDS else ""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an .h5ad file that leads nowhere else, for reading; whatever cannot be read inside becomes one DatasetError.

    Raises
    ------
    DatasetError
        There is no such file, it is of another kind, locked, damaged or too new, or leads to other files.
    """
    import h5py

    said = problem(path)
    if said:
        raise DatasetError(said)
    with as_dataset_error(path), h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE) as file:
        _hold_less(file)
        refuse_foreign_parts(file, path)
        _refuse_other_layouts(file, path)
        yield file


@contextmanager
def as_dataset_error(path: Path) -> Iterator[None]:
    """Say plainly what is wrong with an .h5ad file, whatever is raised while it is read.

    Raises
    ------
    DatasetError
        It is locked, damaged or too new.
    """
    try:
        yield
    except (FrostlineError, Cancelled):
        raise
    except Exception as error:  # h5py and anndata have many; to the reader they are one
        raise DatasetError(_reason(path, error)) from error


def _hold_less(file: Any) -> None:
    """Bound what HDF5 keeps of where things are in a file, and of its names."""
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = PLACES_CACHE
    file.id.set_mdc_config(config)


def read_h5ad(path: Path) -> AnnData:
    """Read an .h5ad file, or say plainly why that is impossible.

    Raises
    ------
    DatasetError
        There is no such file, it is of another kind, locked, damaged or too new, or leads to other files.
    """
    import anndata

    with opened(Path(path)):
        return anndata.read_h5ad(path)


def _reason(path: Path, error: Exception) -> str:
    words = str(error)
    if isinstance(error, BlockingIOError) or "unable to lock file" in words:
        return (
            f"{path} is locked: another program has it open for writing. Close it there (adata.file.close(), or end "
            "the notebook); on a network drive that cannot lock files, start with HDF5_USE_FILE_LOCKING=FALSE set"
        )
    if "already open for" in words or "consistency flags" in words:
        return (
            f"{path} is open for writing, or a program that wrote it was killed: close it there (adata.file.close()); "
            f"if nobody has it open: h5clear -s {shlex.quote(str(path))}"
        )
    if isinstance(error, PermissionError):
        return _no_right(path)
    chain = _causes(error)
    if any(type(cause).__name__ == "IORegistryError" for cause in chain) or any("IOSpec" in str(c) for c in chain):
        spec = next((found for cause in chain for found in re.findall(r"IOSpec\([^)]*\)", str(cause))), words)
        return (
            f"{path} was written by a newer anndata than {version('anndata')}, which does not know {spec}: "
            "pip install -U anndata, or write the file again with the older version"
        )
    return f"{path} cannot be read as .h5ad (truncated or not an AnnData file?): {error}"


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _refuse_other_layouts(file: Any, path: Path) -> None:
    """Tell other kinds of HDF5 by their groups, whatever the file is called."""
    names = set(file)
    target = f"{path.stem}.h5ad" if path.suffix != ".h5ad" else f"{path.stem}.converted.h5ad"
    inside = sorted(file["mod"]) if "mod" in names and isinstance(file["mod"], type(file["/"])) else []
    if inside:
        name = f"mod/{'rna' if 'rna' in inside else inside[0]}"
        line = f"import anndata, h5py; anndata.io.read_elem(h5py.File({str(path)!r})[{name!r}]).write_h5ad({target!r})"
        raise DatasetError(
            f"{path} holds several modalities (MuData: {', '.join(inside)}); write one of them with {line}"
        )
    if {"obs", "var"} <= names:
        return
    if "matrix" in names and isinstance(file["matrix"], type(file["/"])) and "barcodes" in file["matrix"]:
        line = _SCANPY.format(f"read_10x_h5({str(path)!r})", target)
        raise DatasetError(f"{path} is a file of 10x (Cell Ranger) and no .h5ad file; write one with {line}")
    if {"matrix", "row_attrs", "col_attrs"} <= names:
        line = _SCANPY.format(f"read_loom({str(path)!r})", target)
        raise DatasetError(f"{path} is a loom file and no .h5ad file; {_first('.loom')}write one with {line}")
    if "assays" in names or "cell.names" in names:
        line = _IN_R[".h5seurat"].format(path=str(path))
        raise DatasetError(f"{path} is an h5Seurat file and no .h5ad file; write one in R with {line}")
    missing = " and ".join(sorted({"obs", "var"} - names))
    raise DatasetError(f"{path} cannot be read as .h5ad (truncated or not an AnnData file?): it has no {missing}")


def refuse_foreign_parts(file: Any, path: Path) -> None:
    """Refuse a file that leads to other files, or whose parts form a circle; nothing outside it is opened.

    Raises
    ------
    DatasetError
        Names the part.
    """
    manifold = False
    for name, leads_to in _links(file):
        if leads_to is None:
            manifold = True
            continue
        raise DatasetError(
            f"{path}: {name} lies in another file ({leads_to}), which is not read; write a file that holds everything, "
            "where it was made: import anndata; anndata.read_h5ad(...).write_h5ad('whole.h5ad')"
        )
    if manifold:
        _refuse_circles(file, path)


def _refuse_circles(file: Any, path: Path) -> None:
    stack, parts = [("", file, 0)], 0
    while stack:
        name, group, depth = stack.pop()
        for key, part in _parts(group):
            parts += 1
            if parts > MOST_PARTS or depth > DEEPEST:
                raise DatasetError(
                    f"{path} is no sound .h5ad file: its links form a circle or multiply, such as {name[:60]}/{key}"
                )
            if hasattr(part, "keys"):
                stack.append((f"{name}/{key}", part, depth + 1))


def _parts(group: Any) -> Iterator[tuple[str, Any]]:
    """Groups and arrays in a group; links that lead nowhere are left to the reader."""
    for key in group:
        try:
            yield key, group[key]
        except KeyError:
            continue


def _links(file: Any) -> Iterator[tuple[str, str | None]]:
    """(name, where it lies) of what is not in the file itself, and (name, None) of what stands at a second place too.

    Only hard links are followed.
    """
    import h5py

    stack, seen = [("", file)], {h5py.h5o.get_info(file["/"].id).addr}
    while stack:
        name, group = stack.pop()
        for key in group:
            here = f"{name}/{key}"
            try:
                link = group.get(key, getlink=True)
            except TypeError:  # a kind of link that only other programs know
                yield here, "a link of an unknown kind"
                continue
            if not isinstance(link, h5py.HardLink):
                yield here, link.filename if isinstance(link, h5py.ExternalLink) else None
                continue
            part = group[key]
            address = h5py.h5o.get_info(part.id).addr
            if address in seen:
                yield here, None
                continue
            seen.add(address)
            if isinstance(part, h5py.Group):
                stack.append((here, part))
            elif isinstance(part, h5py.Dataset):
                yield from ((here, where) for where in _stored_elsewhere(part))


def _stored_elsewhere(array: Any) -> Iterator[str]:
    yield from (str(name) for name, *_ in array.external or ())
    if array.is_virtual:
        yield from (source.file_name for source in array.virtual_sources() if source.file_name != ".")

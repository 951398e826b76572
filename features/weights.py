"""A checkpoint's files on disk: which they are, whether they are whole, and the digest that is the checkpoint's identity.

Needs no torch: a zoo of hundreds is checked and named before the first weight is read into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import CheckpointError

# What decides a checkpoint's numbers besides its weights: the configuration and everything that a tokenizer is read from.
SIDE_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
)
# What transformers loads a folder from, in its order: the first that is there, an index for the shards that it names.
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

# (real path, size, mtime, ctime, inode) -> sha256 of the content. Only for files that have rested: one that was written a
# moment ago could be written again within the clock's granularity and keep its stamps.
_hashes: dict[tuple[str, int, int, int, int], str] = {}
_REST_SECONDS = 3.0


def resolve(path: str | os.PathLike[str], revision: str | None = None, gguf_file: str | None = None) -> Path:
    """The local folder of a checkpoint: `path` itself, or the Hub's snapshot where `path` is a Hub id.

    A path to a single ``.gguf`` file stands for its folder. Raises CheckpointError where there is neither.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.suffix == ".gguf" and folder.is_file():
        return folder.parent
    text = str(path)
    looks_local = text.startswith((".", "/", "~")) or folder.is_absolute() or text.count("/") > 1 or folder.exists()
    if looks_local:
        found = "a file where a folder is needed" if folder.exists() else "no such folder"
        raise CheckpointError(
            found, where=text, remedy="give a folder of save_pretrained, a .gguf file, or a Hub id (owner/name)"
        )
    from huggingface_hub import snapshot_download

    weights = [gguf_file] if gguf_file else ["*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(snapshot_download(text, revision=revision, allow_patterns=[*weights, *SIDE_FILES, "*.py"]))
    except Exception as cause:
        raise CheckpointError(
            f"neither a folder here nor to be had from the Hub ({type(cause).__name__}: {_first_line(cause)})",
            where=text,
            remedy="check the name, or unset HF_HUB_OFFLINE to download it",
        ) from cause


def weight_files(folder: Path, gguf_file: str | None = None, *, allow_pickle: bool = False) -> list[Path]:
    """The files that hold the weights, sorted: those, and only those, that transformers loads. Each is checked to be there and
    whole (safetensors by its header).

    Raises CheckpointError, naming the file and the cause, for a missing or damaged file and for a folder of another kind.
    """
    if gguf_file is not None:
        file = folder / gguf_file
        if not file.is_file():
            raise CheckpointError("no such file", where=str(file), remedy="check gguf_file")
        _check_gguf(file)
        return [file]
    names = [*SAFETENSORS, *(PICKLES if allow_pickle else ())]
    first = next((folder / name for name in names if (folder / name).is_file()), None)
    if first is None:
        message, remedy = _other_kind(folder)
        raise CheckpointError(message, where=str(folder), remedy=remedy)
    files = _shards(first) if first.suffix == ".json" else [first]
    if first.name in SAFETENSORS:
        for file in files:
            _check_safetensors(file)
    return files


def weights_digest(
    path: str | os.PathLike[str], gguf_file: str | None = None, *, revision: str | None = None, allow_pickle: bool = False
) -> str:
    """``sha256:...`` over the content of the weight files, configuration and tokenizer: the identity of a checkpoint.

    Where the configuration or the tokenizer's names code of the checkpoint's own, the folder's *.py count too. File names count,
    paths and times do not: a copied or moved checkpoint keeps its digest. Raises CheckpointError as `weight_files` does.
    """
    folder = resolve(path, revision, gguf_file)
    if Path(path).suffix == ".gguf" and gguf_file is None:
        gguf_file = Path(path).name
    files = weight_files(folder, gguf_file, allow_pickle=allow_pickle)
    if gguf_file is None:
        files = [*files, *(folder / name for name in SIDE_FILES if (folder / name).is_file()), *_code(folder)]
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0{file_hash(file)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def file_hash(file: Path) -> str:
    """sha256 (hex) of a file's content, remembered for as long as the file is the same one, untouched."""
    with _readable(file):
        before = file.stat()
        key = (str(file.resolve()), before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino)
        known = _hashes.get(key)
        if known is not None:
            return known
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        after = file.stat()
    rested = time.time() - max(after.st_mtime, after.st_ctime) > _REST_SECONDS
    if rested and (after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino) == key[1:]:
        _hashes[key] = digest
    return digest


def prefetch(path: str | os.PathLike[str], *, revision: str | None = None, gguf_file: str | None = None) -> threading.Thread:
    """Read a checkpoint's files in a thread, so that the next `load` finds them in memory and its digest computed.

    Meant for the checkpoint after the one that computes. Returns the started thread (join it, or let it be); what is wrong
    with the files is left for `load` to say.
    """

    def read() -> None:
        try:
            weights_digest(path, gguf_file, revision=revision)
        except CheckpointError:
            return

    thread = threading.Thread(target=read, name=f"prefetch {path}", daemon=True)
    thread.start()
    return thread


def _code(folder: Path) -> list[Path]:
    """The checkpoint's own modules, sorted, where `auto_map` says that transformers may run them; else none."""
    for file in (folder / "config.json", folder / "tokenizer_config.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # what is wrong with it is left for `load` to say
            continue
        if isinstance(content, dict) and "auto_map" in content:
            return sorted(folder.glob("*.py"))
    return []


def _shards(index: Path) -> list[Path]:
    """The files that an index names, sorted; each is there."""
    try:
        with _readable(index):
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [index.parent / name for name in sorted(names)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as cause:
        what = f"the index of the weights cannot be read ({_first_line(cause)})"
        raise CheckpointError(what, where=str(index), remedy="fetch or save the checkpoint again") from cause
    if not files:
        raise CheckpointError(
            "the index of the weights names no file", where=str(index), remedy="fetch or save the checkpoint again"
        )
    for file in files:
        with _readable(file):
            there = file.is_file()
        if not there:
            raise CheckpointError(
                "a weight file is missing", where=str(file), remedy="the index names it: fetch or save the checkpoint again"
            )
    return files


def _check_safetensors(file: Path) -> None:
    with _readable(file), file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        lead = stream.read(8)
        length = struct.unpack("<Q", lead)[0] if len(lead) == 8 else 0
        header = stream.read(length) if 0 < length <= size - 8 else b""
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        needed = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        whole = size >= needed
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as cause:
        raise CheckpointError(
            "not a safetensors file, or its header is damaged", where=str(file), remedy="fetch or save it again"
        ) from cause
    if not whole:
        raise CheckpointError(f"truncated: {size} bytes of {needed}", where=str(file), remedy="fetch or save it again")


def _check_gguf(file: Path) -> None:
    with _readable(file), file.open("rb") as stream:
        lead = stream.read(4)
    if lead != b"GGUF":
        raise CheckpointError("not a GGUF file", where=str(file), remedy="fetch it again, or correct gguf_file")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """A file that the system does not let us read is the checkpoint's error."""
    try:
        yield
    except OSError as cause:
        what = f"cannot be read ({cause.strerror or cause})"
        raise CheckpointError(what, where=str(file), remedy="make it readable, or fetch or save it again") from cause


def _other_kind(folder: Path) -> tuple[str, str]:
    """What a folder without weights that may be loaded is instead, and what to do about it."""
    if (folder / "adapter_config.json").is_file():
        return "an adapter, not a checkpoint", "merge it into its base model (merge_and_unload) and save that"
    if pickles := [name for name in PICKLES if (folder / name).is_file()]:
        return (
            f"only pickled weights ({pickles[0]})",
            "convert them to safetensors, or allow pickle for this checkpoint by name",
        )
    if found := sorted(folder.glob("*.gguf")):
        return f"GGUF weights ({', '.join(f.name for f in found)})", f"name the file: gguf_file: {found[0].name}"
    if found := sorted(folder.glob("checkpoint-*")):
        return "a folder of training checkpoints", f"name one of them, e.g. {found[-1].name}"
    if any((folder / name).is_file() for name in ("tf_model.h5", "flax_model.msgpack", "model.onnx")):
        return "weights of another framework", "save the model with save_pretrained from PyTorch"
    if found := sorted(folder.glob("*.safetensors")):
        return f"neither {' nor '.join(SAFETENSORS)}, but {found[0].name}", "name the file, or its index, as save_pretrained does"
    return "no weights (*.safetensors)", "give the folder that save_pretrained wrote"


def _first_line(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]

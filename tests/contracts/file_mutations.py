"""Seeded damage and forgery of files: bytes, texts, JSON, npy and npz, HDF5, what a path is."""

import contextlib
import gzip
import io
import json
import os
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

OUTSIDE = "outside.h5"
"""A valid file beside the folder of a case: whoever reads it followed a link out of the file."""
CANARY = "unpickled"
"""A file beside the folder of a case that exists if something was unpickled."""

SPECIAL = (
    *(10**12, 2**63, -1, 0, 1, 2**31 - 1, 10**400, 1e308, 5e-324, -0.0, float("nan"), float("inf")),
    *(None, True, "", "x", "x" * 20_000, "../../x", "/etc/passwd", "\x00", "\ud800", "$array"),
    *([], {}, [[]], [1, "x", None], {"$function": "os.system"}, {"$array": ".weight"}),
)
WORDS = (
    *(b"1000000000000", b"-1", b"0", b"NaN", b"Infinity", b"1e999", b"1.5", b"9" * 5000, b"x"),
    *(
        b"9" * 30,
        b"1_0",
        b"",
        b"\xff\xfe",
        b"0x10",
        b"1e3",
        b"\xd9\xa1",
        b"null",
        b"[" * 3000,
        b"../../x",
    ),
)


class _Pickled:
    """Unpickling it makes the canary; that must never happen."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


# --- bytes ---


def flip(data: bytearray, rng: random.Random) -> None:
    """Flip one bit, or a few."""
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_early(data: bytearray, rng: random.Random) -> None:
    """Flip a bit near the start or the end, where headers and directories are."""
    n = min(512, len(data))
    at = rng.randrange(n)
    data[at if rng.random() < 0.5 else len(data) - 1 - at] ^= 1 << rng.randrange(8)


def truncate(data: bytearray, rng: random.Random) -> None:
    """Cut the end off."""
    del data[rng.randrange(len(data)) :]


def _block(data: bytearray, rng: random.Random) -> slice:
    size = min(len(data), rng.choice((1, 4, 8, 64, 512)))
    start = rng.randrange(len(data) - size + 1)
    return slice(start, start + size)


def zero(data: bytearray, rng: random.Random) -> None:
    """Set a block to zero, as a lost sector is."""
    where = _block(data, rng)
    data[where] = bytes(where.stop - where.start)


def noise(data: bytearray, rng: random.Random) -> None:
    """Put noise in place of a block."""
    where = _block(data, rng)
    data[where] = rng.randbytes(where.stop - where.start)


def ones(data: bytearray, rng: random.Random) -> None:
    """Set eight bytes, a size or an address, to the largest or a huge number."""
    start = rng.randrange(max(1, len(data) - 8))
    value = rng.choice((2**64 - 1, 10**12, 2**31 - 1, 2**40, 1, 2**63))
    data[start : start + 8] = value.to_bytes(8, "little")


def duplicate(data: bytearray, rng: random.Random) -> None:
    """Repeat a block."""
    where = _block(data, rng)
    data[where.start : where.start] = data[where]


def remove(data: bytearray, rng: random.Random) -> None:
    """Leave a block out."""
    del data[_block(data, rng)]


def swap(data: bytearray, rng: random.Random) -> None:
    """Exchange two blocks."""
    a, b = _block(data, rng), _block(data, rng)
    first, second = bytes(data[a]), bytes(data[b])
    n = min(len(first), len(second))
    data[a.start : a.start + n], data[b.start : b.start + n] = second[:n], first[:n]


def append(data: bytearray, rng: random.Random) -> None:
    """Add junk at the end."""
    data += rng.choice((b"\x00" * 100, rng.randbytes(700), b"\n", b"{}", bytes(data[:300])))


def replace_file(data: bytearray, rng: random.Random) -> None:
    """Put another kind of file in its place."""
    stream = io.BytesIO()
    np.save(stream, np.arange(3.0))
    data[:] = rng.choice((
        b"", b"\x00" * 64, b"<!DOCTYPE html><html>404</html>", b"PK\x03\x04", stream.getvalue(),
        b"\x89HDF\r\n\x1a\n", b"MATLAB 5.0 MAT-file" + bytes(200), pickle.dumps({"a": 1}),
        gzip.compress(b"x" * 100), b"version https://git-lfs.github.com/spec/v1\n",
        rng.randbytes(3000), b"\n", b"{", b"\xef\xbb\xbf{}",
    ))  # fmt: skip


BYTES = (
    *(flip, flip, flip_early, truncate, zero, noise, ones, duplicate, remove, swap, append),
    replace_file,
)


# --- texts and JSON ---


def edit_text(data: bytearray, rng: random.Random) -> None:
    """Change a word or a line."""
    lines = bytes(data).splitlines(keepends=True)
    if not lines:
        return
    at = rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = lines[at].rstrip() + b" " + rng.choice(WORDS) + b"\n"
        case _:
            words = list(re.finditer(rb"[\w.+-]+", lines[at]))
            if words:
                word = rng.choice(words)
                lines[at] = lines[at][: word.start()] + rng.choice(WORDS) + lines[at][word.end() :]
    data[:] = b"".join(lines)


def edit_json(content: Any, rng: random.Random) -> Any:
    """Return JSON content with one place changed: type, size, nesting, names."""
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            places.append((node, key))
            if isinstance(value, dict | list):
                visit(value)

    root = [content]
    visit(root)
    node, key = rng.choice(places)
    match rng.randrange(8):
        case 0 if node is not root:
            del node[key]
        case 1:
            for _ in range(rng.choice((1, 50, 900))):
                node[key] = [node[key]] if rng.random() < 0.5 else {"a": node[key]}
        case 2 if isinstance(node, dict):
            node[rng.choice(("unknown", "../../x", "/etc/passwd", "", "$array"))] = node.pop(key)
        case 3 if isinstance(node, dict):
            node["unknown"] = rng.choice(SPECIAL)
        case 4:
            other_node, other_key = rng.choice(places)
            # By value: a node inside itself is no JSON.
            node[key] = json.loads(json.dumps(other_node[other_key]))
        case _:
            node[key] = rng.choice(SPECIAL)
    return root[0] if root else None


def edit_json_text(text: str, rng: random.Random) -> str:
    """Return a JSON text with one place changed, or something that is hardly JSON."""
    if rng.random() < 0.1:
        return rng.choice(("[" * 100_000, '{"a":' * 5000, "9" * 5000, text + text, "null", "[]"))
    return json.dumps(edit_json(json.loads(text), rng))


# --- npy and npz ---


_BIG = ("(1000000000000,)", "(1099511627776, 1099511627776)", "(-1,)", "(-3, 2)", "(0,)", "()")
_DTYPES = ("|O", "<U1000000000", "|V8", "<f2", ">f4", "<c16", "<i4", "<M8[s]", "|b1", "<f16", "<u8")


def edit_npy(data: bytearray, rng: random.Random, canary: Path) -> None:
    """Change the header of an npy file, or store a pickled object."""
    if rng.random() < 0.15:
        stream = io.BytesIO()
        np.save(stream, np.array([_Pickled(canary)], dtype=object), allow_pickle=True)
        data[:] = stream.getvalue()
        return
    if not data.startswith(b"\x93NUMPY"):
        return
    end = 10 + int.from_bytes(data[8:10], "little")
    header, rest = bytes(data[10:end]).decode("latin1"), bytes(data[end:])
    match rng.randrange(6):
        case 0 | 1:
            header = re.sub(r"'shape': \([^)]*\)", f"'shape': {rng.choice(_BIG)}", header)
        case 2 | 3:
            header = re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(_DTYPES)}'", header)
        case 4:
            header = header.replace("False", "True")
        case _:
            junk = ("(" * 5000, "{" * 200, "__import__('os')", "1" * 9000, "'", "\\", "[('a','O')]")
            header = header.replace("'shape'", rng.choice(junk))
    raw = header.rstrip().encode("latin1")
    data[:] = data[:8] + (len(raw) + 1).to_bytes(2, "little") + raw + b"\n" + rest


def edit_npz(data: bytearray, rng: random.Random, canary: Path) -> None:
    """Change a member of an archive, its name or how it is stored."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: bytearray(archive.read(info)) for info in archive.infolist()}
    name = rng.choice(list(members))
    method = zipfile.ZIP_STORED
    match rng.randrange(8):
        case 0:
            del members[name]
        case 1:
            members[rng.choice(("../../x.npy", "/etc/passwd", "a" * 300, "x", "é.npy"))] = (
                members.pop(name)
            )
        case 2:
            method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case 3:
            members[name] = bytearray(20_000_000)  # a bomb: 20 kB in the file
            method = zipfile.ZIP_DEFLATED
        case 4 if "header.npy" in members:
            text = str(np.load(io.BytesIO(members["header.npy"])))
            stream = io.BytesIO()
            np.save(stream, np.array(edit_json_text(text, rng)))
            members["header.npy"] = bytearray(stream.getvalue())
        case _:
            edit_npy(members[name], rng, canary)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for key, content in members.items():
            archive.writestr(key, bytes(content))
    data[:] = stream.getvalue()
    if rng.random() < 0.1 and len(data) > 60:
        data[6] |= 1  # says that the first member is encrypted
        at = data.find(b"PK\x01\x02")
        data[at + 8] |= 1


# --- HDF5 ---


def edit_hdf5(path: Path, rng: random.Random) -> str:
    """Change an entry or an attribute of an HDF5 file; return what was done."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        if rng.random() < 0.35:
            return _edit_attribute(file[rng.choice(["/", *names])], rng)
        name = rng.choice(names)
        datasets = [n for n in names if isinstance(file[n], h5py.Dataset)]
        if rng.random() < 0.8 and datasets:
            name = rng.choice(datasets)
        old = file[name]
        array = old[()] if isinstance(old, h5py.Dataset) else np.arange(3.0)
        attributes = dict(old.attrs)
        del file[name]
        what = rng.choice(list(_ENTRIES))
        _ENTRIES[what](file, name, np.asarray(array), rng)
        with contextlib.suppress(Exception):
            file[name].attrs.update(attributes)
    return what


def _edit_attribute(entry: Any, rng: random.Random) -> str:
    values = (
        *(10**12, -1, 0, np.nan, np.inf, "", "x", "../../x", b"\xff\xfe", 2**63 - 1, True),
        *(
            np.arange(3),
            np.array([b"a", b"b"]),
            np.zeros((2, 2)),
            h5py.Empty("f"),
            [],
            "x" * 20_000,
        ),
    )
    keys = list(entry.attrs)
    if "header" in keys and rng.random() < 0.6:
        text = entry.attrs["header"]
        entry.attrs["header"] = edit_json_text(
            text.decode() if isinstance(text, bytes) else text, rng
        )
        return "header"
    if not keys or rng.random() < 0.2:
        entry.attrs[rng.choice(("header", "time_varying", "unknown"))] = rng.choice(values)
        return "attribute added"
    key = rng.choice(keys)
    del entry.attrs[key]
    if rng.random() < 0.8:
        entry.attrs[key] = rng.choice(values)
    return "attribute changed"


def _external(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
    file[name] = h5py.ExternalLink(f"../{OUTSIDE}", "/" + name)


def _external_storage(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
    size = max(1, array.size * 4)
    outside = Path(file.filename).parents[1] / OUTSIDE
    file.create_dataset(name, array.shape, "<f4", external=[(str(outside), 0, size)])


def _virtual(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
    if array.ndim == 0:
        return _external(file, name, array, rng)
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    source = h5py.VirtualSource(f"../{OUTSIDE}", name, array.shape)
    layout[...] = source
    file.create_virtual_dataset(name, layout)


def _as_type(dtype: Any) -> Callable[..., None]:
    def change(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
        with np.errstate(all="ignore"):
            file[name] = np.resize(array, array.shape).astype(dtype)

    return change


def _huge(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
    n = rng.choice((10**12, 10**10, 2**40))
    shape = (n, *array.shape[1:]) if array.ndim else (n,)
    file.create_dataset(name, shape, "<f4", chunks=(1024, *shape[1:]))


def _nested(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
    file.create_group(name)["data"] = array


def _objects(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
    kind = rng.choice((h5py.string_dtype(), h5py.vlen_dtype(np.float32), h5py.ref_dtype))
    file.create_dataset(name, array.shape, kind)


def _reshaped(file: Any, name: str, array: np.ndarray, rng: random.Random) -> None:
    shape = rng.choice((array.shape[::-1], (*array.shape, 1), (array.size,), (1, *array.shape)))
    file[name] = array.reshape(shape)


_ENTRIES: dict[str, Callable[..., None]] = {
    "external link": _external,
    "external storage": _external_storage,
    "virtual dataset": _virtual,
    "dangling link": lambda f, n, a, r: f.__setitem__(n, h5py.SoftLink("/nowhere")),
    "link to itself": lambda f, n, a, r: f.__setitem__(n, h5py.SoftLink("/" + n)),
    "entry removed": lambda f, n, a, r: None,
    "group for array": _nested,
    "named type": lambda f, n, a, r: f.__setitem__(n, np.dtype("<f8")),
    "objects": _objects,
    "huge": _huge,
    "reshaped": _reshaped,
    "no values": lambda f, n, a, r: f.__setitem__(n, h5py.Empty("<f4")),
    "no entries": lambda f, n, a, r: f.create_dataset(n, (0, *a.shape[1:]), "<f4"),
    "never written": lambda f, n, a, r: f.create_dataset(n, a.shape, "<f4"),
    "integers": _as_type(np.int64),
    "half precision": _as_type(np.float16),
    "complex": _as_type(np.complex64),
    "booleans": _as_type(bool),
    "text": _as_type("S5"),
    "huge values": lambda f, n, a, r: f.__setitem__(n, np.full(a.shape, 3e38, np.float32)),
}
HOSTILE = ("external link", "external storage", "virtual dataset")
"""What no reader may take: the numbers would come from another file."""


# --- the whole ---


def mutate(folder: Path, rng: random.Random) -> str:
    """Change one file below ``folder``; return in a word how."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    path = rng.choice(files)
    if rng.random() < 0.02:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
            return "folder for file"
        return "file removed"
    data = bytearray(path.read_bytes())
    canary = folder.parent / CANARY
    if rng.random() < 0.45:
        what = _edit(path, data, rng, canary)
        if what is not None:
            return what
    change = rng.choice(BYTES)
    change(data, rng)
    path.write_bytes(data)
    return change.__name__


def _edit(path: Path, data: bytearray, rng: random.Random, canary: Path) -> str | None:
    """Edit a file as what it is; return None if there is no such editor."""
    if path.suffix in (".h5", ".partial") or data[512:516] == b"\x89HDF":
        return edit_hdf5(path, rng)
    if path.suffix == ".npz":
        edit_npz(data, rng, canary)
    elif path.suffix == ".npy":
        edit_npy(data, rng, canary)
    elif path.suffix == ".json":
        data[:] = edit_json_text(data.decode(), rng).encode("utf-8", "surrogatepass")
    elif path.suffix in (".txt", ".mtx", ".jsonl"):
        edit_text(data, rng)
    else:
        return None
    path.write_bytes(data)
    return f"edited {path.suffix.lstrip('.')}"


def prepare_outside(folder: Path) -> None:
    """Put a file beside ``folder`` in which every link out of an HDF5 file finds its target."""
    for path in folder.rglob("*"):
        if path.suffix in (".h5", ".mat", ".partial"):
            with contextlib.suppress(OSError):
                h5py.File(path, "r").close()
                (folder.parent / OUTSIDE).write_bytes(path.read_bytes())
                return


def unpickled(folder: Path) -> bool:
    """Return whether a pickled object was brought to life, and forget it."""
    canary = folder.parent / CANARY
    found = canary.exists()
    if found:
        os.unlink(canary)
    return found

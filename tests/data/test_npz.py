"""Archives that lie about their arrays."""

import io
import zipfile

import numpy as np
import pytest

from sciml.data import DataFileError
from sciml.data._npz import open_npz


def _npy(array, **changes):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    content = stream.getvalue()
    for old, new in changes.items():
        content = content.replace(old.encode(), new.encode())
    return content


def _array(path):
    with open_npz(path) as file:
        return file.read("a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_npy(np.array([None])), "holds Python objects"),
        (_npy(np.zeros(3), **{"(3,)": "(9999999999,)"}), "79999999992 bytes, and .* follow"),
        (_npy(np.zeros(3), **{"(3,)": "(-1,)"}), r"negative shape \(-1,\)"),
        (_npy(np.zeros(3), **{"(3,)": "((((((("}), "no valid npy header"),
        (_npy(np.zeros(3), **{"<f8": "<M8"}), "no valid npy header|no numbers"),
        (_npy(np.zeros(3))[:-1], "24 bytes, and 23 bytes follow"),
        (b"text", "no valid npy header"),
    ],
)
def test_arrays_that_are_refused(tmp_path, content, words):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(DataFileError, match=rf"d\.npz, key 'a': .*({words})"):
        _array(tmp_path / "d.npz")


def test_an_encrypted_member_and_a_missing_one(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, a=np.zeros(3))
    content = bytearray(path.read_bytes())
    for at in (6, content.find(b"PK\x01\x02") + 8):
        content[at] |= 1
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"damaged or incomplete.*encrypted"):
        _array(path)
    np.savez(path, b=np.zeros(3))
    with pytest.raises(DataFileError, match="'a': the key is missing"):
        _array(path)


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.float32(3), np.zeros((0, 2))])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_other_arrays_are_read(tmp_path, array, save):
    save(tmp_path / "d.npz", a=array)
    np.testing.assert_array_equal(_array(tmp_path / "d.npz"), array, strict=True)

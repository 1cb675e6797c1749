"""What an HDF5 file must not do: reach into other files, or declare more than it holds."""

import h5py
import numpy as np
import pytest

from sciml.data import DataFileError, load

SHAPE = (2, 3, 16)


def _external_link(file, folder):
    file["tensor"] = h5py.ExternalLink("other.h5", "/tensor")


def _nested_external_link(file, folder):
    file["tensor"] = np.ones(SHAPE, np.float32)
    file["more/deep"] = h5py.ExternalLink("other.h5", "/tensor")


def _link_to_a_link(file, folder):
    file["away"] = h5py.ExternalLink("other.h5", "/")
    file["tensor"] = h5py.SoftLink("/away/tensor")


def _external_storage(file, folder):
    raw = folder / "raw.bin"
    raw.write_bytes(np.ones(SHAPE, np.float32).tobytes())
    file.create_dataset("tensor", SHAPE, "<f4", external=[(str(raw), 0, raw.stat().st_size)])


def _virtual(file, folder):
    layout = h5py.VirtualLayout(SHAPE, "<f4")
    layout[:] = h5py.VirtualSource("other.h5", "tensor", SHAPE)
    file.create_virtual_dataset("tensor", layout)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_external_link, "'tensor': this is an external link to 'other.h5'"),
        (_nested_external_link, "'more/deep': this is an external link"),
        (_link_to_a_link, "'away': this is an external link"),
        (_external_storage, "'tensor': this is an array that is stored in other files"),
        (_virtual, "'tensor': this is an array that is stored in other files"),
    ],
)
def test_nothing_is_read_from_other_files(tmp_path, make, words):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["tensor"] = np.ones(SHAPE, np.float32)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        make(file, tmp_path)
    with pytest.raises(DataFileError, match=rf"d\.h5, key {words}"):
        load(tmp_path / "d.h5", dt=1.0, domain_extent=1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (10**12, 3, 16), "chunks": (64, 3, 16)}, "192000000000000 bytes.*holds 0"),
        ({"shape": (10**12, 3, 16), "chunks": (64, 3, 16), "compression": "gzip"}, "holds 0"),
        ({"shape": SHAPE}, "384 bytes, of which the file holds 0"),
        ({"shape": SHAPE, "dtype": h5py.string_dtype()}, "expected numbers, got dtype object"),
        ({"shape": SHAPE, "dtype": "S4"}, "expected numbers"),
        ({"shape": SHAPE, "dtype": "<f2", "data": np.ones(SHAPE)}, "got dtype float16"),
    ],
)
def test_arrays_that_are_not_there_and_no_numbers(tmp_path, change, words):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("tensor", **({"dtype": "<f4"} | change))
    with pytest.raises(DataFileError, match=rf"d\.h5, key 'tensor': .*{words}"):
        load(tmp_path / "d.h5", dt=1.0, domain_extent=1.0)


def test_links_inside_the_file_and_rings_of_groups_are_fine(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["all/values"] = np.ones(SHAPE, np.float32)
        file["all/ring"] = file["all"]
        file["tensor"] = h5py.SoftLink("/all/values")
    assert load(tmp_path / "d.h5", dt=1.0, domain_extent=1.0).n_samples == 2


def test_compressed_arrays_are_read(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        # The most that deflate does: a field of zeros.
        file.create_dataset("tensor", data=np.zeros((64, 64, 64), "<f4"), compression=9)
    assert load(tmp_path / "d.h5", dt=1.0, domain_extent=1.0).n_samples == 64

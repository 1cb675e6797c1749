"""The front door: sniffing by content, shipped names, files that are none of ours."""

import os

import h5py
import numpy as np
import pytest

from sciml.data import DataFileError, FieldDataset, load, save_dataset


def toy():
    values = np.random.default_rng(55).normal(size=(2, 3, 1, 8, 8)).astype(np.float32)
    return FieldDataset.from_array(values, dt=0.5, domain_extent=1.0)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_the_suffix_does_not_matter(tmp_path, suffix):
    path = save_dataset(tmp_path / f"mine{suffix}", toy())
    path.rename(tmp_path / "mine.txt")
    np.testing.assert_array_equal(load(tmp_path / "mine.txt").values, toy().values)
    assert load(str(tmp_path / "mine.txt"), n_points=4).n_points == (4, 4)


NOT_DATA = {
    "empty": (b"", "the file is empty"),
    "html": (b"<!DOCTYPE html><html>Sign in</html>", r"web page \(HTML\)"),
    "html with blanks": (b"\n\n  <HTML><head>", r"web page \(HTML\)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    "npy": (b"\x93NUMPY\x01\x00", r"bare \.npy array"),
    "pickle": (b"\x80\x04\x95", "never unpickles"),
    "torch": (b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl", "PyTorch file"),
    "gzip": (b"\x1f\x8b\x08\x00", "compressed archive"),
    "cut-off v7.3": (b"MATLAB 7.3 MAT-file, Platform: GLNXA64", "the HDF5 part is missing"),
    "text": (b"x,y,u\n1,2,3\n", "unknown file format.*b'x,y,u"),
    "cut-off hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "damaged or incomplete"),
    "cut-off zip": (b"PK\x03\x04" + b"\0" * 40, "damaged or incomplete"),
}


@pytest.mark.parametrize("case", NOT_DATA)
def test_files_that_are_not_data(tmp_path, case):
    content, message = NOT_DATA[case]
    path = tmp_path / "ns.mat"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"ns\.mat: .*" + message):
        load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["ns.mat"]


def test_unknown_layouts_list_their_keys(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["temperature"] = np.ones(3)
    with pytest.raises(DataFileError, match=r"its keys are \['temperature'\]"):
        load(tmp_path / "odd.h5")
    with h5py.File(tmp_path / "void.h5", "w"):
        pass
    with pytest.raises(DataFileError, match=r"its keys are \[\]"):
        load(tmp_path / "void.h5")
    np.savez(tmp_path / "odd.npz", vorticity=np.ones(3))
    with pytest.raises(DataFileError, match=r"this one has \['vorticity'\]"):
        load(tmp_path / "odd.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(DataFileError, match=r"pipe\.h5: this is neither a regular file"):
        load(tmp_path / "pipe.h5")


def test_missing_files_name_the_shipped_samples(tmp_path):
    with pytest.raises(FileNotFoundError, match="shipped samples are 'navier-stokes'"):
        load(tmp_path / "absent.h5")
    with pytest.raises(FileNotFoundError, match="navier_stokes"):
        load("navier_stokes")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files(tmp_path):
    path = save_dataset(tmp_path / "mine.npz", toy())
    path.chmod(0)
    with pytest.raises(PermissionError, match=r"mine\.npz"):
        load(path)


def test_shipped_samples_take_no_file_options():
    with pytest.raises(ValueError, match="takes the option `n_points` only"):
        load("navier-stokes", dt=0.2)

"""Hostile files: nothing outside is read, nothing huge is allocated."""

import h5py
import numpy as np
import pytest
from vivim.errors import InputError
from vivim.store import EmbeddingStore
from vivim.store.hdf5_checks import read_text, text_attribute

SECRET = np.arange(12, dtype="<f2").tobytes()


@pytest.fixture
def path(tmp_path, samples):
    (tmp_path / "secret.bin").write_bytes(SECRET)
    return samples.write(tmp_path / "e.h5")


def assert_refused(path, match):
    with pytest.raises(InputError, match=match):
        EmbeddingStore.open(path)


def replace(path, name, make):
    with h5py.File(path, "r+") as file:
        del file[name]
        make(file)


def test_external_storage(path, tmp_path):
    outside = [(str(tmp_path / "secret.bin"), 0, 24)]
    replace(path, "embeddings", lambda f: f.create_dataset("embeddings", (3, 4), "<f2", external=outside))
    assert_refused(path, "other files")


def test_virtual_dataset(path, tmp_path, samples):
    other = samples.write(tmp_path / "other.h5")

    def make(file):
        layout = h5py.VirtualLayout((3, 4), "<f2")
        layout[:] = h5py.VirtualSource(str(other), "embeddings", (3, 4))
        file.create_virtual_dataset("embeddings", layout)

    replace(path, "embeddings", make)
    assert_refused(path, "other files")


@pytest.mark.parametrize("link", [h5py.SoftLink("/ids"), h5py.SoftLink("/embeddings"), h5py.ExternalLink("other.h5", "/embeddings")])
@pytest.mark.parametrize("name", ["embeddings", "failures", "failures/id"])
def test_links(path, link, name):
    replace(path, name, lambda f: f.__setitem__(name, link))
    assert_refused(path, "link")


def test_a_group_that_contains_itself(path):
    replace(path, "failures", lambda f: f.__setitem__("failures", f["/"]))
    assert_refused(path, "not an embedding file")


def test_a_dataset_where_a_group_should_be_and_the_reverse(path):
    replace(path, "failures", lambda f: f.create_dataset("failures", data=[1]))
    assert_refused(path, "not a group")
    replace(path, "ids", lambda f: f.create_group("ids"))
    assert_refused(path, "not a dataset")


def test_missing_and_unknown_names(path):
    with h5py.File(path, "r+") as file:
        del file["sha256"]
        file["extra"] = 1
    assert_refused(path, r"missing \['sha256'\], unknown \['extra'\]")


@pytest.mark.parametrize("shape", [(3, 10**9), (10**12, 4), (2**62, 2**62)])
def test_shapes_far_larger_than_the_file(path, shape):
    def make(file):
        if shape[0] * shape[1] < 2**63:
            file.create_dataset("embeddings", shape, "<f2", chunks=(1, 4))
        else:
            file.create_dataset("embeddings", (3, 4), "<f2", maxshape=(None, None), chunks=(1, 4)).resize((2**31, 2**31))

    replace(path, "embeddings", make)
    assert_refused(path, "claims [0-9]+ bytes")


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}])
def test_filters(path, options):
    values = np.zeros((3, 4), "<f2")
    replace(path, "embeddings", lambda f: f.create_dataset("embeddings", data=values, chunks=(3, 4), **options))
    assert_refused(path, "filters")


def test_variable_length_text(path):
    replace(path, "ids", lambda f: f.create_dataset("ids", data=["a", "b", "c"], dtype=h5py.string_dtype()))
    assert_refused(path, "type object")


def test_attributes_of_another_kind(path):
    with h5py.File(path, "r+") as file:
        file.attrs["recipe"] = "variable length"
    assert_refused(path, "not a short text")
    with h5py.File(path, "r+") as file:
        file.attrs["recipe"] = np.bytes_(b"\xff\xfe")
    assert_refused(path, "not UTF-8")


def test_text_attributes_round_trip(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.attrs["x"] = text_attribute("é 漢 👍" * 100)
        assert read_text(file, "x", tmp_path / "t.h5") == "é 漢 👍" * 100
    with pytest.raises(InputError, match="at most"):
        text_attribute("x" * 60_001)

"""Files are what their first bytes say, and tensors have one hash, told here by hand."""

import hashlib
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file
from vivim.store.tensor_files import Kind, hash_tensors, kind_of

WRITE = {
    Kind.SAFETENSORS: lambda path: save_file({"a": torch.ones(2)}, path),
    Kind.LFS_POINTER: lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    Kind.WEB_PAGE: lambda path: path.write_text("<!DOCTYPE html><html>404</html>"),
    Kind.ZIP: lambda path: torch.save({"a": torch.ones(2)}, path),
    Kind.PICKLE: lambda path: path.write_bytes(pickle.dumps({"a": 1})),
}


@pytest.mark.parametrize("kind", Kind)
def test_a_file_is_what_it_begins_with(tmp_path, kind):
    WRITE[kind](tmp_path / "weights.safetensors")
    assert kind_of(tmp_path / "weights.safetensors") is kind
    assert kind.runs_code == (kind in (Kind.ZIP, Kind.PICKLE))


@pytest.mark.parametrize("content", [b"", b"<", b"\x80\x04", b"0123456789"], ids=repr)
def test_of_other_files_nothing_is_said(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert kind_of(tmp_path / "file") is None


def test_a_hash_is_of_names_types_shapes_and_bytes_in_the_order_of_the_names():
    one, two = struct.pack("<2f", 1.0, 2.0), struct.pack("<q", 7)
    expected = hashlib.sha256(b"a torch.float32 (2, 1)\n" + one + b"b torch.int64 ()\n" + two).hexdigest()
    assert hash_tensors({"b": torch.tensor(7), "a": torch.tensor([[1.0], [2.0]])}) == expected
    assert hash_tensors({"b": torch.tensor(7), "a": torch.tensor([1.0, 2.0])}) != expected

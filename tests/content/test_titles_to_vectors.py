"""Titles to a file: what is encoded, what is kept, what is named. The encoder counts letters, so that every vector is known."""

import hashlib

import numpy as np
import pytest
from vivim.content.config import TextConfig
from vivim.content.titles_to_vectors import _CHUNK, embed_titles, read_item_titles
from vivim.errors import InputError, Interrupted, RecipeMismatch
from vivim.progress import SILENT
from vivim.recommend.titles import Titles
from vivim.store import EmbeddingStore, TextRecipe

from .conftest import Letters

CONFIG = TextConfig(dtype="float32")


def titles(**by_id):
    return Titles(by_id, ())


def embed(some, encoder, out, config=CONFIG):
    return embed_titles(some, encoder, out, config, SILENT)


def test_every_title_becomes_its_vector(letters, tmp_path):
    done = embed(Titles({"007": "abba", "7": "cc", "x y": "Z"}, ("7",)), letters, tmp_path / "t.h5")
    store = EmbeddingStore.open(tmp_path / "t.h5")
    assert store.ids.ids == ("007", "7", "x y")
    vectors, present = store.lookup(["7", "007", "x y", "8"])
    assert present.tolist() == [True, True, True, False]
    assert vectors[0, 2] == 2 and vectors[1, :2].tolist() == [2, 2] and vectors[2, 25] == 1
    assert vectors[:3].sum() == 7
    assert store.rows.sha256[0] == hashlib.sha256(b"abba").hexdigest()
    assert isinstance(store.recipe, TextRecipe)
    assert (done.total, done.embedded, done.unchanged, done.failures, done.repeated) == (3, 3, 0, (), ("7",))
    assert done.sha256 == store.sha256
    assert not (tmp_path / "t.h5.part").exists()


def test_items_without_a_title_and_vectors_that_cannot_be_are_named(letters, tmp_path):
    done = embed(titles(a="one", b="", c="123"), letters, tmp_path / "t.h5")  # no letter: a vector of zeros
    assert [(failure.id, failure.kind) for failure in done.failures] == [("b", "empty_title"), ("c", "nan_output")]
    assert (done.total, done.embedded) == (3, 1)
    store = EmbeddingStore.open(tmp_path / "t.h5")
    assert (store.ids.ids, [failure.id for failure in store.failures]) == (("a",), ["b", "c"])


def test_a_second_run_encodes_only_what_is_new_or_changed(tmp_path):
    embed(titles(a="one", b="two", c="three"), Letters(), tmp_path / "t.h5")
    again = Letters()
    done = embed(titles(a="one", b="twelve", c="", d="four"), again, tmp_path / "t.h5")
    assert sorted(again.asked) == ["four", "twelve"]
    assert (done.embedded, done.unchanged, done.kept) == (2, 1, 0)
    fresh = embed(titles(a="one", b="twelve", c="", d="four"), Letters(), tmp_path / "fresh.h5")
    assert done.sha256 == fresh.sha256


def test_vectors_of_items_that_the_titles_do_not_name_stay(tmp_path):
    embed(titles(a="one", b="two"), Letters(), tmp_path / "t.h5")
    assert embed(titles(b="two"), Letters(), tmp_path / "t.h5").kept == 1
    assert EmbeddingStore.open(tmp_path / "t.h5").ids.ids == ("a", "b")


def test_another_model_does_not_mix(tmp_path):
    embed(titles(a="one"), Letters(), tmp_path / "t.h5")
    with pytest.raises(RecipeMismatch, match=r"weights\.source: 1 in the file, 2 now"):
        embed(titles(a="one"), Letters("2"), tmp_path / "t.h5")


class Stopped(Letters):
    """Ctrl-C comes while it encodes its second piece of the work."""

    def encode(self, texts):
        if len(self.asked) >= _CHUNK:
            raise KeyboardInterrupt
        return super().encode(texts)


def test_an_interrupted_run_is_gone_on_with(tmp_path):
    many = Titles({f"i{k:04d}": "ab" * (k % 5 + 1) for k in range(_CHUNK + 40)}, ())
    with pytest.raises(Interrupted, match=f"{_CHUNK} titles are kept in .*t.h5.part. Run the same command again"):
        embed(many, Stopped(), tmp_path / "t.h5")
    assert not (tmp_path / "t.h5").exists()
    rest = Letters()
    done = embed(many, rest, tmp_path / "t.h5")
    assert len(rest.asked) == 40
    assert done.sha256 == embed(many, Letters(), tmp_path / "whole.h5").sha256
    assert not (tmp_path / "t.h5.part").exists()


def test_titles_that_are_gone_since_an_interrupted_run_do_not_come_back(tmp_path):
    many = {f"i{k:04d}": "ab" for k in range(_CHUNK + 1)}
    with pytest.raises(Interrupted):
        embed(Titles(many, ()), Stopped(), tmp_path / "t.h5")
    done = embed(titles(i0000="ab", i0001="cd", new="ef"), Letters(), tmp_path / "t.h5")
    assert EmbeddingStore.open(tmp_path / "t.h5").ids.ids == ("i0000", "i0001", "new")
    assert (done.embedded, done.unchanged, done.kept) == (2, 1, 0)


def test_what_is_done_is_kept_once_in_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("vivim.content.titles_to_vectors._CHUNK", 10)
    found = []

    class Looks(Letters):
        def encode(self, texts):
            part = tmp_path / "t.h5.part"
            found.append(len(EmbeddingStore.open(part)) if part.exists() else 0)
            return super().encode(texts)

    some = Titles({f"i{k}": "a" for k in range(30)}, ())
    embed(some, Looks(), tmp_path / "t.h5", TextConfig(dtype="float32", keep_minutes=1e-9))
    assert found[0] == 0 and found[1] == 10
    found.clear()
    embed(some, Looks("2"), tmp_path / "u.h5", TextConfig(dtype="float32", keep_minutes=60))
    assert found == [0, 0, 0]


def test_float16_rounds(letters, tmp_path):
    embed(titles(a="a"), letters, tmp_path / "t.h5", TextConfig(dtype="float16"))
    assert EmbeddingStore.open(tmp_path / "t.h5").rows.vectors_ND.dtype == np.float16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("item,title\n1,\n2,\n", "holds 2 items and no title"),
        ("user,item,timestamp\n36121,1,1662984066858\n36122,2,1662984066859\n", "2 of 3 titles hold no letter"),
        ("1\t4 5 6\n2\t7 8\n", "2 of 2 titles hold no letter, as '4 5 6': this is no file of titles"),
        ("just some words\n", "expected an item id"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "NUL bytes"),
    ],
)
def test_what_is_no_file_of_titles(tmp_path, content, message):
    path = tmp_path / "titles.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_item_titles(path)


def test_titles_in_any_script_are_titles(tmp_path):
    (tmp_path / "titles.csv").write_text("1,猫在跑\n2,кот\n3,123\n", encoding="utf-8")
    assert read_item_titles(tmp_path / "titles.csv").by_id == {"1": "猫在跑", "2": "кот", "3": "123"}


@pytest.mark.shared
def test_every_item_of_microlens_50k_has_a_title(shared_data):
    found = read_item_titles(shared_data / "microlens-50k" / "MicroLens-50k_titles.csv")
    assert len(found.by_id) == 19_220
    assert all(found.by_id.values())
    assert found.repeated == ()

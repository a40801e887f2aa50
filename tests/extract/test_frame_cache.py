"""Reading cached frames: what was written, whatever happened to the files since."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from vivim.errors import InputError, RecipeMismatch
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.clips import find_clips
from vivim.extract.config import EncoderConfig, ExtractConfig
from vivim.extract.failures import ClipError
from vivim.extract.frame_cache import CachedReader, FrameCache
from vivim.extract.frame_format import Jpeg
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter
from vivim.extract.jpeg import decode_jpegs, encode_jpegs
from vivim.extract.reader import ClipReader, Unchanged
from vivim.extract.run import extract_catalogue
from vivim.extract.sampling import Uniform
from vivim.extract.sources import Source
from vivim.extract.weights import make_encoder
from vivim.progress import SILENT
from vivim.store import EmbeddingStore, Recipe

RECIPE = FrameRecipe(
    frames={"sampler": "uniform", "count": 2},
    preprocessing={"image_size": 32, "resize": "crop"},
    decoder={"policy": "pyav", "av": "18.1.0"},
)
IDS = ("b", "007", "../../etc/passwd", "ä b-1", "7")


def made(id_, sha256=None):
    """A clip whose every part is a function of its id."""
    seed = sum(id_.encode())
    rows = np.arange(32)
    frames = np.stack([np.stack([np.add.outer(rows * (t + 1), rows * 2) + seed + 9 * c for c in range(3)]) for t in range(2)])
    sha256 = sha256 or hashlib.sha256(id_.encode()).hexdigest()
    return Clip(id_, frames.astype(np.uint8), np.array([seed / 7, seed / 3]), "decord" if seed % 2 else "pyav", sha256, seed % 3 == 0)


def cached(folder, ids=IDS, format=None, recipe=RECIPE, shard_bytes=1 << 20):
    with FrameCacheWriter(folder, recipe, format, shard_bytes=shard_bytes) as writer:
        for id_ in ids:
            writer.add(made(id_))
    return folder


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def assert_same(a, b):
    np.testing.assert_array_equal(a.frames_TCHW, b.frames_TCHW)
    np.testing.assert_array_equal(a.times_seconds, b.times_seconds)
    assert (a.id, a.decoder, a.sha256, a.short) == (b.id, b.decoder, b.sha256, b.short)


def test_raw_clips_come_back_exactly(tmp_path):
    folder = cached(tmp_path, shard_bytes=2 * made("b").frames_TCHW.nbytes)
    cache = FrameCache.open(folder)
    assert cache.ids == tuple(sorted(IDS))
    assert (len(cache), len(shards(folder)), cache.damaged, cache.recipe) == (5, 3, (), RECIPE)
    assert cache.size_bytes == sum(path.stat().st_size for path in shards(folder))
    for id_ in IDS:
        assert_same(cache.read(id_), made(id_))
        assert cache.hashes[id_] == made(id_).sha256
    assert "b" in cache and "c" not in cache
    with pytest.raises(InputError, match="holds no frames of 'c'; it holds 5 clips, for example"):
        cache.read("c")


def test_jpeg_clips_are_what_the_codec_makes_of_them(tmp_path):
    cache = FrameCache.open(cached(tmp_path, format=Jpeg(qscale=1)))
    for id_ in IDS:
        clip, source = cache.read(id_), made(id_)
        expected = np.stack(decode_jpegs(encode_jpegs(source.frames_TCHW, 1))).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(clip.frames_TCHW, expected)
        assert clip.frames_TCHW.flags.c_contiguous
        assert (clip.decoder, clip.sha256, clip.short) == (source.decoder, source.sha256, source.short)
        np.testing.assert_array_equal(clip.times_seconds, source.times_seconds)
    assert cache.recipe.preprocessing == {**RECIPE.preprocessing, "stored": {"kind": "jpeg", "qscale": 1}}


def test_a_shard_is_a_plain_safetensors_file(tmp_path):
    (shard,) = shards(cached(tmp_path))
    tensors = load_file(shard)
    np.testing.assert_array_equal(tensors["frames"], np.stack([made(id_).frames_TCHW for id_ in IDS]))
    np.testing.assert_array_equal(tensors["times_seconds"], np.stack([made(id_).times_seconds for id_ in IDS]))
    assert len(tensors) == 2
    data = shard.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["vivim"])["ids"] == list(IDS)


def test_a_cache_can_be_sent_to_another_process(tmp_path):
    cache = pickle.loads(pickle.dumps(FrameCache.open(cached(tmp_path))))
    assert_same(cache.read("007"), made("007"))
    assert pickle.loads(pickle.dumps(CachedReader())) == CachedReader()


def test_the_hash_is_of_the_content_not_of_the_shards(tmp_path):
    one = FrameCache.open(cached(tmp_path / "1"))
    many = FrameCache.open(cached(tmp_path / "2", IDS[::-1], shard_bytes=1))
    assert len(shards(tmp_path / "2")) == len(IDS)
    assert one.sha256 == many.sha256
    assert FrameCache.open(cached(tmp_path / "3", IDS[1:])).sha256 != one.sha256
    assert FrameCache.open(cached(tmp_path / "4", format=Jpeg())).sha256 != one.sha256


def test_no_cache(tmp_path):
    with pytest.raises(InputError, match="absent holds no cached frames"):
        FrameCache.open(tmp_path / "absent")
    (tmp_path / "frames-000001.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"no cached frames: frames-000001\.safetensors: it cannot be opened"):
        FrameCache.open(tmp_path)


def test_a_shard_that_is_cut_off_is_named_and_its_clips_are_absent(tmp_path):
    folder = cached(tmp_path, shard_bytes=1)
    shard = shards(folder)[1]
    data = shard.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1, len(data) + 1):
        shard.write_bytes((data + b"\0")[:length])
        cache = FrameCache.open(folder)
        assert cache.ids == tuple(sorted(set(IDS) - {"007"})), length
        assert len(cache.damaged) == 1 and cache.damaged[0].startswith("frames-000002.safetensors: it cannot be opened"), length


@pytest.mark.parametrize("format", [None, Jpeg()])
def test_no_flipped_byte_goes_unnoticed(tmp_path, format):
    folder = cached(tmp_path, ("a", "b"), format)
    (shard,) = shards(folder)
    data = bytearray(shard.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    pixels = range(header, len(data), 997)
    for place in [*range(0, header, 3), *pixels]:
        data[place] ^= 0xFF
        shard.write_bytes(data)
        data[place] ^= 0xFF
        try:
            cache = FrameCache.open(folder, verify=True)
        except InputError:
            continue
        assert len(cache) < 2 and cache.damaged, place


def test_a_flipped_byte_costs_its_clip_only(tmp_path):
    folder = cached(tmp_path, ("a", "b", "c"))
    (shard,) = shards(folder)
    data = bytearray(shard.read_bytes())
    data[data.index(made("b").frames_TCHW.tobytes()) + 1000] ^= 1
    shard.write_bytes(data)
    cache = FrameCache.open(folder)
    assert_same(cache.read("a"), made("a"))
    with pytest.raises(InputError, match=r"frames-000001\.safetensors: the frames of 'b' do not match their hash\. Delete it and cache"):
        cache.read("b")
    with pytest.raises(ClipError) as caught:
        CachedReader()(ClipRef("b", shard))
    assert caught.value.kind == "decode_error"
    checked = FrameCache.open(folder, verify=True)
    assert checked.ids == ("a", "c")
    assert checked.damaged == ("frames-000001.safetensors: 1 of 3 clips do not match their hash: b",)


@pytest.mark.parametrize(
    ("tensors", "changes", "why"),
    [
        ({"frames": np.zeros((2, 2, 3, 8, 8), np.float32)}, {}, "of type F32, not U8"),
        ({"frames": np.zeros((3, 2, 3, 8, 8), np.uint8)}, {}, "2 clips of 2 frames are named"),
        ({}, {}, "no tensor 'frames'"),
        ({}, {"ids": ["a", "a"]}, "do not fit each other"),
        ({}, {"short": [True]}, "do not fit each other"),
        ({}, {"stored": {"kind": "pickle"}}, "none of raw, jpeg"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 5, 3, 4, 9])}, {"stored": {"kind": "jpeg"}}, "where its pictures begin"),
        ({}, {"surprise": 1}, "its header is none of ours"),
    ],
)
def test_a_shard_that_is_none_of_ours_is_refused(tmp_path, tensors, changes, why):
    from vivim.extract.frame_shard import _Header

    fields = {
        "recipe": RECIPE.model_dump(),
        "stored": {"kind": "raw"},
        "ids": ["a", "b"],
        "source_sha256": ["0"] * 2,
        "decoders": ["pyav"] * 2,
        "short": [False] * 2,
        "frames_sha256": ["0"] * 2,
    } | changes
    times = np.zeros((2, 2))
    if "surprise" not in changes:
        fields["sha256"] = _Header.model_validate(fields).hashed(times)
    save_file({**tensors, "times_seconds": times}, tmp_path / "frames-000001.safetensors", {"vivim": json.dumps(fields)})
    with pytest.raises(InputError, match=why):
        FrameCache.open(tmp_path)


def test_shards_of_two_recipes_do_not_mix(tmp_path):
    one = cached(tmp_path / "one", ("a",))
    other = RECIPE.model_copy(update={"frames": {"sampler": "fps", "count": 2, "fps": 4.0}})
    two = cached(tmp_path / "two", ("b",), recipe=other)
    shards(two)[0].rename(one / "frames-000007.safetensors")
    with pytest.raises(RecipeMismatch) as caught:
        FrameCache.open(one)
    assert str(caught.value).splitlines() == [
        f"{one}: frames-000001.safetensors and frames-000007.safetensors hold frames of different recipes:",
        "  frames.sampler: uniform in the first, fps in the second",
        "  frames.fps: (absent) in the first, 4.0 in the second",
        "Move one of them to another folder.",
    ]


def test_other_frames_than_are_wanted_are_refused(tmp_path):
    cache = FrameCache.open(cached(tmp_path, format=Jpeg()))
    cache.check_recipe(RECIPE)
    cache.check_recipe(RECIPE.model_copy(update={"decoder": {"policy": "auto", "av": "99"}}))
    with pytest.raises(RecipeMismatch, match=r"preprocessing\.image_size: 32 in the cache, 224 wanted\nUse the settings"):
        cache.check_recipe(RECIPE.model_copy(update={"preprocessing": {"image_size": 224, "resize": "crop"}}))


def test_the_reader_reads_by_shard(tmp_path):
    cache = FrameCache.open(cached(tmp_path))
    catalogue, reader = cache.catalogue(), CachedReader()
    assert [ref.id for ref in catalogue.refs] == ["../../etc/passwd", "007", "7", "b", "ä b-1"]
    for ref in catalogue.refs:
        assert_same(reader(ref), made(ref.id))
        assert reader(ref, made(ref.id).sha256) == Unchanged(ref.id)
        assert_same(reader(ref, "another"), made(ref.id))
    shard = catalogue.refs[0].path
    for ref, what in ((ClipRef("c", shard), "holds no frames of it"), (ClipRef("b", tmp_path / "gone"), "No such file")):
        with pytest.raises(ClipError) as caught:
            reader(ref)
        assert caught.value.kind == "missing" and what in caught.value.message


def embed(catalogue, reader, out, recipe, encoder):
    source = Source(catalogue, reader)
    config = ExtractConfig(workers=1, batch_clips=3)
    assert extract_catalogue(source, out, config, encoder, recipe, SILENT).failures == ()
    return EmbeddingStore.open(out)


@pytest.fixture
def one_thread():
    """For tiny tensors, threads of torch only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_vectors_from_the_cache_are_those_from_the_videos(tmp_path, clips):
    (tmp_path / "clips").mkdir()
    for k in range(3):
        clips.write(tmp_path / "clips" / f"c{k}.mp4", 6 + k, width=96, height=64)
    encoder = make_encoder(EncoderConfig(size="nano"), 1)
    reader = ClipReader(Uniform(2), 64)
    parts = {"encoder": {}, "weights": {}, "dtype": "float32", "decoder": {"policy": "auto"}}
    recipe = Recipe(frames={"count": 2}, preprocessing={"image_size": 64, "mean": [0.5]}, **parts)
    catalogue = find_clips(tmp_path / "clips")
    videos = embed(catalogue, reader, tmp_path / "videos.h5", recipe, encoder)
    with FrameCacheWriter(tmp_path / "raw", FrameRecipe.of(recipe)) as writer:
        for ref in catalogue.refs:
            writer.add(reader(ref))
    cache = FrameCache.open(tmp_path / "raw")
    assert cache.recipe.into(recipe) == recipe
    frames = embed(cache.catalogue(), CachedReader(), tmp_path / "cache.h5", cache.recipe.into(recipe), encoder)
    assert frames.ids == videos.ids
    np.testing.assert_array_equal(frames.vectors_ND, videos.vectors_ND)
    np.testing.assert_array_equal(frames.rows.times_seconds_NT, videos.rows.times_seconds_NT)
    assert (frames.rows.sha256, frames.rows.decoder) == (videos.rows.sha256, videos.rows.decoder)


def test_a_recipe_goes_into_that_of_an_embedding_file():
    recipe = Recipe(
        encoder={"size": "nano"},
        weights={},
        frames={"count": 8},
        preprocessing={"image_size": 224, "mean": [0.5], "std": [0.2]},
        dtype="float16",
        decoder={"policy": "auto"},
    )
    assert FrameRecipe.of(recipe) == FrameRecipe(frames={"count": 8}, preprocessing={"image_size": 224}, decoder={"policy": "auto"})
    lossy = Jpeg(qscale=3).described(RECIPE).into(recipe)
    assert (lossy.encoder, lossy.frames, lossy.decoder) == (recipe.encoder, RECIPE.frames, RECIPE.decoder)
    stored = {"kind": "jpeg", "qscale": 3}
    assert lossy.preprocessing == {"image_size": 32, "resize": "crop", "stored": stored, "mean": [0.5], "std": [0.2]}

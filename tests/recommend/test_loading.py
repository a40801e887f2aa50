"""Files of weights that are not what training left: refused in words when the run is opened, not at the first question."""

import json
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from vivim.errors import InputError
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig
from vivim.recommend.loading import load_scorer
from vivim.recommend.train import train_run

KINDS = ("mamba", "dssm", "nfm", "item-knn", "popularity")


@pytest.fixture(scope="module")
def trained(ring, tmp_path_factory):
    """Folders of runs over the ring, by kind of model."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in KINDS:
        model = {"kind": kind, "d_model": 16, "layers": 1, "d_state": 8}
        config = RecommendConfig.model_validate({"model": model, "train": {"epochs": 1, "batch": 16}})
        train_run(ring, None, config, folder / kind, seed=0, device="cpu", resume=False, progress=SILENT, data_location={})
    return folder


@pytest.fixture
def copy_of(trained, tmp_path):
    """``copy_of(kind, hashes=True)``: a run that may be spoilt; without ``hashes`` it is as earlier versions left theirs."""

    def copy(kind, hashes=True):
        shutil.copytree(trained / kind, tmp_path / kind)
        if not hashes:
            change_info(tmp_path / kind, lambda info: info.pop("files_sha256"))
        return tmp_path / kind

    return copy


def change_info(run, change):
    path = run / "run.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled(path):
    path.write_bytes(pickle.dumps(Canary(path.with_name("canary"))))


def zipped(path):
    torch.save({"items": Canary(path.with_name("canary"))}, path)


def huge_header(path):
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def overlapping(path):
    """The first tensor begins where the second does."""

    def change(header):
        first, second = [name for name in header if name != "__metadata__"][:2]
        length = header[first]["data_offsets"][1] - header[first]["data_offsets"][0]
        begin = header[second]["data_offsets"][0]
        header[first]["data_offsets"] = [begin, begin + length]

    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def tensors(change):
    def tamper(path):
        held = load_file(path)
        held = {name: tensor.clone() for name, tensor in held.items()}
        change(held)
        save_file(held, path)

    return tamper


def put(name, of):
    return tensors(lambda held: held.update({name: of(held[name])}))


@pytest.mark.parametrize(
    ("kind", "tamper", "message"),
    [
        ("mamba", pickled, r"model\.safetensors is no safetensors file: it is a pickle"),
        ("mamba", zipped, r"model\.safetensors is no safetensors file: it is a zip archive"),
        ("mamba", huge_header, r"model\.safetensors is damaged"),
        ("mamba", cut, r"model\.safetensors is damaged"),
        ("mamba", overlapping, r"model\.safetensors is damaged"),
        ("mamba", put("items", lambda t: t * float("nan")), "NaN or infinite values in items"),
        ("mamba", put("items", lambda t: t.half()), r"items is float16 \(30, 16\), expected float32 \(30, 16\)"),
        ("mamba", put("items", lambda t: t.int()), r"items is int32 \(30, 16\)"),
        ("mamba", put("items", lambda t: t[:, :8].clone()), r"items is float32 \(30, 8\), expected float32 \(30, 16\)"),
        ("mamba", put("items", lambda t: t[:29].clone()), r"items is float32 \(29, 16\)"),
        ("mamba", put("items", lambda t: t.flatten()), r"items is float32 \(480\)"),
        ("mamba", put("model.layers.0.mixer.A_log", lambda t: t.half()), r"model\.layers\.0\.mixer\.A_log is float16"),
        ("mamba", tensors(lambda held: held.pop("items")), "items is missing"),
        ("mamba", tensors(lambda held: held.update(more=torch.zeros(1))), "more is unknown"),
        ("nfm", put("items", lambda t: t[:, :8].clone()), r"items is float32 \(30, 8\)"),
        ("dssm", put("items", lambda t: t[:, :8].clone()), r"users is float32 \(40, 16\), expected float32 \(any, 8\)"),
        ("dssm", put("users", lambda t: t.double()), "users is float64"),
        ("dssm", tensors(lambda held: held.pop("users")), "users is missing"),
        ("item-knn", put("followers", lambda t: t + 30), "not those of one table"),
        ("item-knn", put("starts", lambda t: t.flip(0)), "not those of one table"),
        ("item-knn", put("weights", lambda t: t[1:].clone()), "not those of one table"),
        ("item-knn", put("counts", lambda t: t.long()), "counts is int64"),
        ("popularity", put("counts", lambda t: t[1:].clone()), r"counts is float32 \(29\), expected float32 \(30\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_the_tensor_is_named(copy_of, kind, tamper, message):
    run = copy_of(kind, hashes=False)
    load_scorer(RunFolder.open(run))
    tamper(run / "model.safetensors")
    with pytest.raises(InputError, match=message):
        load_scorer(RunFolder.open(run))
    assert not (run / "canary").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_of_the_weights_is_noticed(copy_of, kind):
    run = copy_of(kind)
    load_scorer(RunFolder.open(run))
    path = run / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"model\.safetensors is not the file that the training left \(sha256 differs\)"):
        load_scorer(RunFolder.open(run))


def test_a_catalogue_with_other_counts_is_noticed(copy_of):
    run = copy_of("mamba")
    items, counts = RunFolder.open(run).catalogue()
    RunFolder(run).write_catalogue(items, counts + 1)
    with pytest.raises(InputError, match=r"catalogue\.parquet is not the file that the training left"):
        RunFolder.open(run).catalogue()


def test_weights_of_another_run_are_refused_though_they_fit(ring, copy_of, trained, tmp_path):
    run, other = copy_of("mamba"), tmp_path / "other"
    config = RunFolder.open(run).config()
    train_run(ring, None, config, other, seed=7, device="cpu", resume=False, progress=SILENT, data_location={})
    shutil.copy(other / "model.safetensors", run)
    with pytest.raises(InputError, match="not the file that the training left"):
        load_scorer(RunFolder.open(run))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(format=99), r"run\.json has the format 99, this vivim reads 1.*Update vivim"),
        (lambda info: info.update(format="x"), "has the format 'x'"),
        (lambda info: info.pop("config"), "has no 'config'"),
        (lambda info: info.update(config=[1]), "options that this vivim does not read"),
        (lambda info: info["config"]["model"].update(flux=3), r"model\.flux = 3 \(Extra inputs are not permitted\).*newer version"),
        (lambda info: info["config"].update(future={"a": 1}), r"future = \{'a': 1\}"),
        (lambda info: info["config"]["model"].update(kind="item-knn"), "starts is missing; followers is missing"),
        (lambda info: info["config"]["model"].update(kind="dssm"), "users is missing"),
        (
            lambda info: info["config"]["model"].update(kind="gru4rec"),
            r"does not fit the run's configuration: model\..* is (missing|unknown)",
        ),
        (lambda info: info["config"]["model"].update(d_model=32), r"items is float32 \(30, 16\), expected float32 \(30, 32\)"),
        (lambda info: info.update(catalogue_sha256="0" * 64), "mapping hash differs"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(copy_of, change, message):
    run = copy_of("mamba")
    change_info(run, change)
    with pytest.raises(InputError, match=message):
        load_scorer(RunFolder.open(run))


def test_a_file_is_hashed_once_until_it_changes(copy_of, monkeypatch):
    from vivim.recommend import checkpoint

    hashed, really = [], checkpoint.file_sha256
    monkeypatch.setattr(checkpoint, "file_sha256", lambda path: hashed.append(path.name) or really(path))
    run = RunFolder.open(copy_of("mamba"))
    before = run.model_sha256()
    load_scorer(run)
    assert (run.model_sha256(), hashed) == (before, ["model.safetensors", "catalogue.parquet"])
    path = run.path / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    assert run.model_sha256() != before


def test_a_training_that_goes_on_takes_back_what_was_said_of_the_weights(ring, copy_of):
    run = copy_of("mamba")
    config = RunFolder.open(run).config()
    more = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2})})
    seen = []

    def look(log):
        seen.append("files_sha256" in RunFolder.open(run).info())
        load_scorer(RunFolder.open(run))

    options = {"seed": 0, "device": "cpu", "resume": True, "progress": SILENT, "data_location": {}, "after_epoch": look}
    train_run(ring, None, more, run, **options)
    assert seen == [False]
    told = RunFolder.open(run).info()["files_sha256"]
    assert (sorted(told), told["model.safetensors"]) == (["catalogue.parquet", "model.safetensors"], RunFolder.open(run).model_sha256())

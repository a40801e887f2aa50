"""Weights under every known naming scheme, against names made backwards here and against the official models' outputs."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from vivim.errors import InputError
from vivim.extract.convert import convert_weights
from vivim.extract.shapes import config_of
from vivim.extract.vivim import SIZES, Vivim, VivimConfig
from vivim.extract.weight_files import read_safetensors
from vivim.extract.weights import from_state_dict, load_weights, make_encoder, save_encoder
from vivim.pipeline import load_pipeline
from vivim.store.tensor_files import hash_tensors

NANO = VivimConfig.of_size("nano")
SEGMENTING = replace(NANO, segmentation=True)
OFFICIAL_HEADS = (1, 2, 5, 8)

Tensors = dict[str, torch.Tensor]


@cache
def shapes(config: VivimConfig) -> Tensors:
    with torch.device("meta"):
        return Vivim(config).state_dict()


def random(config: VivimConfig) -> Tensors:
    """Random weights of which no tensor is trivial."""
    torch.manual_seed(3)
    return {k: torch.ones(v.shape, dtype=v.dtype) if v.ndim == 0 else torch.rand(v.shape) + 0.1 for k, v in shapes(config).items()}


def per_frame(ours: Mapping[str, torch.Tensor]) -> Tensors:
    return {k: v for k, v in ours.items() if k.startswith("stages.") and ".temporal." not in k}


def stage_norms(config: VivimConfig, name: str, first: int) -> Tensors:
    return {name.format(i + first) + kind: torch.ones(c) for i, c in enumerate(config.channels) for kind in (".weight", ".bias")}


def replaced(name: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        name = name.replace(old, new)
    return name


HF4 = (
    (".patch_embed.norm.", ".patch_embed.layer_norm."),
    (".attn.sr_norm.", ".attention.self.layer_norm."),
    (".norm1.", ".layer_norm_1."),
    (".norm2.", ".layer_norm_2."),
    (".attn.q.", ".attention.self.query."),
    (".attn.k.", ".attention.self.key."),
    (".attn.v.", ".attention.self.value."),
    (".attn.sr.", ".attention.self.sr."),
    (".attn.out.", ".attention.output.dense."),
    (".ffn.fc", ".mlp.dense"),
    (".ffn.dwconv.", ".mlp.dwconv.dwconv."),
)


def hugging_face_4(ours: Mapping[str, torch.Tensor]) -> Tensors:
    out = {}
    for name, tensor in ours.items():
        name = replaced(name, *HF4)
        name = re.sub(r"stages\.(\d)\.patch_embed\.", r"patch_embeddings.\1.", name)
        out[re.sub(r"stages\.(\d)\.layers\.", r"block.\1.", name)] = tensor
    return out


def hugging_face_5(ours: Mapping[str, torch.Tensor]) -> Tensors:
    pairs = (
        (".patch_embed.norm.", ".patch_embeddings.layer_norm."),
        (".patch_embed.", ".patch_embeddings."),
        (".layers.", ".blocks."),
        (".attn.sr_norm.", ".attention.sequence_reduction.layer_norm."),
        (".attn.sr.", ".attention.sequence_reduction.sequence_reduction."),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        (".attn.out.", ".attention.o_proj."),
        *((f".attn.{letter}.", f".attention.{letter}_proj.") for letter in "qkv"),
        (".ffn.dwconv.", ".mlp.dwconv.dwconv."),
        (".ffn.", ".mlp."),
    )
    return {replaced(name, *pairs): tensor for name, tensor in ours.items()}


def nvlabs(ours: Mapping[str, torch.Tensor]) -> Tensors:
    pairs = (
        (".attn.sr_norm.", ".attn.norm."),
        (".attn.out.", ".attn.proj."),
        (".ffn.dwconv.", ".mlp.dwconv.dwconv."),
        (".ffn.", ".mlp."),
        (".attn.k.", ".attn.kv."),
    )
    out = {}
    for name, tensor in ours.items():
        if ".attn.v." in name:
            continue
        if ".attn.k." in name:
            tensor = torch.cat([tensor, ours[name.replace(".attn.k.", ".attn.v.")]])
        stage = int(name[7]) + 1
        name = re.sub(r"stages\.\d\.(patch_embed|layers)", lambda m, n=stage: {"layers": "block"}.get(m[1], m[1]) + str(n), name)
        out[replaced(name, *pairs)] = tensor
    return out


def official(ours: Mapping[str, torch.Tensor]) -> Tensors:
    out = {"encoder.downsample_layers." + name: tensor for name, tensor in hugging_face_4(per_frame(ours)).items()}
    directed = {
        "conv_weight": "conv1d{}.weight",
        "conv_bias": "conv1d{}.bias",
        "x_proj": "x_proj{}.weight",
        "dt_proj": "dt_proj{}.weight",
        "dt_bias": "dt_proj{}.bias",
        "A_log": "A{}_log",
        "D": "D{}",
    }
    for name, tensor in ours.items():
        if ".temporal." not in name:
            continue
        _, stage, _, block, rest = name.split(".", 4)
        here = f"encoder.stages.{stage}.{block}.0."
        key = rest.removeprefix("mixer.")
        if key in directed:
            for walk, part in zip(("", "_b", "_s"), tensor, strict=True):
                out[here + "mamba." + directed[key].format(walk)] = part[:, None] if key == "conv_weight" else part
        else:
            out[here + replaced(rest, ("mixer.", "mamba."), ("ffn.dwconv.", "mlp.dwconv.dwconv."), ("ffn.", "mlp."))] = tensor
    heads = {"mask_head.": "out.", "edge_head.": "edgeocr_cls_head."}
    return (
        out
        | decoder(ours, "decoder.linear_c.{}.proj.", "decoder.linear_fuse.", "decoder.batch_norm.")
        | {replaced(name, *heads.items()): tensor for name, tensor in ours.items() if "_head." in name}
    )


def decoder(ours: Mapping[str, torch.Tensor], linear: str, fuse: str, norm: str, first: int = 0) -> Tensors:
    pairs = [(f"decoder.linear.{i}.", linear.format(i + first)) for i in range(4)] + [("decoder.fuse.", fuse), ("decoder.norm.", norm)]
    return {new + k.removeprefix(old): v for old, new in pairs for k, v in ours.items() if k.startswith(old)}


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def nvlabs_segformer(ours: Tensors) -> Tensors:
    head = decoder(ours, "decode_head.linear_c{}.proj.", "decode_head.linear_fuse.conv.", "decode_head.linear_fuse.bn.", first=1)
    dead = {f"decode_head.{name}.{kind}": torch.zeros(150) for name in ("conv_seg", "linear_pred") for kind in ("weight", "bias")}
    return under("backbone.", nvlabs(per_frame(ours)) | stage_norms(NANO, "norm{}", 1)) | head | dead


def hugging_face_4_segformer(ours: Tensors) -> Tensors:
    head = decoder(ours, "decode_head.linear_c.{}.proj.", "decode_head.linear_fuse.", "decode_head.batch_norm.")
    dead = {"decode_head.classifier.weight": torch.zeros(150), "decode_head.classifier.bias": torch.zeros(150)}
    return under("segformer.encoder.", hugging_face_4(per_frame(ours)) | stage_norms(NANO, "layer_norm.{}", 0)) | head | dead


def hugging_face_5_segformer(ours: Tensors) -> Tensors:
    head = decoder(ours, "decode_head.linear_projections.{}.proj.", "decode_head.linear_fuse.", "decode_head.batch_norm.")
    dead = {"decode_head.classifier.weight": torch.zeros(150)}
    return under("segformer.", hugging_face_5(per_frame(ours)) | stage_norms(NANO, "stages.{}.layer_norm", 0)) | head | dead


def official_with_loss(ours: Tensors) -> Tensors:
    dead = {"decoder.classifier.weight": torch.zeros(150), "decoder.classifier.bias": torch.zeros(150)}
    norms = stage_norms(NANO, "encoder.downsample_layers.layer_norm.{}", 0)
    return official(ours) | dead | norms | {"criterion.inverse_distance.inversenet.fc.0.weight": torch.zeros(1)}


IMAGENET = {"weight": torch.zeros(1000, 128), "bias": torch.zeros(1000)}

# What makes a file of our weights; the short name of its scheme; the epsilon of its layers; what of it has no place here.
WITH_DECODER = {
    "ours": (dict, "vivim", 1e-5, {}),
    "official": (official, "official-vivim", 1e-5, {}),
    "official with its loss": (
        official_with_loss,
        "official-vivim",
        1e-5,
        {"150-class classifier": 2, "stage layer norms": 8, "network of the training loss (InverseForm)": 1},
    ),
    "nvlabs segformer": (
        nvlabs_segformer,
        "nvlabs-segformer",
        1e-6,
        {"stage layer norms": 8, "classifier behind the decoder": 2, "unused convolution of mmsegmentation": 2},
    ),
    "hugging face 4 segformer": (
        hugging_face_4_segformer,
        "hugging-face-4",
        1e-5,
        {"stage layer norms": 8, "classifier behind the decoder": 2},
    ),
    "hugging face 5 segformer": (
        hugging_face_5_segformer,
        "hugging-face-5",
        1e-5,
        {"stage layer norms": 8, "classifier behind the decoder": 1},
    ),
}
PER_FRAME = {
    "nvlabs mit": (lambda ours: nvlabs(ours) | under("head.", IMAGENET), "nvlabs-mit", 1e-6, {"ImageNet classifier": 2}),
    "hugging face 4 mit": (
        lambda ours: under("segformer.encoder.", hugging_face_4(ours)) | under("classifier.", IMAGENET),
        "hugging-face-4",
        1e-5,
        {"ImageNet classifier": 2},
    ),
    "hugging face 4 model": (lambda ours: under("encoder.", hugging_face_4(ours)), "hugging-face-4", 1e-5, {}),
    "hugging face 4 encoder": (hugging_face_4, "hugging-face-4", 1e-5, {}),
    "hugging face 5 mit": (
        lambda ours: under("segformer.", hugging_face_5(ours)) | under("classifier.", IMAGENET),
        "hugging-face-5",
        1e-5,
        {"ImageNet classifier": 2},
    ),
    "hugging face 5 model": (hugging_face_5, "hugging-face-5", 1e-5, {}),
}
WRAPPERS: dict[str, Callable[[Tensors], object]] = {
    "bare": lambda x: x,
    "data parallel": lambda x: under("module.", x),
    "lightning": lambda x: {"epoch": 3, "state_dict": {k if k.startswith("criterion") else f"model.{k}": v for k, v in x.items()}},
    "nested": lambda x: {"model": {"state_dict": under("module._orig_mod.", x)}},
}


def equal(got: Mapping[str, torch.Tensor], want: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in want.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_wrappers_and_containers_are_taken_off(wrap):
    ours = random(SEGMENTING)
    vivim = from_state_dict(wrap(official_with_loss(ours)), segmentation=True)
    report = vivim.load_report
    equal(vivim.state_dict(), ours)
    assert report.scheme == "official-vivim"


@pytest.mark.parametrize(("make", "scheme", "eps", "dropped"), WITH_DECODER.values(), ids=WITH_DECODER.keys())
def test_whole_models_come_back_to_the_bit(make, scheme, eps, dropped):
    ours = random(SEGMENTING)
    vivim = from_state_dict(make(ours), segmentation=True)
    report = vivim.load_report
    assert (report.scheme, report.size, report.norm_eps) == (scheme, "nano", eps)
    assert {drop.what: drop.tensors for drop in report.dropped} == dropped
    theirs = ours if "vivim" in scheme else per_frame(ours) | {k: v for k, v in ours.items() if k.startswith("decoder.")}
    equal(vivim.state_dict(), theirs)
    assert set(report.initialised) == (set() if "vivim" in scheme else {"Temporal Mamba Blocks", "mask head", "edge head"})
    assert sum(report.loaded.values()) == len(theirs)
    assert vivim.config == replace(SEGMENTING, norm_eps=eps)
    assert vivim.stages[2].layers[0].norm1.eps == eps
    assert vivim.stages[2].patch_embed.norm.eps == 1e-5
    assert not vivim.training


@pytest.mark.parametrize(("make", "scheme", "eps", "dropped"), PER_FRAME.values(), ids=PER_FRAME.keys())
def test_image_models_come_back_to_the_bit_and_the_rest_follows_the_seed(make, scheme, eps, dropped):
    ours = per_frame(random(NANO))
    vivim = from_state_dict(make(ours), seed=9)
    report = vivim.load_report
    assert (report.scheme, report.size, report.norm_eps, report.seed) == (scheme, "nano", eps, 9)
    assert {drop.what: drop.tensors for drop in report.dropped} == dropped
    equal(vivim.state_dict(), ours)
    assert report.loaded == {"patch embeddings and SegFormer layers": len(ours)}
    assert report.initialised == {"Temporal Mamba Blocks": len(shapes(NANO)) - len(ours)}
    assert report.sha256 == hash_tensors(vivim.state_dict())


def test_what_a_file_lacks_is_drawn_as_a_fresh_encoder_draws_it() -> None:
    ours = per_frame(random(NANO))
    vivim, other, same = (from_state_dict(ours, SEGMENTING, seed=seed).state_dict() for seed in (9, 8, 9))
    assert vivim.keys() == shapes(SEGMENTING).keys()
    equal(vivim, same)
    fresh = load_weights("random", SEGMENTING, seed=9).state_dict()
    for name in vivim.keys() - ours.keys():
        mine, theirs = vivim[name].float(), fresh[name].float()
        if name.endswith("A_log") or theirs.unique().numel() == 1:
            assert torch.equal(mine, theirs), name
            continue
        assert not torch.equal(mine, other[name].float()), name
        assert mine.std() / theirs.std() == pytest.approx(1, abs=0.6), name
        assert mine.mean() == pytest.approx(float(theirs.mean()), abs=0.8 * float(theirs.std())), name


def test_a_segmentation_model_serves_as_an_encoder_of_vectors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = Vivim(replace(SEGMENTING, norm_eps=1e-6)).eval()
    save_encoder(trained, tmp_path / "seg.safetensors", licence="mine")
    whole = load_weights(str(tmp_path / "seg.safetensors"))  # as it is: the masks it predicts are those of the trained one
    equal(whole.state_dict(), trained.state_dict())
    vivim = load_weights(str(tmp_path / "seg.safetensors"), segmentation=False)
    report = vivim.load_report
    assert vivim.decoder is None
    assert report.lines() == [
        f"The encoder's weights come from seg.safetensors (nano, vivim names, sha256 {report.sha256[:12]}).",
        "  loaded: patch embeddings and SegFormer layers (100 tensors); Temporal Mamba Blocks (76 tensors)",
        "  dropped: 14 tensors, decoder: pooling levels does not use it",
        "  dropped: 2 tensors, edge head: vectors need no edges",
        "  dropped: 2 tensors, mask head: vectors need no masks",
        "  licence: mine",
    ]
    assert report.recipe() == {
        "source": "seg.safetensors",
        "sha256": report.sha256,
        "scheme": "vivim",
        "norm_eps": 1e-6,
        "licence": "mine",
    }
    frames = torch.randint(0, 255, (1, 2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(vivim.embed_uint8(frames), trained.embed_uint8(frames), rtol=0, atol=0)
    unified = load_weights(str(tmp_path / "seg.safetensors"), VivimConfig.of_size("nano", "unified"))
    told = unified.load_report
    equal(unified.state_dict(), {k: v for k, v in trained.state_dict().items() if "_head" not in k})
    assert [drop.what for drop in told.dropped] == ["edge head", "mask head"]


def test_what_an_image_model_brings_is_told_in_lines() -> None:
    report = from_state_dict(nvlabs(per_frame(random(NANO))), source="mit.safetensors", seed=4).load_report
    first, *lines = report.lines()
    assert first == f"The encoder's weights come from mit.safetensors (nano, NVlabs MiT names, sha256 {report.sha256[:12]})."
    assert lines[:2] == [
        "  loaded: patch embeddings and SegFormer layers (100 tensors)",
        "  drawn from seed 4, never trained: Temporal Mamba Blocks (76 tensors)",
    ]
    assert "research and evaluation only" in lines[2]
    assert report.recipe()["initialised"] == "Temporal Mamba Blocks; seed 4"


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_scheme_and_licence_of_a_converted_checkpoint_come_back(new_format: bool, tmp_path: Path) -> None:
    ours = per_frame(random(NANO))
    torch.save(nvlabs(ours), tmp_path / "mit.pth", _use_new_zipfile_serialization=new_format)
    report = convert_weights(tmp_path / "mit.pth", tmp_path / "mit.safetensors")
    vivim = load_weights(str(tmp_path / "mit.safetensors"))
    loaded = vivim.load_report
    equal(vivim.state_dict(), ours)
    assert replace(loaded, source="mit.pth") == report
    _, metadata = read_safetensors(tmp_path / "mit.safetensors")
    assert metadata == {"format": "pt", "scheme": "nvlabs-mit", "licence": report.licence}


def golden(shared_data: Path, name: str) -> Tensors:
    return {k: torch.from_numpy(v) for k, v in np.load(shared_data.parent / "golden" / name).items() if v.dtype.kind != "U"}


@pytest.mark.shared
@pytest.mark.parametrize(("scheme", "eps"), [("nv", "1e-6"), ("hf", "1e-5")])
def test_the_per_frame_half_equals_the_official_mit(shared_data: Path, scheme: str, eps: str) -> None:
    data = golden(shared_data, "f_mit_nano_nvlabs_keys.npz")
    theirs = {k.removeprefix("nv."): v for k, v in data.items() if k.startswith("nv.")}
    tensors = theirs
    if scheme == "hf":
        hf_keys = set(np.load(shared_data.parent / "golden" / "f_mit_nano_nvlabs_keys.npz")["hf_keys"])
        ours = per_frame(from_state_dict(theirs, heads=OFFICIAL_HEADS).state_dict())
        norms = {
            replaced(k, *((f"norm{i}.", f"layer_norm.{i - 1}.") for i in range(1, 5))): v for k, v in theirs.items() if k[:4] == "norm"
        }
        tensors = hugging_face_4(ours) | norms
        assert set(tensors) == hf_keys
    vivim = from_state_dict(tensors, heads=OFFICIAL_HEADS)
    report = vivim.load_report
    assert report.norm_eps == float(eps)
    assert vivim.config.depths == (1, 2, 1, 1)
    assert report.size == "custom"
    x = data["x"]
    with torch.no_grad():
        for i, stage in enumerate(vivim.stages, start=1):
            tokens, size = stage.patch_embed(x)
            for layer in stage.layers:
                tokens = layer(tokens, size)
            # An image model norms the end of a stage; Vivim does not, so that the test has to.
            tokens = torch.nn.functional.layer_norm(
                tokens, tokens.shape[-1:], theirs[f"norm{i}.weight"], theirs[f"norm{i}.bias"], float(eps)
            )
            x = tokens.transpose(1, 2).unflatten(2, size)
            want = data[f"F{i}_{scheme}_eps{eps}"]
            assert float((x - want).abs().max()) <= 2e-5 * float(want.abs().max())


@pytest.mark.shared
def test_every_name_of_the_official_b3_has_its_place(shared_data: Path) -> None:
    lines = (shared_data.parent / "golden" / "vivim_b3_official_state_dict.txt").read_text().splitlines()
    tensors = {}
    for name, shape, dtype in (line.split("\t") for line in lines):
        sides = [int(side) for side in re.findall(r"\d+", shape)]
        tensors[name] = torch.zeros((), dtype=getattr(torch, dtype)).expand(sides)
    assert len(tensors) == 912
    vivim = from_state_dict(tensors, segmentation=True)
    report = vivim.load_report
    assert vivim.config == replace(VivimConfig.of_size("b3"), segmentation=True)
    assert {drop.what: drop.tensors for drop in report.dropped} == {"stage layer norms": 8, "150-class classifier": 2}
    assert not report.initialised
    assert not any(parameter.any() for parameter in vivim.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_read_off_shapes(size) -> None:
    with torch.device("meta"):
        wanted = VivimConfig.of_size(size, "unified")
        tensors = Vivim(wanted).state_dict()
    assert config_of(tensors, "x", pooling="unified") == wanted
    assert config_of(per_frame(tensors), "x") == VivimConfig.of_size(size)


def test_the_paper_layout_is_read_off_names() -> None:
    config = replace(NANO, layout="paper", depths=(1, 2, 1, 1), d_state=8, ratio=2)
    vivim = from_state_dict(random(config), heads=config.heads)
    report = vivim.load_report
    assert vivim.config == replace(config, mamba_depths=(2, 2, 2, 2), decoder_width=256)
    assert report.size == "custom"


def test_random_weights_follow_the_seed_and_saved_weights_come_back(tmp_path: Path) -> None:
    first = load_weights("random", NANO, seed=7)
    info = first.load_report
    again = load_weights("random", NANO, seed=7)
    same = again.load_report
    other = load_weights("random", NANO, seed=8).load_report
    assert info == same
    assert info.sha256 != other.sha256
    assert info.lines() == [
        "The encoder's weights are random (seed 7): it was never trained, its vectors are random features of the frames."
    ]
    assert info.recipe() == {"source": "random seed 7", "sha256": info.sha256}
    save_encoder(first, tmp_path / "w.safetensors")
    loaded = load_weights(str(tmp_path / "w.safetensors"))
    from_file = loaded.load_report
    assert from_file.sha256 == info.sha256
    frames = torch.randint(0, 255, (1, 2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed_uint8(frames), again.embed_uint8(frames), rtol=0, atol=0)


def test_heads_and_epsilon_of_an_unusual_encoder_are_remembered(tmp_path: Path) -> None:
    config = VivimConfig((24, 32, 40, 64), (1, 1, 1, 1), (1, 1, 1, 1), (2, 4, 5, 8), norm_eps=1e-6)
    save_encoder(Vivim(config), tmp_path / "w.safetensors")
    path = str(tmp_path / "w.safetensors")
    assert load_weights(path).config == config
    with pytest.raises(InputError, match=r"made with \(2, 4, 5, 8\) attention heads"):
        load_weights(path, replace(config, heads=(1, 2, 5, 8)))
    tensors = load_file(path)
    with pytest.raises(InputError, match=r"24, 32, 40, 64 channels, and how many attention heads .* is in no tensor.*heads="):
        from_state_dict(tensors)
    assert from_state_dict(tensors, heads=(2, 4, 5, 8)).config.heads == (2, 4, 5, 8)
    with pytest.raises(InputError, match=r"24, 32, 40, 64 channels, which \(5, 1, 1, 1\) heads cannot share"):
        from_state_dict(tensors, metadata={"heads": "5,1,1,1"})
    for metadata in (
        {"heads": "1,2"},
        {"heads": "1,0,1,1"},
        {"heads": "\u00b2,1,1,1"},  # isdigit() takes it for a number
        {"heads": "1,2,4," + "9" * 5000},
        *({"heads": "2,4,5,8", "norm_eps": eps} for eps in ("small", "nan", "inf", "0", "-1e-5")),
    ):
        with pytest.raises(InputError, match=r"is needed|are needed"):
            from_state_dict(tensors, metadata=metadata)


def test_the_size_is_the_files_unless_another_is_named(tmp_path: Path) -> None:
    save_encoder(Vivim(NANO), tmp_path / "w.safetensors")
    options = [f"extract.encoder.weights={tmp_path}/w.safetensors"]
    assert make_encoder(load_pipeline(None, options).extract.encoder, 1).load_report.size == "nano"
    with pytest.raises(InputError, match=r"is of size nano \(channels 16.*\), asked for is b0 \(channels 32.*\(--size auto\).*weights\.$"):
        make_encoder(load_pipeline(None, [*options, "extract.encoder.size=b0"]).extract.encoder, 1)
    assert make_encoder(load_pipeline(None).extract.encoder, 1).load_report.size == "b0"


def altered(change: Callable[[Tensors], object]) -> Tensors:
    tensors = random(NANO)
    change(tensors)
    return tensors


def official_without(name: str) -> Tensors:
    tensors = official(random(SEGMENTING))
    del tensors[name]
    return tensors


BIAS = "stages.1.patch_embed.proj.bias"
MISFITS: dict[str, tuple[Callable[[], Tensors], str]] = {
    "missing": (lambda: altered(lambda t: t.pop(BIAS)), rf"\(1 misfit\): {BIAS} is missing"),
    "too many": (
        lambda: altered(lambda t: t.update({"stages.1.extra": torch.ones(1)})),
        r"stages.1.extra is not a tensor of this encoder",
    ),
    "foreign": (lambda: altered(lambda t: t.update({"lm_head": torch.ones(1)})), "lm_head is not a tensor that vivim files have"),
    "shape": (lambda: altered(lambda t: t.update({BIAS: torch.ones(3)})), rf"{BIAS} is \(3,\), the encoder needs \(32,\)"),
    "kind": (lambda: altered(lambda t: t.update({BIAS: torch.ones(32).int()})), rf"{BIAS} is torch.int32, the encoder needs torch.float32"),
    "nan": (lambda: altered(lambda t: t[BIAS].__setitem__(0, float("nan"))), rf"{BIAS} holds NaN"),
    "inf": (lambda: altered(lambda t: t.update({BIAS: torch.full((32,), torch.inf).half()})), rf"{BIAS} holds NaN"),
    "several": (
        lambda: altered(lambda t: [t.pop(k) for k in list(t) if "stages.2.layers.0" in k and "attn" in k]),
        r"\(8 misfits\).*; and 3 more",
    ),
    "narrow": (
        lambda: altered(lambda t: t.update({"stages.0.layers.0.ffn.fc1.weight": torch.ones(5, 16)})),
        r"stages\.0\.layers\.0\.ffn\.fc1\.weight is \(5, 16\), the encoder needs \(16, 16\)",
    ),
    "empty": (
        lambda: altered(lambda t: t.update({"stages.0.layers.0.attn.sr.weight": torch.ones(16, 16, 0, 0)})),
        r"attn\.sr\.weight is not a tensor of this encoder",
    ),
    "odd width": (
        lambda: altered(lambda t: t.update({"stages.1.patch_embed.proj.weight": torch.ones(33, 16, 3, 3)})),
        r"stages\.1\.patch_embed\.proj\.weight \(our name\) is \(33, 16, 3, 3\), and stages\.1\.patch_embed\.norm\.weight \(32,\)",
    ),
    "no width": (
        lambda: altered(lambda t: t.pop("stages.3.patch_embed.proj.weight")),
        "does not tell its size: stages.3.patch_embed.proj.weight",
    ),
    "two walks": (
        lambda: official_without("encoder.stages.0.0.0.mamba.A_b_log"),
        "mamba.A_log stands for 2 of the 3 walks over a clip; stages.0.temporal.0.mixer.A_log needs all",
    ),
    "unequal walks": (
        lambda: official(random(NANO)) | {"encoder.stages.0.0.0.mamba.D_s": torch.ones(3)},
        r"other walks have different shapes: \[\(32,\), \(32,\), \(3,\)\]",
    ),
    "odd keys and values": (
        lambda: nvlabs(per_frame(random(NANO))) | {"block1.0.attn.kv.bias": torch.ones(33)},
        r"block1.0.attn.kv.bias is \(33,\); an even number of rows",
    ),
    "short keys and values": (
        lambda: nvlabs(per_frame(random(NANO))) | {"block1.0.attn.kv.bias": torch.ones(30)},
        r"block1.0.attn.kv.bias is \(15,\), the encoder needs \(16,\)",
    ),
    "twice": (lambda: altered(lambda t: t.update({f"module.{BIAS}": t[BIAS]})), f"holds {BIAS} twice"),
    "a ResNet": (
        lambda: {"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)},
        r"no known scheme \(conv1.weight, fc.bias, .*Known: vivim",
    ),
    "nothing": (dict, r"holds no tensors at all\. Give the weights of an encoder: vivim"),
    "a run's state": (
        lambda: under("model.", random(NANO)) | {"optimizer.0.step": torch.ones(1), "epochs": torch.ones(1)},
        r"epochs is not a tensor.*It is what a run resumes from: give the encoder\.safetensors beside it",
    ),
    "another run's state": (
        lambda: under("encoder.", random(NANO)) | {"optimizer.0.step": torch.ones(1)},
        r"no known scheme.*It is what a run resumes from: give the encoder\.safetensors beside it",
    ),
}


@pytest.mark.parametrize(("make", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_is_refused_by_name(make: Callable[[], Tensors], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_state_dict(make())


def test_a_pooling_that_needs_a_trained_decoder_refuses_a_file_without() -> None:
    with pytest.raises(InputError, match=r"decoder\.linear\.0\.weight is missing.*choose pooling levels"):
        from_state_dict(nvlabs(per_frame(random(NANO))), pooling="unified")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_encoder(Vivim(NANO), path)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    contents = [b"", *(whole[:size] for size in (5, 8, 8 + header // 2, 8 + header, len(whole) - 1)), whole + b"x"]
    # A header whose length begins like a pickle is none.
    contents.append((0x80).to_bytes(8, "little") + b"{" + bytes(0x7F))
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"not a readable safetensors file: .*; copy or export it again\.$"):
            load_weights(str(path))
    for content, says in (
        (b"<html>not found</html>", "it is a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer; fetch .*git lfs pull"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"not a readable safetensors file: {says}"):
            load_weights(str(path))
    for metadata in ("{", "[1]", '{"heads": [1, 2, 4, 8]}'):
        save_file({"x": torch.zeros(1)}, path, {"vivim": metadata})
        with pytest.raises(InputError, match="not a readable safetensors"):
            load_weights(str(path))


def test_paths_that_are_no_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    for source, says in (
        (str(tmp_path / "absent.safetensors"), r"no file .*absent\.safetensors\. Give the path of a \.safetensors file"),
        (str(tmp_path / "run"), r"run is a folder\. Give the path of a \.safetensors file"),
        (str(tmp_path / "pipe.safetensors"), r"is not a file"),
        (str(tmp_path / ("x" * 300)), r"cannot be opened \(File name too long\)"),
        ("", r"the name is empty\. Give random, or the path"),
        ("https://example.org/w.safetensors", r"https://example\.org/w\.safetensors is an address, and only hub:OWNER/NAME is downloaded"),
    ):
        with pytest.raises(InputError, match=says):
            load_weights(source)
    (tmp_path / "run" / "best.safetensors").touch()
    with pytest.raises(InputError, match=r"run is a folder\. Give one of the files in it: best\.safetensors\."):
        load_weights(str(tmp_path / "run"))
    (tmp_path / "my w.pth").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"can run code and are not opened here\. Convert it: vivim convert-weights '.*my w.pth' '.*my w.safetensors'"
    ):
        load_weights(str(tmp_path / "my w.pth"))
    (tmp_path / "w.gguf").write_bytes(b"x")
    with pytest.raises(InputError, match=r"w\.gguf is not a \.safetensors file\. Give one; of pickled checkpoints \(\.pth"):
        load_weights(str(tmp_path / "w.gguf"))
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"w\.safetensors has names of no known scheme"):
        load_weights(str(path))


def test_a_path_may_hold_spaces_other_alphabets_and_capitals(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "ünï 重み.SafeTensors"
    path.parent.mkdir()
    save_encoder(Vivim(NANO), path)
    assert load_weights(str(path)).load_report.source == "ünï 重み.SafeTensors"

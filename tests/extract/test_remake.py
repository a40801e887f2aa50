"""A recipe gives back the configuration, the weights and the reader it was made with, or says why not."""

from pathlib import Path

import pytest
import torch
from vivim.errors import InputError
from vivim.extract.reader import make_reader
from vivim.extract.remake import config_of, encoder_of
from vivim.extract.sampling import Fps, Uniform
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.extract.weight_files import write_safetensors
from vivim.extract.weights import make_encoder, save_encoder
from vivim.pipeline import load_pipeline
from vivim.stage_one import make_recipe

FILE = Path("e.h5")


def recipe_of(*sets, seed=1, weights="random"):
    config = load_pipeline(None, ["extract.encoder.size=nano", f"extract.encoder.weights={weights}", *sets]).extract
    encoder = make_encoder(config.encoder, seed)
    report = encoder.load_report
    return make_recipe(config, encoder, report), config, encoder


@pytest.mark.parametrize(
    "sets",
    [
        [],
        ["extract.frames.sampler=fps", "extract.frames.fps=3", "extract.frames.count=5"],
        ["extract.image_size=96", "extract.resize=squash", "extract.decoder=pyav"],
        ["extract.dtype=float32", "extract.precision=bf16-mixed"],
        ["extract.encoder.pooling=unified"],
    ],
)
def test_a_recipe_gives_back_its_configuration_and_weights(sets):
    recipe, config, encoder = recipe_of(*sets, seed=7)
    assert config_of(recipe, FILE) == config
    again, report = encoder_of(recipe, "random", FILE)
    assert report.source == "random seed 7"
    assert again.dim == encoder.dim
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), encoder.state_dict().values(), strict=True))


def test_the_reader_is_that_of_the_configuration():
    _, config, _ = recipe_of("extract.frames.sampler=fps", "extract.frames.fps=3", "extract.image_size=96", "extract.resize=squash")
    reader = make_reader(config)
    assert (reader.sampler, reader.image_size, reader.resize, reader.decoder) == (Fps(8, 3.0), 96, "squash", "auto")
    assert make_reader(recipe_of("extract.frames.count=2")[1]).sampler == Uniform(2)


def test_weights_of_a_file_must_be_given_and_be_the_same(tmp_path):
    for name, seed in (("mine", 1), ("renamed", 1), ("other", 2)):
        torch.manual_seed(seed)
        save_encoder(Vivim(VivimConfig.of_size("nano")), tmp_path / f"{name}.safetensors")
    recipe, _, encoder = recipe_of(weights=tmp_path / "mine.safetensors")
    again, _ = encoder_of(recipe, str(tmp_path / "renamed.safetensors"), FILE)
    assert torch.equal(next(again.parameters()), next(encoder.parameters()))
    with pytest.raises(InputError, match=r"e\.h5 was made with the weights of mine\.safetensors .*say where they are with --weights"):
        encoder_of(recipe, "random", FILE)
    with pytest.raises(InputError, match=r"weights of mine\.safetensors .*those of other\.safetensors .*: they are other weights"):
        encoder_of(recipe, str(tmp_path / "other.safetensors"), FILE)


def test_what_the_weights_lacked_is_drawn_from_the_same_seed(tmp_path):
    images = {name: tensor for name, tensor in Vivim(VivimConfig.of_size("nano")).state_dict().items() if ".temporal." not in name}
    write_safetensors(images, tmp_path / "images.safetensors", {})
    recipe, _, _ = recipe_of(weights=tmp_path / "images.safetensors", seed=5)
    assert recipe.weights["initialised"] == "Temporal Mamba Blocks; seed 5"
    _, report = encoder_of(recipe, str(tmp_path / "images.safetensors"), FILE)
    assert report.sha256 == recipe.weights["sha256"]


def test_random_weights_that_come_out_otherwise_are_refused():
    recipe, _, _ = recipe_of()
    changed = recipe.model_copy(update={"weights": {"source": "random seed 1", "sha256": "0" * 64}})
    with pytest.raises(InputError, match="this version of torch draws other numbers"):
        encoder_of(changed, "random", FILE)
    with pytest.raises(InputError, match=r"random weights \(seed 1\), given is x\.safetensors\. Leave --weights"):
        encoder_of(recipe, "x.safetensors", FILE)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("encoder", {"kind": "other"}, "encoder of kind 'other'"),
        ("encoder", {"size": "b9"}, "encoder.size = 'b9'"),
        ("frames", {"direction": "back"}, "frames.direction = 'back'"),
        ("preprocessing", {"resize": "fold"}, "resize = 'fold'"),
        ("decoder", {"policy": None}, "decoder = None"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_with_the_field(part, changes, message):
    recipe, _, _ = recipe_of()
    with pytest.raises(InputError, match=message):
        config_of(recipe.model_copy(update={part: {**getattr(recipe, part), **changes}}), FILE)


def test_random_weights_without_a_size_are_refused():
    recipe, _, _ = recipe_of()
    custom = recipe.model_copy(update={"encoder": {**recipe.encoder, "size": "custom"}})
    with pytest.raises(InputError, match="without a named size"):
        encoder_of(custom, "random", FILE)

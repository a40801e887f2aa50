import pytest
from hypothesis import given
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.store import EmbeddingFile, EmbeddingStore, ImportedRecipe, Recipe, TextRecipe, differences, read_recipe

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
parts = st.dictionaries(st.text(), json_values, max_size=3)


@given(st.builds(Recipe, encoder=parts, weights=parts, frames=parts, preprocessing=parts, dtype=st.just("float16"), decoder=parts))
def test_json_round_trip(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert differences(recipe, Recipe.from_json(recipe.to_json())) == []


def test_every_field_that_differs_is_named_and_creation_is_not_compared(samples):
    old = samples.recipe(created_by="vivim 0.0.1", created_at="2020-01-01T00:00:00+00:00")
    encoder, frames = {"size": "b0", "dims": [8, 16]}, {"sampler": "uniform", "count": 8}
    new = samples.recipe(encoder=encoder, frames=frames, dtype="float32", decoder={"policy": "auto", "av": "19"})
    assert differences(old, samples.recipe()) == []
    assert differences(old, new) == [
        ("encoder.size", "nano", "b0"),
        ("frames.count", 2, 8),
        ("frames.fps", None, "(absent)"),
        ("dtype", "float16", "float32"),
        ("decoder.av", "18.1.0", "19"),
    ]


def test_who_and_when_are_filled_in(samples):
    recipe = samples.recipe()
    assert recipe.created_by.startswith("vivim ")
    assert recipe.created_at.endswith("+00:00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "Invalid JSON"),
        ("{}", "encoder: Field required"),
        ('{"encodre": {}}', "encodre: Extra inputs"),
        ("[" * 100_000, "recipe"),
    ],
)
def test_what_is_no_recipe(text, message):
    with pytest.raises(InputError, match=message):
        Recipe.from_json(text)


def test_only_two_dtypes(samples):
    with pytest.raises(InputError, match="dtype"):
        Recipe.from_json(samples.recipe().to_json().replace("float16", "int8"))


TEXT = TextRecipe(
    encoder={"kind": "sentence-transformers", "max_tokens": 256},
    weights={"source": "a package 0.1.0", "sha256": "ab" * 32},
    libraries={"transformers": "5.24.0"},
    dtype="float32",
)
IMPORTED = ImportedRecipe(
    vectors={"source": "VideoMAE", "file": "features.npy", "sha256": "cd" * 32},
    ids={"first": 1},
    dtype="float32",
)


@pytest.mark.parametrize("recipe", [TEXT, IMPORTED])
def test_recipes_of_titles_and_of_vectors_come_back_as_what_they_are(recipe):
    assert read_recipe(recipe.to_json()) == recipe
    assert type(read_recipe(recipe.to_json())) is type(recipe)


def test_a_recipe_without_a_kind_is_of_clips_as_in_files_that_were_written_before_there_were_kinds(samples):
    old = (
        '{"encoder":{"size":"nano","pooling":"frames"},"weights":{"source":"random seed 1"},"frames":{"count":2},'
        '"preprocessing":{},"dtype":"float16","decoder":{},"created_by":"vivim 0.1.0","created_at":""}'
    )
    recipe = read_recipe(old)
    assert isinstance(recipe, Recipe)
    assert recipe.to_json() == old
    assert recipe.spans and not samples.recipe().spans
    # The hash that vivim gave this recipe before there were other kinds.
    assert recipe.sha256 == "63de31f40570911d8e39edfeeb5ebe1e2bcc4d36c39ac155b2c6e2288bffcc60"


def test_a_kind_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="kind 'audio'; this vivim knows text, imported"):
        read_recipe(TEXT.to_json().replace('"text"', '"audio"'))


def test_each_recipe_says_in_words_where_its_vectors_come_from(samples):
    assert samples.recipe().origin_words == "encoder weights: random seed 42"
    assert TEXT.origin_words == "text model: a package 0.1.0"
    assert IMPORTED.origin_words == "imported vectors: VideoMAE"


def test_vectors_of_titles_do_not_go_into_a_file_of_clips(samples, tmp_path):
    path = samples.write(tmp_path / "clips.h5")
    with pytest.raises(InputError) as refused:
        EmbeddingFile(path, TEXT, 4)
    assert str(refused.value).splitlines()[1:-1] == ["  made from: clips in the file, titles now"]
    assert isinstance(EmbeddingStore.open(path).recipe, Recipe)


def test_another_text_model_is_refused_with_what_differs(samples, tmp_path):
    file = EmbeddingFile(tmp_path / "titles.h5", TEXT, 4)
    file.add(samples.rows(["a", "b"]))
    file.commit()
    other = TEXT.model_copy(update={"weights": {"source": "a package 0.1.0", "sha256": "ef" * 32}})
    with pytest.raises(InputError, match=r"weights.sha256: abababababab... in the file, efefefefefef... now"):
        EmbeddingFile(tmp_path / "titles.h5", other, 4)

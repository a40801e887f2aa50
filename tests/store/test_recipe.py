import pytest
from hypothesis import given
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.store import Recipe, differences

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

"""The contract of every user model whose answer is a vector."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from vivim.recommend.config import ModelConfig
from vivim.recommend.models.gru4rec import Gru4RecUserModel
from vivim.recommend.models.mamba import MambaUserModel, mamba2
from vivim.recommend.models.nextitnet import NextItNetUserModel
from vivim.recommend.models.sasrec import SasRecUserModel
from vivim.recommend.models.vector_model import Steps, step_of
from vivim.recommend.models.youtube import YoutubeUserModel
from vivim.recommend.similarity import ScaledUsers

MODELS = {
    "mamba": lambda: MambaUserModel(ModelConfig(kind="mamba", d_model=16, d_state=8)),
    "mamba one layer, no expansion": lambda: MambaUserModel(ModelConfig(kind="mamba", d_model=8, layers=1, expand=1, d_conv=2)),
    "mamba2": lambda: MambaUserModel(ModelConfig(kind="mamba2", d_model=16, d_state=8, headdim=8), mamba2),
    "gru4rec": lambda: Gru4RecUserModel(ModelConfig(kind="gru4rec", d_model=16)),
    "nextitnet": lambda: NextItNetUserModel(ModelConfig(kind="nextitnet", d_model=16, layers=1)),
    "youtube": lambda: YoutubeUserModel(ModelConfig(kind="youtube", d_model=16, layers=1)),
    "cosine": lambda: ScaledUsers(MambaUserModel(ModelConfig(d_model=16, d_state=8)), 0.1, unit=True),
    "sasrec": lambda: SasRecUserModel(ModelConfig(kind="sasrec", d_model=16), max_len=12),
}


@pytest.fixture(params=MODELS, ids=str)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def width(model):
    return getattr(model, "model", model).norm_in.normalized_shape[0]


@torch.no_grad()
def test_future_items_do_not_change_past_outputs(model):
    items = torch.randn(2, 12, width(model))
    changed = items.clone()
    changed[:, 7:] = 100.0
    torch.testing.assert_close(model(items)[:, :7], model(changed)[:, :7], rtol=0, atol=1e-6)


@torch.no_grad()
def test_padding_on_the_right_changes_nothing(model):
    items = torch.randn(1, 5, width(model))
    padded = torch.cat([items, torch.full((1, 4, width(model)), 9.0)], 1)
    torch.testing.assert_close(model(padded)[:, :5], model(items), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_batch_equals_its_histories_alone(model):
    items = torch.randn(5, 9, width(model))
    alone = torch.cat([model(items[row : row + 1]) for row in range(5)])
    torch.testing.assert_close(model(items), alone, rtol=1e-5, atol=1e-5)
    assert float((alone[0] - alone[1]).abs().max()) > 1e-3  # they are told apart at all


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_weights_from_a_file_make_the_same_model(tmp_path, name):
    torch.manual_seed(0)
    saved = MODELS[name]().eval()
    items = torch.randn(3, 9, width(saved))
    save_file({key: tensor.contiguous() for key, tensor in saved.state_dict().items()}, tmp_path / "model.safetensors")
    torch.manual_seed(1)
    fresh = MODELS[name]().eval()
    assert not torch.equal(fresh(items), saved(items))  # other weights, until they are read
    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(fresh(items), saved(items))
    user, _ = fresh.read(items, fresh.initial_state(3))
    torch.testing.assert_close(user, saved(items)[:, -1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_quickest_step_equals_the_whole_history(model):
    items = torch.randn(2, 9, width(model))
    step, state = step_of(model), model.initial_state(2)
    for l, whole in enumerate(model(items).unbind(1)):  # noqa: E741
        user, state = step(items[:, l], state)
        torch.testing.assert_close(user, whole, rtol=1e-4, atol=1e-5)


def test_a_cosine_around_a_model_steps_as_quickly_as_the_model():
    """The layers are taken out of the model once, so that a step that was made before they are gone needs them no more."""
    model = MODELS["cosine"]().eval()
    assert isinstance(model, Steps)
    step, state = step_of(model), model.initial_state(1)
    with torch.no_grad():
        del model.model.layers[:]
        user, _ = step(torch.randn(1, 16), state)
    assert float(user.norm()) == pytest.approx(10, rel=1e-4)  # over the temperature of 0.1


@given(length=st.integers(1, 12), batch=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", MODELS)
def test_step_by_step_equals_the_whole_history(name, length, batch, seed):
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    items = torch.randn(batch, length, width(model))
    with torch.no_grad():
        whole = model(items)
        state = model.initial_state(batch)
        for l in range(length):  # noqa: E741
            user, state = model.step(items[:, l], state)
            torch.testing.assert_close(user, whole[:, l], rtol=1e-5, atol=1e-5)


@given(parts=st.lists(st.integers(1, 7), min_size=1, max_size=4), batch=st.integers(1, 3), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", MODELS)
def test_reading_a_part_at_a_time_equals_step_by_step(name, parts, batch, seed):
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    items = torch.randn(batch, sum(parts), width(model))
    with torch.no_grad():
        state = model.initial_state(batch)
        for l in range(sum(parts)):  # noqa: E741
            user, state = model.step(items[:, l], state)
        whole = model.initial_state(batch)
        for part in items.split(parts, dim=1):
            read, whole = model.read(part, whole)
        torch.testing.assert_close(read, user, rtol=1e-5, atol=1e-5)
        # And so does what comes after.
        more = torch.randn(batch, width(model))
        torch.testing.assert_close(model.step(more, whole)[0], model.step(more, state)[0], rtol=1e-5, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8), tail=st.integers(0, 5), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", MODELS)
def test_histories_in_one_row_equal_histories_in_rows_of_their_own(name, lengths, tail, seed):
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    histories = [torch.randn(1, n, width(model)) for n in lengths]
    seq_idx = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    row = torch.cat([*histories, torch.full((1, tail, width(model)), 9.0)], 1)
    with torch.no_grad():
        packed = model(row, torch.cat([seq_idx, torch.full((tail,), -1)])[None])
        separate = torch.cat([model(h) for h in histories], 1)
    torch.testing.assert_close(packed[:, : len(seq_idx)], separate, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_the_state_of_mamba_does_not_grow(name):
    model = MODELS[name]().eval()
    state = model.initial_state(1)
    sizes = set()
    for _ in range(30):
        _, state = model.step(torch.randn(1, 16), state)
        sizes.add(sum(s.conv_BKD.numel() + s.ssm_BDN.numel() for s in state))
    assert len(sizes) == 1


@torch.no_grad()
def test_sasrec_reads_the_newest_items_and_refuses_more_than_it_has_positions():
    model = MODELS["sasrec"]().eval()
    items = torch.randn(1, 20, 16)
    state = model.initial_state(1)
    for l in range(20):  # noqa: E741
        user, state = model.step(items[:, l], state)
    torch.testing.assert_close(user, model(items[:, -12:])[:, -1])
    with pytest.raises(ValueError, match="20 items are more than the 12 positions"):
        model(items)
    with pytest.raises(ValueError, match="20 items are more than the 12 positions"):
        model(torch.randn(1, 26, 16), torch.arange(26)[None] // 20)
    with pytest.raises(ValueError, match="must divide"):
        SasRecUserModel(ModelConfig(kind="sasrec", d_model=10, heads=3), 5)

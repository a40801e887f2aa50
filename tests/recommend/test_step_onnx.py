"""The exported step is the step: over long histories of many users it gives what torch gives for the whole at once."""

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnxruntime
from vivim.errors import InputError, MissingExtra, VivimError
from vivim.recommend import build, step_onnx
from vivim.recommend.config import ModelConfig
from vivim.recommend.step_onnx import write_step


def model(kind, **options):
    torch.manual_seed(0)
    return build.user_model(ModelConfig(**{"kind": kind, "d_model": 16, "layers": 1, "d_state": 8, "headdim": 16} | options), 10).eval()


@pytest.mark.parametrize(
    ("kind", "options"), [("mamba", {"similarity": "cosine"}), ("mamba2", {}), ("gru4rec", {"layers": 2}), ("youtube", {})]
)
def test_steps_equal_the_whole_history(tmp_path, kind, options):
    ours = model(kind, **options)
    file = write_step(ours, 16, tmp_path / "m.onnx")
    assert file.largest_difference < 1e-5
    session = onnxruntime.InferenceSession((tmp_path / "m.onnx").read_bytes())
    assert [part.name for part in session.get_inputs()] == list(file.inputs)
    assert [part.name for part in session.get_outputs()] == list(file.outputs)
    history_LBD = np.random.default_rng(0).normal(size=(60, 5, 16)).astype(np.float32)
    state = [
        np.zeros([5 if at == axis else size for at, size in enumerate(shape)], np.float32)
        for shape, axis in zip(file.shapes, file.axes, strict=True)
    ]
    with torch.inference_mode():
        whole_BLD = ours(torch.from_numpy(history_LBD).transpose(0, 1)).numpy()
    for place, items_BD in enumerate(history_LBD):
        user_BD, *state = session.run(None, dict(zip(file.inputs, [items_BD, *state], strict=True)))
        np.testing.assert_allclose(user_BD, whole_BLD[:, place], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["sasrec", "nextitnet"])
def test_a_state_that_grows_is_refused_naming_what_can_be_exported(tmp_path, kind):
    with pytest.raises(InputError, match=r"which grows.* mamba, mamba2, gru4rec, youtube"):
        write_step(model(kind), 16, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_from_torch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(step_onnx, "_TOLERANCE", 0.0)
    with pytest.raises(VivimError, match="differs from torch by"):
        write_step(model("youtube"), 16, tmp_path / "m.onnx")


def test_without_its_packages_the_message_names_the_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"vivim export needs onnxruntime.*pip install 'vivim\[export\]'"):
        write_step(model("youtube"), 16, tmp_path / "m.onnx")

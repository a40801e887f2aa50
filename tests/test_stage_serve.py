"""``vivim serve`` as a process: what it says, whom it serves, how it ends."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file, save_file
from vivim import cli
from vivim.errors import InputError
from vivim.pipeline import Pipeline, load_pipeline
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.export import write_index
from vivim.recommend.recommender import Recommender
from vivim.recommend.retrieval import FaissIndex
from vivim.serve.doors import Tokens
from vivim.serve.event_log import EventLog
from vivim.stage_serve import ServeOptions, _tokens, open_desk, run_serve

TOKEN = "t" * 24


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two trained runs over a ring of 30 items, with titles, two clips that are not films, and one that lies elsewhere."""
    folder = tmp_path_factory.mktemp("serve")
    lines = ["user,item,timestamp"]
    lines += [f"u{u:02d},i{(u + n) % 30:02d},{1_700_000_000_000 + n * 1000}" for u in range(40) for n in range(8)]
    data = folder / "data"
    (data / "videos").mkdir(parents=True)
    (data / "ring_pairs.csv").write_text("\n".join(lines) + "\n")
    (data / "titles.csv").write_text("item,title\n" + "".join(f"i{i:02d},Clip {i}\n" for i in range(30)))
    (data / "videos" / "i00.mp4").write_bytes(b"film")
    (folder / "secret.mp4").write_bytes(b"secret")
    (data / "videos" / "i01.mp4").symlink_to(folder / "secret.mp4")
    with contextlib.chdir(folder):
        for model in ("mamba", "popularity"):
            options = ["--items", "ids", "--model", model, "--epochs", "1", "--out", f"runs/{model}", "--set", "model.d_model=16"]
            assert cli.main(["train-rec", *options]) == 0
    return folder


def command(*args):
    return [sys.executable, "-c", "import sys; from vivim.cli import main; sys.exit(main())", *args]


class Process:
    def __init__(self, folder, *args, env=None):
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
        self.process = subprocess.Popen(
            command("serve", "--port", "0", *args), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = []
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        found = [re.fullmatch(r"serving (http://.*/)", line) for line in self.said]
        self.url = next((match[1] for match in found if match), None)

    def __enter__(self):
        assert self.url, self.said
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def stop(self, number):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def test_a_run_is_served_with_its_titles_and_clips_and_ends_by_a_signal(world):
    with Process(world, "--run", "runs/mamba", "--run", "runs/popularity") as server:
        assert all(len(line) <= 80 for line in server.said if not line.startswith("WARNING")), server.said
        assert "          1 not shown: links that lead out of the folder" in server.said
        assert any("mamba over ids, 30 items" in line for line in server.said)
        runs = httpx.get(server.url + "v1/runs").json()["runs"]
        assert [(run["name"], run["default"]) for run in runs] == [("mamba", True), ("popularity", False)]
        items = httpx.get(server.url + "v1/items?limit=2").json()["items"]
        assert [item["title"] for item in items] == ["Clip 0", "Clip 1"]
        assert httpx.get(server.url + items[0]["media"][1:]).content == b"film"
        assert items[1]["media"] is None  # a link that leads out of the folder
        history = httpx.get(server.url + "v1/users/u03/history").json()["history"]
        assert [entry["item"] for entry in history] == [f"i{i:02d}" for i in range(3, 11)]
        assert history[0]["time"] == "2023-11-14T22:13:20.000Z"
        code, out, err = server.stop(signal.SIGTERM)
    assert code == 130
    assert "stopped after 4 requests" in out
    assert "u03" not in err
    assert "/v1/users/{user}/history 200" in err


def test_what_was_acknowledged_is_there_after_a_kill_and_a_clean_end(world, tmp_path):
    events = tmp_path / "events.sqlite"
    for place, number in enumerate((signal.SIGKILL, signal.SIGINT)):
        with Process(world, "--run", "runs/mamba", "--events", str(events)) as server:
            history = httpx.get(server.url + "v1/users/ada/history").json()["history"]
            assert [entry["item"] for entry in history] == ["i05", "i06"][:place]
            done = httpx.post(server.url + "v1/users/ada/events", json={"item": ["i05", "i06"][place], "event_id": str(place)})
            assert done.status_code == 201
            code, _, _ = server.stop(number)
            assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)


def test_with_a_token_from_a_file_nobody_is_served_without_it_and_the_end_is_told_to_machines(world, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    with Process(world, "--run", "runs/popularity", "--token-file", str(file), "--json") as server:
        assert httpx.get(server.url + "v1/runs").status_code == 401
        assert httpx.get(server.url + "v1/runs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert TOKEN not in "\n".join(server.said)
        code, out, err = server.stop(signal.SIGINT)
    assert code == 130
    assert json.loads(out)["requests"] == 2
    assert TOKEN not in err


def test_tokens_come_from_the_environment_too(monkeypatch):
    monkeypatch.setenv("VIVIM_TOKEN", TOKEN)
    monkeypatch.setenv("VIVIM_OPERATOR_TOKEN", TOKEN.upper())
    assert _tokens(ServeOptions()) == Tokens(TOKEN, TOKEN.upper())


@pytest.fixture
def _in_world(world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.delenv("VIVIM_TOKEN", raising=False)
    monkeypatch.delenv("VIVIM_OPERATOR_TOKEN", raising=False)


@pytest.mark.usefixtures("_in_world")
@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        (["serve.http.host=0.0.0.0"], {}, "opens the server to other machines"),
        (["serve.http.host=203.0.113.77"], {"insecure": True}, "203.0.113.77"),
        (["serve.http.host=no such host"], {"insecure": True}, "Give an address of this machine"),
        ([], {"runs": (Path("runs/none"),)}, "not a run"),
        ([], {"runs": (Path("runs/mamba"), Path("runs/../runs/mamba"))}, "two runs are called 'mamba'"),
        ([], {"token_file": Path("none")}, "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(sets, options, message):
    pipeline = load_pipeline(None, ["serve.http.port=0", *sets])
    with pytest.raises(InputError, match=re.escape(message)):
        run_serve(pipeline, SILENT, ServeOptions(**{"runs": (Path("runs/popularity"),)} | options))


@pytest.mark.usefixtures("_in_world")
def test_a_short_token_and_one_token_for_all_are_refused(tmp_path, monkeypatch):
    short, long = tmp_path / "short", tmp_path / "long"
    short.write_text("secret")
    long.write_text(TOKEN)
    with pytest.raises(InputError, match="6 characters; a token has 16"):
        run_serve(Pipeline(), SILENT, ServeOptions(token_file=short))
    with pytest.raises(InputError, match="make another"):
        run_serve(Pipeline(), SILENT, ServeOptions(token_file=long, operator_token_file=long))


@pytest.mark.usefixtures("_in_world")
def test_a_port_that_is_taken_is_told(capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--run", "runs/popularity", "--port", str(port)]) == 2
    assert "--port 0 takes a free port" in capsys.readouterr().err


def test_missing_packages_are_named_with_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(InputError, match=re.escape("pip install 'vivim[serve]'")):
        run_serve(Pipeline(), SILENT, ServeOptions())


def half_width(run):
    path = run / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(tensors | {"items": tensors["items"][:, :8].clone()}, path)
    edit_info(run, lambda info: info.pop("files_sha256"))


def flip(run):
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


def edit_info(run, change):
    info = json.loads((run / "run.json").read_text())
    change(info)
    (run / "run.json").write_text(json.dumps(info))


@pytest.mark.usefixtures("_in_world")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "not the file that the training left"),
        (half_width, "items is float32 (30, 8), expected float32 (30, 16)"),
        (lambda run: edit_info(run, lambda info: info.update(format=2)), "has the format 2"),
        (lambda run: edit_info(run, lambda info: info["config"]["model"].update(newer=1)), "model.newer = 1"),
        (lambda run: edit_info(run, lambda info: info["config"]["model"].update(kind="dssm")), "users is missing"),
        (lambda run: edit_info(run, lambda info: info.pop("data")), "does not say which interactions"),
    ],
)
def test_a_run_whose_files_do_not_fit_is_refused_at_the_start(tmp_path, capsys, spoil, message):
    shutil.copytree("runs/mamba", tmp_path / "run")
    spoil(tmp_path / "run")
    assert cli.main(["serve", "--run", str(tmp_path / "run"), "--port", "0"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said and "Traceback" not in said


def index_of(run, path):
    recommender = Recommender.open(run)
    vectors = recommender.scorer.items_ND
    write_index(path, FaissIndex("flat", vectors), recommender.items.ids, vectors.numpy(), RunFolder.open(run).model_sha256())
    return path


def test_an_exported_index_is_used_by_the_first_run(world, tmp_path):
    index = index_of(world / "runs/mamba", tmp_path / "index.faiss")
    with Process(world, "--run", "runs/mamba", "--run", "runs/popularity", "--index", str(index)) as server:
        assert f"index     {index}, of mamba" in server.said
        ask = server.url + "v1/users/u03/recommendations?k=5&search="
        found, exact = (httpx.get(ask + search).json()["items"] for search in ("ann", "exact"))
        assert [item["item"] for item in found] == [item["item"] for item in exact]
        assert server.stop(signal.SIGTERM)[0] == 130


@pytest.mark.usefixtures("_in_world")
def test_an_index_of_another_model_is_refused_at_the_start(tmp_path, capsys):
    index = index_of(Path("runs/mamba"), tmp_path / "index.faiss")
    told = json.loads(index.with_suffix(".json").read_text())
    index.with_suffix(".json").write_text(json.dumps(told | {"model_sha256": "0" * 64}))
    for run in ("runs/mamba", "runs/popularity"):
        assert cli.main(["serve", "--run", run, "--port", "0", "--index", str(index)]) == 2
        assert "was made for another model" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("_in_world")
def test_what_is_refused_as_it_is_opened_lets_go_of_the_log(tmp_path):
    (tmp_path / "titles.csv").write_bytes(b"item,title\ni01,\xff\xfe\n")
    options = ServeOptions((Path("runs/popularity"),), tmp_path / "events.sqlite")
    with pytest.raises(InputError, match=r"titles\.csv: line 2 is not UTF-8"):
        open_desk(load_pipeline(None, [f"data.titles={tmp_path / 'titles.csv'}"]), SILENT, options, Tokens())
    EventLog(tmp_path / "events.sqlite").close()


@pytest.mark.usefixtures("_in_world")
def test_a_second_server_on_the_same_events_is_refused(tmp_path):
    options = ServeOptions((Path("runs/popularity"),), tmp_path / "events.sqlite")
    with EventLog(tmp_path / "events.sqlite"), pytest.raises(InputError, match="another server is writing to"):
        run_serve(load_pipeline(None, ["serve.http.port=0"]), SILENT, options)

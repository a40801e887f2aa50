"""The command line: parsing, exit codes, messages."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from vivim import cli, cli_options, command_line, strict_yaml
from vivim.errors import MissingExtra, RecipeMismatch, TooManyFailures
from vivim.terminal import Summary

HEAVY = ("torch", "polars", "h5py", "numpy", "rich", "yaml", "av", "decord", "faiss", "lightning_fabric")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config_of(capsys: pytest.CaptureFixture[str], *args: str) -> dict:  # type: ignore[type-arg]
    """The configuration that a command line means."""
    assert cli.main([*args, "--print-config"]) == 0
    return strict_yaml.parse(capsys.readouterr().out, "stdout")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run_doctor(pipeline: object) -> Summary:
        raise error

    monkeypatch.setattr("vivim.doctor.run_doctor", run_doctor)


def vivim(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from vivim.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **env}
    )


@pytest.mark.parametrize("args", [["--help"], ["extract", "--help"], ["evaluate", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    code = f"import sys; from vivim.cli import main; code = main({args}); print([m for m in {HEAVY} if m in sys.modules]); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_first_help_does_not_even_load_pydantic() -> None:
    code = "import sys; from vivim.cli import main; code = main(['--help']); sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=True)


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    names = (
        "pretrain",
        "scan",
        "extract",
        "extract-text",
        "import-embeddings",
        "merge",
        "verify",
        "convert-weights",
        "train-rec",
        "evaluate",
        "recommend",
        "export",
        "index",
        "check-data",
        "doctor",
    )
    for name in (*names, "demo"):
        assert f"\n  {name} " in out
    assert "130" in out


@pytest.mark.parametrize(
    "args",
    [
        ["--k", "10", "20"],
        ["--k", "10", "--k", "20"],
        ["--k", "10,20"],
        ["--k=10", "20"],
        ["--k", "10", "20", "--split", "test"],
        ["--split", "validation", "--k", "10", "20", "--json"],
    ],
)
def test_several_values_after_one_flag(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", *args, "--print-config"]) == 0
    out = capsys.readouterr().out
    assert strict_yaml.parse(out, "stdout")["evaluate"]["k"] == [10, 20]  # JSON is YAML too


def test_without_k_the_configuration_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert config_of(capsys, "evaluate", "--set", "evaluate.k=[5]")["evaluate"]["k"] == [5]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--k", "10", "20", "-x", "1"], ["--k", "10", "--k", "20", "-x", "1"]),
        (["--k", "-5"], ["--k", "-5"]),
        (["--k"], ["--k"]),
        (["--k="], []),
        (["--set", "a=1", "b=2", "--k", "1"], ["--set", "a=1", "--set", "b=2", "--k", "1"]),
        (["--set", "k=10,20"], ["--set", "k=10,20"]),
        (["--user", "a", "b"], ["--user", "a", "b"]),
    ],
)
def test_spread(args: list[str], expected: list[str]) -> None:
    assert command_line.spread(args, {"--k", "--set"}) == expected


def test_named_options_set_their_keys(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--videos clips --size nano --weights w.safetensors --frames 4 --manifest ids.csv --workers 3 --max-fail-rate 0.5"
    read = config_of(capsys, "extract", *options.split(), "--seed", "9", "--device", "cpu")
    assert (read["seed"], read["device"], read["data"]["videos"]) == (9, "cpu", "clips")
    extract = read["extract"]
    assert extract["encoder"] == {"size": "nano", "weights": "w.safetensors", "pooling": "levels"}
    assert (extract["frames"]["count"], extract["manifest"], extract["workers"], extract["max_fail_rate"]) == (4, "ids.csv", 3, 0.5)

    options = "--interactions x.tsv --items ids+frozen --model sasrec --loss in-batch --epochs 2 --set train.lr=3e-4 train.batch=64"
    read = config_of(capsys, "train-rec", *options.split())
    assert (read["data"]["interactions"], read["items"]["kind"], read["model"]["kind"]) == ("x.tsv", "ids+frozen", "sasrec")
    assert (read["loss"]["kind"], read["train"]["epochs"], read["train"]["lr"], read["train"]["batch"]) == ("in-batch", 2, 3e-4, 64)


def test_named_options_of_pretrain_set_their_keys(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--frames f --masks m --test-frames tf --test-masks tm --size nano --weights w.safetensors --epochs 3 --pixels 64"
    read = config_of(capsys, "pretrain", *options.split(), "--clip-frames", "2", "--loss", "official")
    found = read["pretrain"]
    assert [found[key] for key in ("frames", "masks", "test_frames", "test_masks", "weights")] == ["f", "m", "tf", "tm", "w.safetensors"]
    assert (found["epochs"], found["pixels"], found["clip_frames"], found["loss"]["kind"]) == (3, 64, 2, "official")
    assert (read["extract"]["encoder"]["size"], read["extract"]["encoder"]["weights"]) == ("nano", "random")


def test_every_option_marked_to_set_a_key_names_one_that_exists() -> None:
    from vivim.pipeline import option_names

    marks = [
        mark.key for kind in vars(cli_options).values() for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, cli_options.Sets)
    ]
    for function in (
        cli.pretrain,
        cli.scan,
        cli.extract,
        cli.extract_text,
        cli.import_embeddings,
        cli.train_rec,
        cli.evaluate,
        cli.recommend,
        cli.check_data,
        cli.doctor,
    ):
        for annotation in function.__annotations__.values():
            found = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, cli_options.Sets)]
            marks += [key for mark in found for key in (mark.key, mark.with_clips) if key]
    assert len(marks) > 15
    assert set(marks) <= set(option_names())


def test_the_defaults_that_help_states_are_the_defaults() -> None:
    from vivim.pipeline import Pipeline

    def default(key: str) -> str:
        value: object = Pipeline()
        for part in key.split("."):
            value = getattr(value, part)
        return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    stated = 0
    for annotation in vars(cli_options).values():
        marks = getattr(annotation, "__metadata__", ())
        sets = next((mark for mark in marks if isinstance(mark, cli_options.Sets)), None)
        text = next((mark.help or "" for mark in marks if hasattr(mark, "help")), "")
        found = re.search(r"default: ([^,;.]+(?:\.\d+)?)", text)
        if sets is None or found is None or found[1].startswith("found in"):
            continue
        assert found[1] == default(sets.key), sets.key
        stated += 1
        if with_clips := re.search(r"with --clips (\S+)\.$", text):
            assert sets.with_clips and with_clips[1] == default(sets.with_clips), sets.with_clips
            stated += 1
    assert stated >= 18


def test_print_config_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--print-config", "--json", "--seed", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 3


def test_a_printed_configuration_means_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    first = config_of(capsys, "train-rec", "--epochs", "2", "--set", "train.lr=3e-4")
    Path("saved.yaml").write_text(strict_yaml.dump(first))
    assert config_of(capsys, "train-rec", "--config", "saved.yaml") == first


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train-rec", "--set", "trian.lr=1"], "did you mean 'train.lr'?"),
        (["train-rec", "--model", "manba"], "did you mean 'mamba'?"),
        (["train-rec", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["extract", "--size", "b9"], "'nano', 'b0'"),
        (["evaluate", "--k", "ten"], "--k: evaluate.k = 'ten' is not allowed"),
        (["train-rec", "--epochs", "many"], "--epochs: train.epochs = 'many' is not allowed"),
        (["extract", "--max-fail-rate", "2"], "--max-fail-rate: extract.max_fail_rate = '2' is not allowed: it should be less than"),
        (["recommend", "--k", "0"], "--k"),
        (["evaluate", "--split", "train"], "'train'"),
        (["evaluate", "--kk", "3"], "--kk"),
        (["evalute"], "Did you mean 'evaluate'?"),
        (["extract", "clips"], "clips"),
        (["evaluate", "--k"], "--k"),
        (["recommend", "--k", "1", "2"], "2"),
    ],
)
def test_bad_input_exits_2_and_says_what(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_file_with_duplicate_keys_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pipeline.yaml").write_text("seed: 1\nseed: 2\n")
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith("error: pipeline.yaml line 2, column 1: the key 'seed' occurs twice")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RecipeMismatch("another recipe"), 2, "error: another recipe\n"),
        (MissingExtra("tensorboard", extra="viz", why="tensorboard: true"), 2, "pip install 'vivim[viz]'"),
        (TooManyFailures("3 of 4 clips failed"), 3, "error: 3 of 4 clips failed\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("odd \x1b[31m value"), 1, "internal error, ValueError: odd \\x1b[31m value\nRun again with --debug"),
        (BrokenPipeError(32, "Broken pipe"), 1, "the pipe to another process broke"),
        (EOFError("end"), 1, ""),
    ],
)
def test_errors_have_exit_codes(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, error)
    assert cli.main(["doctor"]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_sigterm_ends_like_ctrl_c() -> None:
    code = """
import os, signal, vivim.doctor
from vivim.cli import main
vivim.doctor.run_doctor = lambda pipeline: os.kill(os.getpid(), signal.SIGTERM)
raise SystemExit(main(["doctor"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("error: interrupted")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(monkeypatch, ValueError("odd"))
    assert cli.main(["doctor", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "run_doctor" in err


def test_a_summary_may_fail_and_is_still_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("vivim.doctor.run_doctor", lambda pipeline: Summary("two of three", {"done": 2}, exit_code=3))
    assert cli.main(["doctor"]) == 3
    assert capsys.readouterr().out == "two of three\n"
    assert cli.main(["doctor", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"done": 2}


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -c 'from vivim.cli import main; raise SystemExit(main())' doctor --print-config | true; echo $PIPESTATUS",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("141", "0")  # 0 if the text fitted into the pipe before its reader left


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_failure(redirection: str) -> None:
    command = f"{sys.executable} -c 'from vivim.cli import main; raise SystemExit(main())' doctor --print-config {redirection}"
    assert subprocess.run(["bash", "-c", command], capture_output=True, timeout=120, check=False).returncode == 0


def test_an_id_that_the_encoding_lacks_is_shown_escaped() -> None:
    done = vivim("train-rec", "--model", "Ω", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "u03a9" in done.stderr or "udcce" in done.stderr

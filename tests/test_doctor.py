"""The doctor's report."""

import builtins
import json
from pathlib import Path

import pytest
from vivim import cli, doctor
from vivim.pipeline import Pipeline


def test_this_machine_can_run_the_tests_so_nothing_fails(tmp_path: Path) -> None:
    checks = {check.name: check for check in doctor.examine(tmp_path / "runs")}
    assert {"python", "torch", "scan", "PyAV", "codecs", "decord", "h5py", "faiss", "cores", "disk"} <= checks.keys()
    assert [check for check in checks.values() if check.status == "FAIL"] == []
    assert all(check.fix for check in checks.values() if check.status != "OK")


def test_a_missing_package_fails_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_h5py(name: str, *args: object, **kwargs: object) -> object:
        if name == "h5py":
            raise ImportError("libhdf5.so.310: cannot open shared object file\nmore lines")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    [check] = doctor._storage()
    assert check == doctor.Check(
        "h5py", "FAIL", "ImportError: libhdf5.so.310: cannot open shared object file", "pip install --force-reinstall h5py"
    )


def test_the_scan_that_is_used_is_named_and_a_missing_library_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from vivim.ssm.native import library

    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(library, "_reason", ["no C++ compiler is installed"])
    [check] = doctor._scan()
    assert check.status == "WARN"
    assert check.found.startswith("torch is used on cpu; ready: reference, torch; native: no C++ compiler is installed")
    assert "g++" in check.fix


def test_an_optional_package_that_is_absent_is_fine_and_a_broken_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vivim_test_broken.py").write_text("import vivim_test_needed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_OPTIONAL", {"vivim_test_absent": ("absent", "viz", "x"), "vivim_test_broken": ("broken", "ray", "y")})
    absent, broken = doctor._optional_packages()
    assert (absent.status, absent.fix) == ("OK", "pip install 'vivim[viz]' if you need it")
    assert broken.status == "WARN"
    assert "vivim_test_needed" in broken.found


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(files: dict[str, str], cores: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert doctor.cgroup_cores(tmp_path) == cores


def test_a_failure_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda runs: iter([doctor.Check("disk", "FAIL", "full", "free some")]))
    summary = doctor.run_doctor(Pipeline())
    assert summary.exit_code == 1
    assert summary.headline == "vivim does not work here: 0 OK, 0 warnings, 1 failures"


def test_the_report_for_machines(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"]["FAIL"] == 0
    assert {"name", "status", "found", "fix"} == set(report["checks"][0])


def test_the_cost_of_an_encoder(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor", "--model", "b3", "--frames", "5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "b3, 5 frames of 224 pixels: 56.35 M parameters, 42.3 G multiply-adds a clip; with decoder and heads 59.50 M, 80.8 G"
    )
    assert "Mamba, scan" in out
    assert cli.main(["doctor", "--model", "b0", "--frames", "5", "--pixels", "128", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert round(told["encoder_macs"] / 1e9, 2) == 1.89
    assert told["batch_bytes"] == told["weights_bytes"] + 8 * told["clip_bytes"]
    assert cli.main(["doctor", "--model", "b9"]) == 2


def test_a_codec_without_a_decoder_is_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {c.name: c for c in doctor._decoders()}["codecs"].found == "H.264, HEVC, AV1, VP9, VP8, MPEG-4, MPEG-2"
    monkeypatch.setattr(doctor, "_CODECS", {"H.264": ("h264",), "Future": ("h999",)})
    check = {c.name: c for c in doctor._decoders()}["codecs"]
    assert (check.status, check.found) == ("WARN", "no decoder for Future")

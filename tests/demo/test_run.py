"""The demo's own small version, whole."""

import json

from vivim import cli


def test_the_quick_demo_runs_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--quick", "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["rows"]) == {"popularity", "item-knn", "ids", "frozen video", "ids + video"}
    assert result["clips"] == 60
    page = (tmp_path / result["page"]).read_text()
    assert "first" in page  # says how its viewer was chosen
    assert "data:image/jpeg;base64," in page
    report = (tmp_path / result["report"]).read_text()
    assert "60 clips have a vector, 0 failed" in report
    assert report.count('alt="frame ') == 12 * 8
    assert "Ocean" in report
    assert "http://" not in page.replace("http://www.w3.org", "")

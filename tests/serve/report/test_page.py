"""The whole file: everything is in it, nothing is fetched, whatever people call their clips."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from vivim.extract.thumbnails import thumbnail_webp
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.serve.report.config import ReportConfig
from vivim.serve.report.facts import measure
from vivim.serve.report.page import page
from vivim.serve.report.pictures import Album, Frames, Pictures
from vivim.serve.report.plane import Plane
from vivim.store import ItemIndex

SECTIONS = ["accuracy", "people", "training", "data", "extraction", "vectors", "map", "neighbours", "origin"]


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.words, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def written(evidence, pictures=None, **more):
    size_mb = more.pop("size_mb", 10)
    facts = measure(evidence, ReportConfig(**({"viewers": 5, "queries": 29, "sheet": 2} | more)), 1, SILENT)
    return page(evidence, facts, Album(pictures or Pictures(lambda id_: None), size_mb))


@pytest.fixture(scope="module")
def whole(looking):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    frames = Frames(np.stack([noise, noise]), np.array([0.0, 1.5]))
    return written(looking, Pictures(lambda id_: None if id_ == "i05" else thumbnail_webp(noise), {"i00": frames}))


def test_every_section_is_there_and_every_link_leads_somewhere(whole):
    elements = Elements(whole)
    ids = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert [id_ for id_ in ids if id_ in SECTIONS] == SECTIONS
    assert len(ids) == len(set(ids))
    links = {attrs["href"] for tag, attrs in elements.found if tag == "a"}
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert all(attrs["aria-labelledby"] in ids for tag, attrs in elements.found if tag in ("section", "article"))


def test_titles_are_text_whatever_they_say(whole):
    elements = Elements(whole)
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs)]
    assert "<img src=x onerror=alert(1)>" in elements.text
    assert "</script><b>bold</b>" in elements.text
    assert "شريط 🎬" in elements.text
    assert "a web page <html>" in elements.text
    assert "onerror=alert(1)>" not in whole.replace("&gt;", "")
    assert len([tag for tag, _ in elements.found if tag == "script"]) == 3


def test_nothing_is_fetched(whole):
    elements = Elements(whole)
    sources = [attrs[name] for _, attrs in elements.found for name in ("src", "href", "xlink:href", "data") if name in attrs]
    assert all(source.startswith(("data:image/webp;base64,", "#")) for source in sources)
    assert not [tag for tag, _ in elements.found if tag in ("link", "iframe", "object", "embed")]
    policy = next(attrs["content"] for tag, attrs in elements.found if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_what_is_not_there_is_said_in_a_line_with_its_command(counted):
    text = Elements(written(counted)).text
    assert "This run looks at no stored vectors (items: ids)." in text
    assert "vivim extract --videos DIR && vivim train-rec --items ids+frozen" in text
    assert "item-knn is counted in one pass, so there are no curves." in text
    assert "item-knn counts, and has no vectors of items." in text
    assert "embed_item" not in text


def test_numbers_stand_in_the_page(whole, looking):
    text = Elements(whole).text
    own = looking.results["splits"]["test"]["metrics"]["hit_rate@1"]
    assert f"{own['value']:.4f} [{own['low']:.4f}, {own['high']:.4f}]" in text
    assert "29 clips have a vector, 1 failed" in text
    assert "Decoding bound the run." in text
    assert re.search(r"Files under several ids: i03 ?, i04", text)
    assert "vivim report --run" in text


def test_a_log_of_an_earlier_version_leaves_two_curves_out_and_says_so(whole, looking, tmp_path):
    def drawings(text):
        return re.findall(r'aria-label="(Training loss|Validation metrics|Learning rate|Gradient norm)', text)

    assert drawings(whole) == ["Training loss", "Validation metrics", "Learning rate", "Gradient norm"]
    assert "that curve is left out" not in whole
    shutil.copytree(looking.run.path, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    news = {"lr", "grad_norm_mean", "grad_norm_max", "grad_overflows"}
    run.write_log([{name: value for name, value in line.items() if name not in news} for line in run.read_log()])
    text = written(replace(looking, run=run))
    assert drawings(text) == ["Training loss", "Validation metrics"]
    assert "log.jsonl holds the learning rate of 0 of 2 epochs, so that curve is left out." in Elements(text).text


def test_a_drawing_of_learned_vectors_without_pictures(looking):
    text = written(replace(looking, store=None))
    assert "the vectors that the model learned" in text
    assert "data:image" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_points_of_a_large_catalogue_are_a_sample(looking):
    facts = measure(looking, ReportConfig(points=10), 1, SILENT)
    assert isinstance(facts.plane, Plane)
    assert len(facts.plane.rows_P) == 10


def test_a_file_of_many_points_and_pictures_stays_within_its_size(looking):
    """The worst there is: 20,000 places, and pictures and frames of noise, which no codec makes small."""
    count, rng = 20_000, np.random.default_rng(0)
    facts = measure(looking, ReportConfig(sheet=12), 1, SILENT)
    places = Plane(np.arange(count), rng.normal(size=(count, 2)).astype(np.float32), "made", count)
    items = ItemIndex([*looking.items.ids, *(f"far {row}" for row in range(30, count))])
    titles = {id_: f"{id_} {'has a long title ' * 4}" for id_ in items.ids}
    many = replace(looking, items=items, counts_N=np.arange(count), titles=titles)
    noise = rng.integers(0, 256, (8, 112, 112, 3), np.uint8)
    frames = {id_: Frames(noise, np.arange(8.0)) for id_ in facts.sheet()}
    picture = thumbnail_webp(noise[0])
    album = Album(Pictures(lambda id_: picture, frames), 10)
    text = page(many, replace(facts, plane=places), album)
    assert 9.95e6 < len(text.encode()) <= 10e6
    assert len(frames) == 12
    assert text.count('alt="frame ') == 12 * 8
    assert "Pictures end where the file has 10 MB (report.size_mb)" in Elements(text).text


def test_frames_without_room_are_not_said_to_be_away(looking):
    frames = {"i00": Frames(np.zeros((2, 8, 8, 3), np.uint8), np.arange(2.0))}
    text = Elements(written(looking, Pictures(lambda id_: None, frames), size_mb=0.1)).text
    assert "The file has no room left for frames." in text
    assert "the rest alone is more than 0.1 MB" in text
    assert "The clips are not here" not in text

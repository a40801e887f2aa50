"""What the clips show, and that half a world is never taken for a whole one."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from vivim.demo import render
from vivim.demo.probe import linear_probe
from vivim.demo.render import is_rendered, render_world
from vivim.demo.scene import SPEED, Scene
from vivim.demo.viewers import build_world
from vivim.demo.world import OPPOSITES, Category, Motion, Palette, Pattern, World, WorldClip, WorldConfig, WorldFiles
from vivim.errors import InputError

TINY = WorldConfig(
    clips=6, viewers=4, palettes=(Palette.OCEAN,), patterns=(Pattern.DIAMONDS,), motions=(Motion.LEFT, Motion.RISE), width=48, height=80,
    history_min=3, history_max=4, seconds=0.5,
)  # fmt: skip


def clip_of(motion: Motion, palette: Palette = Palette.OCEAN, pattern: Pattern = Pattern.DIAMONDS) -> WorldClip:
    return WorldClip("c0000", "a clip", Category(palette, pattern, motion), cold=False, appeal=1.0)


def gray_frames(config: WorldConfig, clip: WorldClip, row: int, seconds: tuple[float, ...]) -> np.ndarray:
    scene = Scene.of(config, clip, row)
    return np.stack([scene.frame(number, moment).mean(axis=2) for number, moment in enumerate(seconds)])


def coarse(frame_HW: np.ndarray) -> np.ndarray:
    """(8, 8) block means of a 64 x 64 frame."""
    return frame_HW.reshape(8, 8, 8, 8).mean(axis=(1, 3))


def displacement(before_HW: np.ndarray, after_HW: np.ndarray, reach: int = 6) -> tuple[int, int]:
    """The (x, y) shift that carries one frame best into the next, by exhaustive search."""
    shifts = [(x, y) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    inner = (slice(reach, -reach), slice(reach, -reach))
    errors = [np.abs(np.roll(before_HW, (y, x), axis=(0, 1))[inner] - after_HW[inner]).mean() for x, y in shifts]
    return shifts[int(np.argmin(errors))]


@pytest.mark.parametrize(
    ("motion", "sign"),
    [(Motion.LEFT, (-1, 0)), (Motion.RIGHT, (1, 0)), (Motion.RISE, (0, -1)), (Motion.FALL, (0, 1)), (Motion.STILL, (0, 0))],
)
def test_things_move_the_way_the_truth_says(motion: Motion, sign: tuple[int, int]) -> None:
    config = WorldConfig(width=96, height=96)
    for row in range(3):
        before, after = gray_frames(config, clip_of(motion), row, (1.0, 1.0 + 4 / (SPEED * 96)))  # time for four pixels
        moved = displacement(before, after)
        assert np.allclose(moved, 4 * np.array(sign), atol=1), (motion, moved)


@pytest.mark.parametrize("pair", OPPOSITES)
def test_one_frame_does_not_tell_opposite_motions_and_two_frames_do(pair: tuple[Motion, Motion]) -> None:
    """A probe on one frame is at chance; products of neighbours in two frames give the direction away."""
    config = WorldConfig(width=64, height=64)
    motions = list(pair) * 60
    frames = np.stack([gray_frames(config, clip_of(motion), row, (0.5, 0.75)) for row, motion in enumerate(motions)])
    frames -= frames.mean(axis=(2, 3), keepdims=True)
    one = frames[:, 0]
    axis = 2 if pair[0] is Motion.LEFT else 1
    within = [(one * np.roll(one, shift, axis=axis)).mean(axis=(1, 2)) for shift in range(1, 9)]
    single_frame = np.column_stack([[coarse(frame).ravel() for frame in one], *within])
    between = [(one * np.roll(frames[:, 1], shift, axis=axis)).mean(axis=(1, 2)) for shift in range(-8, 9)]
    assert 0.35 < np.mean([linear_probe(single_frame, motions, seed) for seed in range(5)]) < 0.65
    assert linear_probe(np.column_stack(between), motions) > 0.95


def test_mean_colour_tells_palettes_and_one_frame_tells_patterns() -> None:
    config = WorldConfig(width=64, height=64)
    looks = [(palette, pattern) for palette in Palette for pattern in Pattern] * 10
    frames = [Scene.of(config, clip_of(Motion.STILL, *look), row).frame(0, 0.0).astype(float) for row, look in enumerate(looks)]
    colours = np.array([[*frame.mean(axis=(0, 1)), *frame.std(axis=(0, 1))] for frame in frames])
    assert linear_probe(colours, [palette for palette, _ in looks]) > 0.95
    assert linear_probe(colours, looks) > 0.9


def test_clips_of_a_category_differ_and_a_clip_is_always_the_same() -> None:
    clip = clip_of(Motion.FALL)
    same = Scene.of(TINY, clip, 0).frame(3, 0.25)
    assert np.array_equal(same, Scene.of(TINY, clip, 0).frame(3, 0.25))
    assert same.shape == (80, 48, 3)
    assert same.dtype == np.uint8
    assert np.abs(same.astype(int) - Scene.of(TINY, clip, 1).frame(3, 0.25)).mean() > 10


def test_files_are_portrait_h264_of_the_promised_length(tmp_path: Path) -> None:
    world = build_world(TINY)
    files = render_world(world, tmp_path)
    assert {path.stem for path in files.videos.iterdir()} == {clip.id for clip in world.clips}
    assert is_rendered(world, files)
    for row, clip in enumerate(world.clips):
        with av.open(str(files.video(clip.id))) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (48, 80, 12)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 6
        drawn = Scene.of(TINY, clip, row).frame(5, 5 / 12).astype(int)
        assert np.abs(frames[5] - drawn).mean() < 12  # what was drawn survives compression


def test_the_same_world_gives_the_same_bytes(tmp_path: Path) -> None:
    world = build_world(TINY)
    one, two = render_world(world, tmp_path / "one"), render_world(world, tmp_path / "two", threads=1)
    for clip in world.clips:
        assert one.video(clip.id).read_bytes() == two.video(clip.id).read_bytes()


def test_a_whole_world_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = build_world(TINY)
    render_world(world, tmp_path)
    again: list[object] = []
    monkeypatch.setattr(render, "render_clip", lambda *given: again.append(given))
    render_world(world, tmp_path)
    assert not again


def test_a_render_stopped_halfway_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, files = build_world(TINY), WorldFiles(tmp_path)
    real, done = render.render_clip, []

    def stops_at_the_third(config: WorldConfig, clip: WorldClip, row: int, path: Path) -> None:
        if row == 3:
            path.with_name(path.name + ".part").write_bytes(b"half a clip")
            raise KeyboardInterrupt
        done.append(row)
        real(config, clip, row, path)

    monkeypatch.setattr(render, "render_clip", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        render_world(world, tmp_path, threads=1)
    assert {0, 1, 2} <= set(done)
    assert not files.marker.exists()
    assert not is_rendered(world, files)
    monkeypatch.setattr(render, "render_clip", real)
    render_world(world, tmp_path)
    assert is_rendered(world, files)
    assert {path.name for path in files.videos.iterdir()} == {f"{clip.id}.mp4" for clip in world.clips}


def test_a_missing_clip_or_a_broken_marker_is_noticed(tmp_path: Path) -> None:
    world = build_world(TINY)
    files = render_world(world, tmp_path)
    files.video("c0002").unlink()
    assert not is_rendered(world, files)
    render_world(world, tmp_path)
    assert is_rendered(world, files)
    files.marker.write_text("[]", encoding="utf-8")
    assert not is_rendered(world, files)
    files.marker.write_text('{"sha256": ', encoding="utf-8")
    assert not is_rendered(world, files)


def test_another_world_replaces_the_old_one(tmp_path: Path) -> None:
    render_world(build_world(TINY), tmp_path)
    smaller = build_world(TINY.model_copy(update={"clips": 5, "history_max": 3}))
    files = render_world(smaller, tmp_path)
    assert len(list(files.videos.iterdir())) == 5
    assert is_rendered(smaller, files)
    assert not is_rendered(build_world(TINY), files)


def test_files_that_are_not_ours_are_never_touched(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"holiday\.mp4.*name another folder"):
        render_world(build_world(TINY), tmp_path)
    assert (videos / "holiday.mp4").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_any_change_of_the_world_changes_its_hash() -> None:
    assert render.world_sha256(TINY) == render.world_sha256(TINY.model_copy())
    assert render.world_sha256(TINY) != render.world_sha256(TINY.model_copy(update={"seed": 1}))


def test_progress_counts_clips(tmp_path: Path) -> None:
    class Counting:
        total = seen = finished = 0

        def start(self, what: str, total: int, unit: str) -> None:
            self.total = total

        def advance(self, count: int = 1, note: str = "") -> None:
            self.seen += count

        def finish(self) -> None:
            self.finished += 1

        def say(self, line: str) -> None:
            assert "6 clips" in line

    progress = Counting()
    world: World = replace(build_world(TINY))
    render_world(world, tmp_path, progress=progress)
    assert (progress.total, progress.seen, progress.finished) == (6, 6, 1)
    render_world(world, tmp_path, progress=progress)
    assert progress.seen == 6

"""Render the clips of a demo world to H.264 files."""

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av

from ..errors import InputError
from ..progress import SILENT, Progress
from .scene import Scene
from .world import World, WorldClip, WorldConfig, WorldFiles, write_tables

RENDER_VERSION = 2  # raise when the same configuration gives other pixels or other tables
_OWN_VIDEO = re.compile(r"c\d{4}\.mp4(\.part)?")


def render_world(world: World, folder: Path, *, threads: int = 2, progress: Progress = SILENT) -> WorldFiles:
    """Write a world's tables and clips under ``folder``.

    A folder that already holds the whole of this world is left alone. Anything else that an earlier run left, another world or half of
    this one, is rendered anew: ``world.json`` is removed first and written last.

    Raises:
        InputError: ``folder/videos`` holds something that is not a clip of a demo world.
    """
    files = WorldFiles(folder)
    if is_rendered(world, files):
        progress.say(f"demo world of {len(world.clips)} clips found in {folder}")
        return files
    _clear(world, files)
    write_tables(world, files)
    progress.start("render", len(world.clips), "clips")
    # Threads, not processes: x264 and the larger part of numpy's work release the GIL, and nothing is left behind by a kill.
    with ThreadPoolExecutor(threads) as pool:
        try:
            jobs = [pool.submit(render_clip, world.config, clip, row, files.video(clip.id)) for row, clip in enumerate(world.clips)]
            for job in jobs:
                job.result()
                progress.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    progress.finish()
    _write_marker(world.config, files)
    return files


def is_rendered(world: World, files: WorldFiles) -> bool:
    """Whether the folder holds the whole of this world, made by this version of the renderer."""
    try:
        marker = json.loads(files.marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(marker, dict) or marker.get("sha256") != world_sha256(world.config):
        return False
    return all(path.is_file() for path in (files.pairs, files.titles, files.truth, *(files.video(clip.id) for clip in world.clips)))


def world_sha256(config: WorldConfig) -> str:
    """Hash of all that decides how a world looks."""
    text = json.dumps({"render_version": RENDER_VERSION, "config": config.model_dump(mode="json")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def render_clip(config: WorldConfig, clip: WorldClip, row: int, path: Path) -> None:
    """Render one clip, number ``row`` of its world, to ``path``; the file appears only when it is whole."""
    scene = Scene.of(config, clip, row)
    part = path.with_name(path.name + ".part")
    # bitexact keeps the muxer's version and the time out of the file.
    with av.open(str(part), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=config.fps, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(config.frames):
            frame = av.VideoFrame.from_ndarray(scene.frame(number, number / config.fps), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, config.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    os.replace(part, path)


def _clear(world: World, files: WorldFiles) -> None:
    """Make room: the marker goes first, then clips of other demo worlds; files that we did not write are refused."""
    files.videos.mkdir(parents=True, exist_ok=True)
    present = sorted(files.videos.iterdir())
    foreign = [path.name for path in present if not _OWN_VIDEO.fullmatch(path.name)]
    if foreign:
        raise InputError(
            f"{files.videos} holds {len(foreign)} files that are not clips of a demo world, for example {foreign[0]!r}. "
            "The demo renders only into a new folder or its own; name another folder."
        )
    files.marker.unlink(missing_ok=True)
    kept = {files.video(clip.id).name for clip in world.clips}
    for path in present:
        if path.name not in kept:
            path.unlink()


def _write_marker(config: WorldConfig, files: WorldFiles) -> None:
    part = files.marker.with_name(files.marker.name + ".part")
    content = {"sha256": world_sha256(config), "render_version": RENDER_VERSION, "config": config.model_dump(mode="json")}
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, files.marker)

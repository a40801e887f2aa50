"""One viewer on one page: what was watched, what each model recommends. A single HTML file that needs nothing else."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import av

from .film_strip import film_strip


@dataclass(frozen=True)
class SheetClip:
    """A clip on the sheet.

    Attributes:
        id: text id.
        title: for people; any text, it is escaped.
        video: its file; a clip that cannot be read is shown without a picture.
        score: of the model that recommends it; None: not shown.
        watched_next: this is what the viewer really watched next.
        cold: nobody had watched it when the models were trained.
    """

    id: str
    title: str
    video: Path
    score: float | None = None
    watched_next: bool = False
    cold: bool = False


def write_contact_sheet(path: Path, viewer: str, history: Sequence[SheetClip], rows: dict[str, list[SheetClip]], note: str = "") -> None:
    """Write the page of ``viewer``.

    Args:
        path: of the HTML file; it appears only when it is whole.
        viewer: external id.
        history: what was watched, oldest first; its last clip may be the one marked ``watched_next``, which the models did not see.
        rows: per model, in the order shown, its recommendations, best first.
        note: why this viewer is shown; any text, it is escaped.
    """
    strips = _Strips()
    sections = [_section("Watched", "oldest first", history, strips, css_class="watched")]
    sections += [_section(name, _verdict(clips), clips, strips, css_class="") for name, clips in rows.items()]
    title = escape(f"Viewer {viewer}")
    page = _PAGE.format(title=title, note=f"<p>{escape(note)}</p>\n" if note else "", style=_STYLE, sections="\n".join(sections))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, path)


class _Strips:
    """Film strips as data URIs; a clip that several models recommend is decoded once."""

    def __init__(self) -> None:
        self._known: dict[Path, str | None] = {}

    def uri(self, video: Path) -> str | None:
        """None: the clip cannot be read."""
        if video not in self._known:
            try:
                self._known[video] = "data:image/jpeg;base64," + base64.b64encode(film_strip(video)).decode("ascii")
            except (OSError, av.FFmpegError, ValueError):
                self._known[video] = None
        return self._known[video]


def _verdict(clips: Sequence[SheetClip]) -> str:
    rank = next((rank for rank, clip in enumerate(clips, start=1) if clip.watched_next), None)
    return f"watched next: rank {rank}" if rank else f"watched next: not among these {len(clips)}"


def _section(name: str, note: str, clips: Sequence[SheetClip], strips: _Strips, *, css_class: str) -> str:
    cards = "\n".join(map(partial(_card, strips=strips), range(1, len(clips) + 1), clips))
    hit = " hit" if css_class != "watched" and any(clip.watched_next for clip in clips) else ""
    return (
        f'<section class="{css_class}{hit}">\n<h2>{escape(name)} <small>{escape(note)}</small></h2>\n'
        f"<ol>\n{cards or '<li class=none>nothing</li>'}\n</ol>\n</section>"
    )


def _card(number: int, clip: SheetClip, *, strips: _Strips) -> str:
    uri = strips.uri(clip.video)
    picture = (
        f'<img src="{uri}" alt="three frames of {escape(clip.title)}" loading="lazy">' if uri else '<div class="blank">cannot be read</div>'
    )
    marks = ('<b class="next">watched next</b>' if clip.watched_next else "") + ('<b class="new">new clip</b>' if clip.cold else "")
    score = f'<span class="score">{clip.score:.3g}</span>' if clip.score is not None else ""
    classes = " ".join(name for name, on in (("is-next", clip.watched_next), ("is-new", clip.cold)) if on)
    return (
        f'<li class="{classes}">{picture}<div class="marks">{marks}</div>'
        f'<p class="title">{escape(clip.title)}</p>'
        f'<p class="facts"><span>{number}</span><span class="id">{escape(clip.id)}</span>{score}</p></li>'
    )


_STYLE = """
:root { color-scheme: light dark; --page: #f5f5f2; --card: #fff; --ink: #1c1d1f; --soft: #6a6d73; --line: #dcdcd6;
  --next: #0b7a4b; --new: #a34a00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #141517; --card: #1f2124; --ink: #ecedee; --soft: #9a9ea6; --line: #33363b; --next: #46c98d; --new: #f2a04d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 20px clamp(12px, 3vw, 36px) 48px; background: var(--page); color: var(--ink);
  font: 14px/1.4 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; }
header p { margin: 0; color: var(--soft); max-width: 72ch; }
section { margin-top: 24px; padding-top: 14px; border-top: 1px solid var(--line); }
h2 { font-size: 16px; margin: 0 0 10px; display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; overflow-wrap: anywhere; }
h2 small { font-weight: 400; font-size: 13px; color: var(--soft); }
.hit h2 small { color: var(--next); font-weight: 600; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 10px; grid-template-columns: repeat(5, minmax(0, 1fr)); }
li { position: relative; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden;
  display: flex; flex-direction: column; }
li.none { padding: 10px; color: var(--soft); }
li.is-next { border-color: var(--next); box-shadow: 0 0 0 1px var(--next); }
img, .blank { display: block; width: 100%; aspect-ratio: 220 / 128; object-fit: cover; }
.blank { display: grid; place-items: center; background: var(--line); color: var(--soft); font-size: 12px; }
.marks { position: absolute; top: 6px; left: 6px; display: flex; flex-wrap: wrap; gap: 4px; }
.marks b { font-size: 11px; line-height: 1; padding: 4px 6px; border-radius: 4px; background: var(--card); }
.next { color: var(--next); }
.new { color: var(--new); }
.title { margin: 7px 9px 0; line-height: 1.3; overflow-wrap: anywhere; }
.facts { margin: auto 9px 8px; padding-top: 3px; display: flex; gap: 8px; color: var(--soft); font-size: 12px;
  font-variant-numeric: tabular-nums; }
.facts .id { overflow: hidden; text-overflow: ellipsis; }
.facts .score { margin-left: auto; }
@media (max-width: 820px) { ol { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
@media (max-width: 560px) { ol { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>Each picture is three moments of one clip, from left to right. Below the history: what each model puts first. A green frame marks
the clip that was really watched next; &ldquo;new clip&rdquo; means that nobody had watched it when the models were trained.</p>
{note}</header>
{sections}
</body>
</html>
"""

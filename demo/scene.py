"""The pixels of a demo clip: a regular pattern that moves as one over a still background.

Shapes: H height, W width, 3 colour channels (RGB). Lengths are pixels, y points down.

The pattern is a square lattice that looks the same along both axes, starts at a random phase, and has no edge. A single frame therefore
says nothing about the motion: left, right, rise, fall and still are alike in it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .world import Motion, Palette, Pattern, WorldClip, WorldConfig

CELL = 0.3  # side of a lattice cell, widths
SPEED = 0.25  # widths per second
TINT = 5.0  # standard deviation of a clip's shift in colour, of 255
JITTER = 0.05  # cells and speeds of a category's clips differ by up to this share
DULLEST = 0.9  # brightness of the dullest lattice cell; the brightest has 1
NOISE = 2.5  # standard deviation of the camera noise, of 255
SHAKE = 0.002  # standard deviation of the camera shake, widths
_CELLS = 32  # the lattice's brightness repeats after so many cells

_COLOURS = {  # background (darker and lighter end of a gradient), pattern
    Palette.EMBER: ((52, 16, 24), (66, 20, 26), (255, 158, 62)),
    Palette.OCEAN: ((10, 30, 66), (14, 40, 80), (118, 214, 255)),
    Palette.MEADOW: ((16, 48, 26), (22, 60, 32), (226, 236, 96)),
}
_HEADINGS = {
    Motion.LEFT: (-1.0, 0.0),
    Motion.RIGHT: (1.0, 0.0),
    Motion.RISE: (0.0, -1.0),
    Motion.FALL: (0.0, 1.0),
    Motion.STILL: (0.0, 0.0),
}

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """Everything about one clip but the time.

    Attributes:
        pattern: what is drawn.
        cell: side of a lattice cell.
        phase: x, y of the lattice at time 0.
        velocity: x, y, pixels per second.
        ink: RGB 0..255 of the pattern.
        brightness: of each lattice cell, around 1; lets the eye follow a cell.
        background_HW3: RGB 0..255.
        noise_HW3: camera noise, shifted at random for every frame.
        frame_seed: of what changes from frame to frame.
    """

    pattern: Pattern
    cell: float
    phase: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]
    ink: Pixels
    brightness: Pixels
    background_HW3: Pixels
    noise_HW3: Pixels
    frame_seed: tuple[int, ...]

    @staticmethod
    def of(config: WorldConfig, clip: WorldClip, row: int) -> "Scene":
        """The scene of clip number ``row``: phase, cell size, tint and speed vary within a category."""
        rng = np.random.default_rng([config.seed, 3, row])
        width, height = config.width, config.height
        tint = rng.normal(0, TINT, 3)
        dark, light, ink = (np.asarray(colour) + tint for colour in _COLOURS[clip.category.palette])
        cell = CELL * width * rng.uniform(1 - JITTER, 1 + JITTER)
        return Scene(
            pattern=clip.category.pattern,
            cell=float(cell),
            phase=rng.uniform(0, _CELLS * cell, 2),
            velocity=np.array(_HEADINGS[clip.category.motion]) * SPEED * width * rng.uniform(1 - JITTER, 1 + JITTER),
            ink=ink.astype(np.float32),
            brightness=rng.uniform(DULLEST, 1, (_CELLS, _CELLS)).astype(np.float32),
            background_HW3=_gradient(height, width, dark, light, rng),
            noise_HW3=rng.normal(0, NOISE, (height, width, 3)).astype(np.float32),
            frame_seed=(config.seed, 4, row),
        )

    def frame(self, number: int, seconds: float) -> npt.NDArray[np.uint8]:
        """Frame ``number`` at time ``seconds``, (H, W, 3) uint8 RGB."""
        rng, x, y = self._lattice(number, seconds)
        cover_HW = self._cover(x, y)
        bright_HW = self.brightness[np.ix_(np.rint(y).astype(int) % _CELLS, np.rint(x).astype(int) % _CELLS)]
        image = self.background_HW3 + cover_HW[:, :, None] * (bright_HW[:, :, None] * self.ink - self.background_HW3)
        height, width, _ = image.shape
        shift = (int(rng.integers(height)), int(rng.integers(width)))
        image += np.roll(self.noise_HW3, shift, axis=(0, 1))
        return image.clip(0, 255).astype(np.uint8)

    def mask(self, number: int, seconds: float) -> npt.NDArray[np.bool_]:
        """Where the pattern is in that frame, (H, W): the true mask."""
        _, x, y = self._lattice(number, seconds)
        return self._cover(x, y) > 0.5

    def _lattice(self, number: int, seconds: float) -> tuple[np.random.Generator, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Columns and rows of the picture in cells; whole numbers are cell centres. The generator goes on with what else is random."""
        rng = np.random.default_rng([*self.frame_seed, number])
        height, width, _ = self.background_HW3.shape
        x0, y0 = self.phase + self.velocity * seconds + rng.normal(0, SHAKE * width, 2)
        return rng, (np.arange(width) - x0) / self.cell, (np.arange(height) - y0) / self.cell

    def _cover(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Pixels:
        return _cover(self.pattern, np.cos(2 * np.pi * x), np.cos(2 * np.pi * y))


def _cover(pattern: Pattern, wave_x: npt.NDArray[np.float64], wave_y: npt.NDArray[np.float64]) -> Pixels:
    """How much of each pixel the pattern covers, 0..1, softly; the waves are 1 at cell centres and -1 between them."""
    x, y = wave_x[None, :].astype(np.float32), wave_y[:, None].astype(np.float32)
    match pattern:
        case Pattern.DIAMONDS:
            inside = x + y - 0.2
        case Pattern.NET:
            inside = 2 * (np.maximum(x, y) - 0.9)
    return 1 / (1 + np.exp(-5 * inside))


def _gradient(height: int, width: int, dark: npt.NDArray[np.float64], light: npt.NDArray[np.float64], rng: np.random.Generator) -> Pixels:
    """A still gradient from one colour to another in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-0.5 : 0.5 : complex(0, height), -0.5 : 0.5 : complex(0, width)]
    share = (0.5 + (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2))[:, :, None]
    return (dark + share * (light - dark)).astype(np.float32)

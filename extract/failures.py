"""Why a clip has no vector: the classes of failures, and the exception that carries one out of the reader."""

KINDS: dict[str, str] = {
    "missing": "the file is not there, or may not be read",
    "empty": "the file has no bytes",
    "not_video": "the bytes are something else than a video: a web page, a picture, a playlist, text, noise",
    "no_video_stream": "a media file without moving pictures: sound only, or nothing but cover art",
    "unsupported_codec": "no decoder here reads this codec, or the stream is encrypted",
    "truncated": "the file ends before what its index or header promises: cut off or still being written",
    "decode_error": "the header is damaged, or a wanted frame lies in a damaged part of the stream",
    "too_short": "the video stream holds no frame at all",
    "too_large": "the frame is larger, or there are more streams, than is allowed",
    "too_long": "the clip lasts longer, or has more frames, than is allowed",
    "timeout": "reading took longer than the deadline, and the reading process was killed",
    "oom": "reading needed more memory than a reading process may have",
    "crash": "the decoder brought down the reading process, or raised something unforeseen",
    "nan_output": "the encoder gave a vector with NaN, infinity, only zeros, or too large for the stored type",
    "changed": "the file was replaced or written to while it was read",
    "duplicate_id": "the manifest gives this id to more than one file; none of them is read",
}
"""Kind -> its meaning in one line."""


class ClipError(Exception):
    """A clip cannot be read; becomes a ``Failure``. Never leaves a decoding process.

    Args:
        kind: one of ``KINDS``.
        message: one line for people.
    """

    def __init__(self, kind: str, message: str) -> None:
        assert kind in KINDS, kind
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

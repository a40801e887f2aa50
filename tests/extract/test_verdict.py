"""The verdict on made-up runs whose limit is known."""

import json
from dataclasses import replace

import pytest
from vivim.extract.verdict import StageTimes, verdict

# 1,000 s with 14 decoding processes that are busy 99 % of the time; the encoder waits for them 870 s.
STARVED = StageTimes(
    seconds=1000,
    clips=5000,
    wait_seconds=870,
    encode_seconds=110,
    write_seconds=10,
    decoders=14,
    decode_busy_seconds=0.99 * 14_000,
    blocked_seconds=0,
    cores=14,
    device="cuda",
)
# The encoder computes 950 of 1,000 s; 4 processes read for 1,000 s together and wait 2,800 s to hand over.
SLOW_ENCODER = replace(STARVED, wait_seconds=20, encode_seconds=950, decoders=4, decode_busy_seconds=1000, blocked_seconds=2800)
ON_CPU = replace(STARVED, device="cpu", decoders=2, cores=2, decode_busy_seconds=1900)


def test_decoding_binds_a_gpu():
    found = verdict(STARVED)
    assert found.bound == "decode"
    assert found.at_most == pytest.approx(1000 / 130)
    assert found.words == (
        "Decoding bound the run: the encoder waited 87% of the time while 14 decoding processes were 99% busy. "
        "More cores would help, up to 7.7 times (with 107 the encoder would hardly wait)."
    )


def test_keyframes_are_named_where_they_can_be_chosen_and_are_not():
    assert verdict(replace(STARVED, seek="exact")).words.endswith("--seek keyframe decodes one frame per wanted frame.")
    assert "keyframe" not in verdict(replace(STARVED, seek="keyframe")).words


def test_idle_cores_come_before_more_cores():
    words = verdict(replace(STARVED, decoders=4, decode_busy_seconds=3990, cores=16)).words
    assert "16 cores were there: more of them would help (--workers 16), up to 7.7 times." in words


def test_decoding_binds_where_both_share_the_cores():
    words = verdict(ON_CPU).words
    assert words == (
        "Decoding bound the run: the encoder waited 87% of the time while 2 decoding processes were 95% busy. "
        "Both share 2 cores. More cores would help both; a GPU, which leaves the cores to decoding, up to 1.1 times."
    )


def test_encoding_binds_until_decoding_does():
    found = verdict(SLOW_ENCODER)
    assert found.bound == "encode"
    assert found.at_most == pytest.approx(4.0)  # four processes need 250 s for their 1,000
    assert found.words == (
        "Encoding bound the run: the encoder computed 95% of the time, and decoding processes waited 70% of theirs to hand over frames. "
        "A faster GPU or a smaller encoder would help, up to 4.0 times; then decoding binds. So may extract.precision=bf16-mixed."
    )
    assert verdict(replace(SLOW_ENCODER, decode_busy_seconds=100)).at_most == pytest.approx(20.0)  # 50 s are no encoding


def test_encoding_on_a_cpu_wants_a_gpu():
    words = verdict(replace(SLOW_ENCODER, device="cpu", cores=4, precision="bf16-mixed")).words
    assert words.endswith("Both share 4 cores. A GPU or a smaller encoder would help, up to about 4.0 times.")


def test_a_balanced_run_gains_little_from_either():
    found = verdict(replace(STARVED, wait_seconds=450, encode_seconds=520, decode_busy_seconds=0.8 * 14_000))
    assert (found.bound, found.at_most) == ("balanced", pytest.approx(1000 / 480))
    assert found.words == (
        "Decoding and encoding were balanced: the encoder computed 52% of the time and waited 45% while 14 decoding processes were 80% "
        "busy. Speeding up one of them alone helps up to 2.1 times."
    )
    assert "Both share 2 cores." in verdict(replace(ON_CPU, wait_seconds=500, encode_seconds=450)).words


def test_a_slow_disk_is_named():
    found = verdict(replace(STARVED, wait_seconds=100, encode_seconds=200, write_seconds=600))
    assert (found.bound, found.at_most) == ("write", pytest.approx(2.5))
    assert "60% of the time went into storing vectors. A faster disk for --out would help, up to 2.5 times." in found.words


def test_waiting_for_idle_processes_is_not_called_decoding():
    found = verdict(replace(STARVED, decoders=1, decode_busy_seconds=300))
    assert (found.bound, found.at_most) == ("other", None)
    assert "waited 87% of the time, and yet 1 decoding process was only 30% busy" in found.words


def test_time_that_no_stage_took_is_told():
    found = verdict(replace(STARVED, wait_seconds=100, encode_seconds=100, write_seconds=0))
    assert (found.bound, found.words) == (
        "other",
        "Neither decoding, encoding nor writing took most of the time: 80% of it went elsewhere.",
    )


@pytest.mark.parametrize("changes", [{"seconds": 9.9, "wait_seconds": 9.0}, {"clips": 55}, {"clips": 0, "seconds": 0.0}])
def test_a_short_run_tells_nothing(changes):
    found = verdict(replace(STARVED, **changes))
    assert (found.bound, found.at_most) == ("unknown", None)
    assert found.words.startswith("Too short a run to tell")


def test_the_numbers_are_json():
    told = json.loads(json.dumps(verdict(STARVED).as_dict(), allow_nan=False))
    assert (told["bound"], told["at_most"], told["decode_share"], told["encode_share"]) == ("decode", 7.69, 0.87, 0.11)
    assert (told["write_share"], told["other_share"], told["decode_busy_share"]) == (0.01, 0.01, 0.99)
    assert (told["seconds"], told["decoders"], told["device"]) == (1000, 14, "cuda")


def test_only_decoding_and_encoding_balance_each_other():
    found = verdict(replace(SLOW_ENCODER, wait_seconds=50, encode_seconds=450, write_seconds=440))
    assert (found.bound, found.at_most) == ("encode", pytest.approx(1000 / 550))

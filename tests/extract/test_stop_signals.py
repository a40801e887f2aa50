import os
import signal
import threading

import pytest
from vivim.extract.stop_signals import shielded, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_become_one_exception(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_shield_lets_nothing_through():
    with stop_on_signals():
        with shielded():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


def test_other_threads_leave_signals_alone():
    seen = []

    def work():
        with stop_on_signals(), shielded():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]

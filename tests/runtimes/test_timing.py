"""Turns, medians and quartiles, by a clock that calls advance themselves."""

import pytest
import torch

from chita.runtimes import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what calls add."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_each_call_has_its_turn_and_its_own_time(clock):
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            clock[0] += seconds

        return run

    found = timing.side_by_side({"slow": call("slow", 0.3), "fast": call("fast", 0.1)}, 4.0)
    assert found["slow"].median == pytest.approx(0.3)
    assert found["fast"].median == pytest.approx(0.1)
    assert found["slow"].count == found["fast"].count == 11
    warm = 2 * timing._WARM_UP
    assert order[warm : warm + 8] == ["slow", "fast", "fast", "slow"] * 2


def test_quartiles_are_of_the_measurements(clock):
    times = iter([1.0] * timing._WARM_UP + [float(i) for i in range(1, 10)])

    def run():
        clock[0] += next(times)

    found = timing.side_by_side({"a": run}, 0.0)["a"]
    assert (found.low, found.median, found.high, found.count) == (3, 5, 7, 9)


def test_short_calls_are_measured_many_at_a_time(clock):
    calls = [0]

    def run():
        calls[0] += 1
        clock[0] += 1e-5

    found = timing.side_by_side({"a": run}, 0.0)["a"]
    assert found.median == pytest.approx(1e-5)
    assert calls[0] == timing._WARM_UP + 20 * timing._FEWEST


def test_threads_are_given_back():
    torch.set_num_threads(2)
    try:
        with timing.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)

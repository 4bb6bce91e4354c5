"""How much of a long prompt a step takes: so much that the step has its length, whatever came before."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.chunks import LEAST, WORTH, StepTimes

STEP = 0.1


class Machine:
    """Steps that take what the cost model says, give or take a tenth."""

    def __init__(self, each, token, pair, seed=0):
        self.cost = each, token, pair
        self.times = StepTimes()
        self.pick = random.Random(seed)

    def step(self, num_tokens, attended):
        each, token, pair = self.cost
        seconds = each + token * num_tokens + pair * num_tokens * (attended + num_tokens)
        self.times.add(num_tokens, attended + num_tokens, seconds * self.pick.uniform(0.9, 1.1))
        return seconds

    def probe(self):
        for size in (16, 64, 256, 512):
            self.step(size, 0)

    def read(self, num_tokens, *, between=lambda: 0, decoding=0):
        """Seconds of the steps of one long prompt; `between` them others run."""
        done, seconds = 0, []
        while done < num_tokens:
            between()
            chunk = self.times.chunk(STEP, others=decoding, attended=done + 100 * decoding)
            chunk = int(min(chunk, num_tokens - done, 512))
            seconds.append((chunk, self.step(chunk + decoding, done + 100 * decoding)))
            done += chunk
        return seconds


costs = st.tuples(st.floats(1e-4, 0.03), st.floats(1e-6, 2e-3), st.sampled_from([0.0, 1e-9, 1e-7, 1e-6]))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cost=costs, decoding=st.integers(0, 6), seed=st.integers(0, 99))
def test_no_chunk_is_much_longer_than_a_step_nor_much_shorter_than_it_could_be(cost, decoding, seed):
    machine = Machine(*cost, seed=seed)
    machine.probe()

    def others():
        """A short prompt is read and answered: fast steps that attend to little."""
        if machine.pick.random() < 0.5:
            machine.step(30, 0)
            machine.step(1, 30)

    steps = machine.read(20_000, between=others, decoding=decoding)
    for chunk, seconds in steps[3:-1]:
        assert seconds < 1.35 * STEP or chunk == LEAST
        assert seconds > 0.6 * STEP or chunk >= 400


def test_the_speed_of_a_short_prompt_does_not_lengthen_the_chunk_of_a_long_one():
    """What once doubled it: 20,000 tokens behind a chunk make it ten times slower a token than 30 alone."""
    machine = Machine(0.005, 1e-4, 1e-7)
    machine.probe()
    machine.read(19_000)
    before = machine.times.chunk(STEP, others=0, attended=19_000)
    for _ in range(5):
        machine.step(30, 0)
    assert machine.times.chunk(STEP, others=0, attended=19_000) < 1.2 * before
    assert machine.times.chunk(STEP, others=0, attended=0) > 2 * before


def test_a_prompt_whose_beginning_is_cached_starts_with_short_chunks():
    machine = Machine(0.005, 1e-4, 1e-7)
    machine.probe()
    machine.read(20_000)
    cold, warm = (machine.times.chunk(STEP, others=0, attended=n) for n in (0, 19_500))
    assert warm < cold / 3


@pytest.mark.parametrize("others", [0, 8])
def test_one_stray_step_changes_little(others):
    machine = Machine(0.005, 1e-4, 1e-7)
    machine.probe()
    machine.read(5000)
    before = machine.times.chunk(STEP, others=others, attended=5000)
    machine.times.add(200, 5200, 10.0)
    assert machine.times.chunk(STEP, others=others, attended=5000) == pytest.approx(before, rel=0.3)


def test_a_machine_that_becomes_slower_is_noticed():
    machine = Machine(0.005, 1e-4, 1e-7)
    machine.probe()
    machine.read(5000)
    machine.cost = tuple(4 * cost for cost in machine.cost)
    steps = machine.read(5000)
    assert all(seconds < 1.35 * STEP for chunk, seconds in steps[8:] if chunk > LEAST)


def test_a_step_is_never_mostly_overhead():
    """What once took 13.5 s for 1,524 tokens: 16 at a time, in steps that cost 0.09 s each."""
    machine = Machine(0.09, 1e-3, 0.0)
    machine.probe()
    for chunk, seconds in machine.read(1524)[2:-1]:
        assert seconds == pytest.approx(WORTH * 0.09, rel=0.35)
        assert chunk > 100


def test_nothing_measured_is_no_limit_and_where_nothing_fits_it_is_the_least():
    times = StepTimes()
    assert times.chunk(STEP, others=0, attended=0) == math.inf
    machine = Machine(0.0, 0.1, 0.0)
    machine.probe()
    assert machine.times.chunk(STEP, others=0, attended=0) == LEAST

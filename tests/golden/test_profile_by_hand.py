"""What each phase of a step takes, by a clock that is read out by hand, and the table over it."""

import torch

from mmtrain.engine.profiling import profile
from mmtrain.engine.profiling.costs import PHASES, Costs
from mmtrain.engine.profiling.profile import Profile, profile_table, summarize


class Clock:
    """Seconds that pass only where a test lets them."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time

    def wait(self, seconds):
        self.time += seconds


def step(costs, clock):
    """data 1, optimizer 2 + 4 around backward 8 around forward 16 (twice 8), loop 32: 63 seconds."""
    with costs.span("data"):
        clock.wait(1)
    with costs.span("optimizer"):
        clock.wait(2)
        with costs.span("backward"):
            for _ in range(2):
                with costs.span("forward"):
                    clock.wait(8)
            clock.wait(8)
        clock.wait(4)
    clock.wait(32)


def test_a_phase_is_its_span_less_the_spans_in_it_and_the_loop_is_the_rest():
    clock = Clock()
    costs = Costs(clock)
    step(costs, clock)  # before anything is measured
    clock.wait(1000)
    costs.begin_steps()
    for _ in range(3):
        step(costs, clock)
        costs.finish_step()
    costs.end_steps()
    step(costs, clock)  # and behind
    found = costs.found()
    assert {phase: cost.seconds_per_step for phase, cost in found.items()} == {
        "data": 1,
        "forward": 16,
        "backward": 8,
        "optimizer": 6,
        "loop": 32,
    }
    assert list(found) == [phase for phase in PHASES if phase in found]
    assert {(cost.times, cost.steps) for cost in found.values()} == {(3, 3)}


def test_what_comes_once_in_many_steps_is_measured_always_and_is_no_part_of_the_loop():
    clock = Clock()
    costs = Costs(clock)
    with costs.span("report", covers=10):  # before the steps that are measured
        clock.wait(5)
    clock.wait(1000)
    costs.begin_steps()
    clock.wait(1)
    with costs.span("report", covers=10):
        clock.wait(15)
    costs.finish_step()
    costs.end_steps()
    with costs.span("evaluation", covers=40):
        clock.wait(60)
        with costs.span("checkpoint", covers=20):
            clock.wait(10)
        clock.wait(20)
    found = costs.found()
    assert {phase: cost.seconds_per_step for phase, cost in found.items()} == {
        "loop": 1,
        "report": 1,  # 20 seconds in 20 steps
        "evaluation": 2,
        "checkpoint": 0.5,
    }
    assert (found["report"].times, found["report"].steps) == (2, 20)


def test_an_error_inside_a_span_leaves_none_open():
    clock = Clock()
    costs = Costs(clock)
    costs.begin_steps()
    try:
        with costs.span("optimizer"):
            clock.wait(2)
            raise ValueError
    except ValueError:
        clock.wait(1)
    costs.finish_step()
    assert {phase: cost.seconds for phase, cost in costs.found().items()} == {"optimizer": 2, "loop": 1}


def test_the_table_is_in_milliseconds_a_step_with_shares_of_their_sum():
    clock = Clock()
    costs = Costs(clock)
    costs.begin_steps()
    for _ in range(2):
        with costs.span("forward"):
            clock.wait(0.006)
        costs.finish_step()
    costs.end_steps()
    with costs.span("evaluation", covers=1000):
        clock.wait(2)
    summary = summarize(costs.found())
    assert summary["ms_per_step"] == 8
    assert summary["phases"]["forward"] == {"ms_per_step": 6, "share": 0.75, "times": 2, "steps": 2}
    assert summary["phases"]["evaluation"] == {"ms_per_step": 2, "share": 0.25, "times": 1, "steps": 1000}
    text = profile_table(summary | {"device": "cpu", "warm_up_steps": 5, "measured_steps": 2, "peak_memory_mib": 1234.5})
    lines = text.splitlines()
    assert lines[0] == "Where a step's time goes on cpu: 2 steps behind 5 of warm-up; peak memory 1,234 MiB"
    cells = {row[0]: row[1:4] for line in lines[2:] if (row := [cell.strip() for cell in line.strip("|").split("|")])}
    assert cells["forward"] == ["6.00", "75.0%", "2 steps"]
    assert cells["evaluation"] == ["2.00", "25.0%", "1 in 1000 steps"]
    assert cells["checkpoint"] == ["-", "-", "not yet"]
    assert cells["sum"] == ["8.00", "100.0%", ""]
    assert len({len(line) for line in lines[2:]}) == 1


def test_warm_up_and_trace_are_not_measured(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(profile.time, "perf_counter", clock)
    said = []
    own = Profile(tmp_path / "profile", steps=4, device=torch.device("cpu"), say=said.append)
    for number in range(1, 20):
        for _ in own.waits("data", iter([number])):
            clock.wait(1 if 5 < number <= 9 else 500)
        own.finish_step()
        assert len(said) == (number >= 13)  # 5 of warm-up, 4 measured, 1 and 3 for the trace
    assert own._costs.found()["loop"].seconds_per_step == 1
    assert own._costs.found()["loop"].steps == 4
    own.close()
    assert len(said) == 1

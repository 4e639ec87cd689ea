"""Every schedule with every sampler: the guarantees, active tasks, and a resume at any step (G1-G7)."""

import json
from itertools import product

import pytest
from curriculum_rows import SAMPLER_ROWS, SCHEDULE_ROWS, TASKS
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from test_sampler_contract import build, check_run, evaluation, train

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.schedules import SCHEDULES, ScheduleConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec

BY_STREAM = (TASKS, TASKS[:1], TASKS[1:])  # streams of both tasks, of the first, of the second
PAIRS = list(product(SAMPLER_ROWS, SCHEDULE_ROWS))
COVERING = [(sampler, SCHEDULE_ROWS[k % len(SCHEDULE_ROWS)]) for k, sampler in enumerate(SAMPLER_ROWS)]
MODES = ("repeat", "drop", "stop")
rows = pytest.mark.parametrize("schedule", SCHEDULE_ROWS, ids=lambda row: row.name)


def run_of(pair, **options):
    sampler, schedule = pair
    return build(sampler, tasks=BY_STREAM, schedule=schedule(()), **options)


def test_the_table_is_the_union():
    adapter = TypeAdapter(ScheduleConfig)
    configs = [row(()) for row in SCHEDULE_ROWS]
    assert [adapter.validate_python(config.model_dump()) for config in configs] == configs
    assert {type(config) for config in configs} == set(SCHEDULES)
    with pytest.raises(ValidationError, match="stop_and_go"):
        adapter.validate_python({"name": "stop_go"})


def check_resume(pair, exhausted, *, steps=slice(None)):
    """`steps`: which of the 42 checkpoints are gone on from, each to the end."""
    sizes = (5, 7, 60, 4099, 10**9) if exhausted == "repeat" else (160, 90, 120, 250)
    options = {"exhausted": exhausted, "sizes": sizes}
    trained, checkpoints, records = train(run_of(pair, **options), 43)
    assert len(trained) > 10
    for finished, state in checkpoints[steps]:
        rest, _, later = train(run_of(pair, **options), 43, state=state, finished=finished)
        assert rest == trained[finished:], f"resumed after {finished} steps"
        assert later == records[len(records) - len(later) :]


@pytest.mark.parametrize("pair", COVERING, ids=lambda pair: "-".join(row.name for row in pair))
def test_a_run_resumed_at_any_step_goes_on_as_it_would_have(pair):
    check_resume(pair, "repeat")


@pytest.mark.slow
@pytest.mark.parametrize("exhausted", MODES)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(row.name for row in pair))
def test_a_run_of_every_pair_resumed_at_any_step_goes_on_as_it_would_have(pair, exhausted):
    """The three modes take turns with the steps: windows are of 5, so each mode meets every place in one."""
    check_resume(pair, exhausted, steps=slice(MODES.index(exhausted), None, 3))


def check_guarantees(pair, sizes, batch, seed, exhausted):
    curriculum = run_of(pair, sizes=sizes, batch=batch, seed=seed, exhausted=exhausted)
    trained, _, records = train(curriculum, 43)
    check_run(trained, records, sizes=sizes, batch=batch, exhausted=exhausted)
    for _, stream, _, active in trained:
        assert active
        assert set(active) <= set(TASKS)
        assert all(not set(active).isdisjoint(BY_STREAM[k % 3]) for k in set(stream)), "a stream without an active task"
    for record in records:
        steps = range(record["step"] - record["steps"], record["step"])
        now = [active for step, _, _, active in trained if step in steps]
        assert record["active"] == {task: n for task in TASKS if (n := sum(task in active for active in now))}


worlds = {
    "sizes": st.lists(st.one_of(st.integers(1, 30), st.integers(31, 10**10)), min_size=1, max_size=6),
    "batch": st.integers(1, 33),
    "seed": st.integers(0, 2**62),
    "exhausted": st.sampled_from(["repeat", "drop", "stop"]),
}


@rows
@settings(max_examples=30, deadline=None)
@given(sampler=st.sampled_from(SAMPLER_ROWS), **worlds)
def test_plans_of_every_schedule_keep_the_guarantees(schedule, sampler, sizes, batch, seed, exhausted):
    check_guarantees((sampler, schedule), sizes, batch, seed, exhausted)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(row.name for row in pair))
@settings(max_examples=20, deadline=None)
@given(**worlds)
def test_plans_of_every_pair_keep_the_guarantees(pair, sizes, batch, seed, exhausted):
    check_guarantees(pair, sizes, batch, seed, exhausted)


@rows
def test_every_schedule_but_all_changes_the_active_tasks_and_says_so(schedule):
    trained, _, records = train(run_of((SAMPLER_ROWS[0], schedule)), 60)
    changed = len({active for *_, active in trained}) > 1
    assert changed == (schedule.name != "all-0")
    assert any(record["events"] for record in records) == changed


@rows
def test_a_decision_is_pure_and_stays_as_it_is(schedule):
    setting = Setting(streams=[StreamSpec(name="s0", size=9)], tasks=TASKS, steps_per_epoch=7)
    built = schedule(()).build(setting)
    for number in range(12):
        before = built.state_dict()
        assert json.loads(json.dumps(before)) == before
        rule = built.decide(number * 5)
        answers = [rule(step) for step in range(number * 5, number * 5 + 5)]
        assert built.state_dict() == before
        assert all(answer and list(answer) == [task for task in TASKS if task in answer] for answer in answers)
        other = schedule(()).build(setting)
        other.load_state_dict(json.loads(json.dumps(before)))
        built.observe(WindowReport(step=number * 5 + 5, losses={}, counts={}, first_step=number * 5))
        built.observe(EvalReport(step=number * 5 + 5, metrics=evaluation(number)))
        assert [rule(step) for step in range(number * 5, number * 5 + 5)] == answers
        assert [other.decide(number * 5)(step) for step in range(number * 5, number * 5 + 5)] == answers


@pytest.mark.parametrize("pair", COVERING, ids=lambda pair: "-".join(row.name for row in pair))
def test_processes_whose_sums_differ_in_the_last_bits_decide_alike(pair):
    plain, _, records = train(run_of(pair), 40)
    noisy, _, others = train(run_of(pair, noise=3e-13), 40)
    assert plain == noisy
    assert [record["events"] for record in records] == [record["events"] for record in others]

"""Every row of the samplers' table: shares that are shares, decisions that are pure, and a resume at any step (G4, G5)."""

import json

import numpy as np
import pytest
from curriculum_rows import SAMPLER_ROWS, TASKS
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from test_plan_guarantees import check_passes

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.curriculum import Curriculum
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers import SAMPLERS, SamplerConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec

rows = pytest.mark.parametrize("make", SAMPLER_ROWS, ids=lambda row: row.name)


def streams(sizes=(1, 7, 60, 4099, 10**9), tasks=(TASKS,)):
    return [
        StreamSpec(
            name=f"s{k}",
            size=size,
            tasks=tasks[k % len(tasks)],
            chance={"funny": 0.7, "mood": 2.0},
            lengths=lambda at: at * 31 % 53,
            difficulty=(np.arange(size) * 2654435761 % 89).astype(np.float32) if size < 10**6 else None,
        )
        for k, size in enumerate(sizes)
    ]


def build(make, *, sizes=(1, 7, 60, 4099, 10**9), tasks=(TASKS,), seed=3, batch=8, noise=0.0, **options) -> Curriculum:
    """`tasks`: those of each stream, in turn."""
    section = CurriculumConfig(sampler=make([f"s{k}" for k in range(len(sizes))]), window=5, **options)
    curriculum = section.build(streams=streams(sizes, tasks), tasks=TASKS, batch_size=batch, seed=seed)
    curriculum.noise = noise
    return curriculum


def losses_of(step, stream, position, noise=0.0):
    """A task loss that depends on what was drawn and when, with three digits, as a model's would."""
    hard = (position * 2654435761 + stream * 97 + step) % 997 + 1
    return hard * 0.01 * (1 + noise)


def evaluation(step):
    values = {"val/loss": 2.0 - step / 99}
    for number, task in enumerate(TASKS):
        up_and_down = (step * (step + 3 + 3 * number) % 13) / 13
        values |= {
            f"val/{task}/macro_f1": up_and_down if number else step / 7,
            f"val/{task}/loss": 1.0 + number + up_and_down,
        }
    return values


def train(curriculum, total, *, state=None, finished=0):
    """The loop of an engine: batches trained on, checkpoints after every step, records."""
    sums, trained, checkpoints, records = {}, [], [], []  # sums: of the window under way, by stream and task
    if state is not None:
        text, arrays = state
        state = json.loads(text)
        curriculum.load_state_dict(state["curriculum"], arrays)
        sums = state["sums"]
    while curriculum.step < total:
        plan = curriculum.next_window(curriculum.step, min(curriculum.window, total - curriculum.step))
        for step in range(max(finished, plan.first_step), plan.stop_step):
            stream, position = plan.batch(step)
            trained.append((step, stream.tolist(), position.tolist(), curriculum.active_tasks(step)))
            for k, name in enumerate(curriculum.stream_names):
                mine = position[stream == k]
                for number, task in enumerate(TASKS):
                    labelled = mine[mine % (number + 2) == 0]
                    if len(labelled):
                        pair = sums.setdefault(name, {}).setdefault(task, [0.0, 0])
                        pair[0] += float(losses_of(step, k, labelled, curriculum.noise).sum()) * (number + 1)
                        pair[1] += len(labelled)
            if step + 1 < plan.stop_step:
                checkpoints.append((step + 1, snapshot(curriculum, sums)))
        means = {name: {task: total / n for task, (total, n) in tasks.items()} for name, tasks in sums.items()}
        counts = dict(zip(curriculum.stream_names, plan.counts.sum(axis=0).tolist(), strict=True))
        own = window_losses(curriculum, plan) if curriculum.listens else None
        curriculum.finish_window(WindowReport(step=plan.stop_step, losses=means, counts=counts, sample_losses=own))
        sums = {}
        curriculum.observe_losses(probed_losses(curriculum))
        records.append(curriculum.record())
        if plan.ended:
            break
        if curriculum.step % 10 == 0:
            curriculum.observe_evaluation(EvalReport(step=curriculum.step, metrics=evaluation(curriculum.step)))
        checkpoints.append((curriculum.step, snapshot(curriculum, sums)))
    return trained, checkpoints, records


def window_losses(curriculum, plan):
    """The loss of each sample of a plan, in its order."""
    steps = plan.first_step + np.arange(len(plan.stream))[:, None]
    return losses_of(steps, plan.stream.astype(int), plan.position, curriculum.noise).ravel().astype(np.float32)


def probed_losses(curriculum):
    """What a model would answer to the curriculum's probes."""
    numbers = {name: k for k, name in enumerate(curriculum.stream_names)}
    return {
        name: losses_of(curriculum.step, numbers[name], at, curriculum.noise) for name, at in curriculum.probes().items()
    }


def snapshot(curriculum, sums):
    arrays = {name: array.copy() for name, array in curriculum.arrays().items()}
    return json.dumps({"curriculum": curriculum.state_dict(), "sums": sums}, sort_keys=True), arrays


def test_the_table_is_the_union():
    adapter = TypeAdapter(SamplerConfig)
    names = [config.model_fields["name"].default for config in SAMPLERS]
    assert len(set(names)) == len(names)
    rows = [row(["s0"]) for row in SAMPLER_ROWS]
    assert [type(adapter.validate_python(row.model_dump())) for row in rows] == [type(row) for row in rows]
    assert {type(row) for row in rows} == set(SAMPLERS)
    with pytest.raises(ValidationError, match="dynamic_difficulty"):
        adapter.validate_python({"name": "difficult"})


@rows
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("exhausted", ["repeat", "drop", "stop"])
def test_a_run_resumed_at_any_step_sees_the_batches_of_the_uninterrupted_run(make, grouped, exhausted):
    sizes = (1, 7, 60, 4099, 10**9) if exhausted == "repeat" else (19, 35, 60, 150)
    options = {"group_by_length": grouped, "exhausted": exhausted, "sizes": sizes}
    trained, checkpoints, records = train(build(make, **options), 33)
    assert [finished for finished, _ in checkpoints][: len(trained) - 1] == list(range(1, len(trained)))
    for finished, state in checkpoints:
        rest, _, later = train(build(make, **options), 33, state=state, finished=finished)
        assert rest == trained[finished:], f"resumed after {finished} steps"
        assert later == records[len(records) - len(later) :]


def check_run(trained, records, *, sizes, batch, exhausted):
    """G1-G3 of a whole run, from what it trained on and what it recorded."""
    for k, size in enumerate(sizes):
        mine = [
            np.array([p for s, p in zip(stream, position, strict=True) if s == k], int) for _, stream, position, _ in trained
        ]
        if mine:
            check_passes(size, mine)
    assert all(len(stream) == len(position) == batch for _, stream, position, _ in trained)
    assert [sum(record["counts"].values()) for record in records] == [record["steps"] * batch for record in records]
    due = {f"s{k}": sum(r["shares"][f"s{k}"] * r["steps"] * batch for r in records) for k in range(len(sizes))}
    drawn = {f"s{k}": sum(r["counts"][f"s{k}"] for r in records) for k in range(len(sizes))}
    if exhausted == "repeat":
        assert all(abs(due[name] - drawn[name]) <= (len(sizes) - 1) / 2 + 0.1 for name in due)


@rows
@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.one_of(st.integers(1, 30), st.integers(31, 10**10)), min_size=1, max_size=6),
    batch=st.integers(1, 33),
    seed=st.integers(0, 2**62),
    exhausted=st.sampled_from(["repeat", "drop", "stop"]),
    grouped=st.booleans(),
)
def test_plans_of_every_sampler_keep_the_guarantees(make, sizes, batch, seed, exhausted, grouped):
    curriculum = build(make, sizes=sizes, batch=batch, seed=seed, exhausted=exhausted, group_by_length=grouped)
    trained, _, records = train(curriculum, 23)
    check_run(trained, records, sizes=sizes, batch=batch, exhausted=exhausted)


@rows
def test_shares_are_shares_for_any_active_set_and_a_rule_given_stays_as_it_is(make):
    curriculum_streams = streams()
    setting = Setting(streams=curriculum_streams, tasks=TASKS, steps_per_epoch=7)
    names = setting.stream_names
    sampler = make(names).build(setting)
    for round_ in range(3):
        before = sampler.state_dict()
        rule = sampler.decide(round_ * 5)
        answers = {}
        for step in range(round_ * 5, round_ * 5 + 5):
            for active in (names, names[1:], names[:1], names[::2]):
                shares = dict(rule(step, active))
                assert tuple(shares) == active
                assert sum(shares.values()) == pytest.approx(1)
                assert min(shares.values()) >= 0
                answers[step, active] = shares
        assert sampler.state_dict() == before
        assert json.loads(json.dumps(before)) == before
        losses = {"s1": {"funny": 3.0 + round_}, "s2": {"mood": 0.25}}
        counts, asked = {"s1": 2, "s2": 4}, dict.fromkeys(names, 0.2)
        sampler.observe(WindowReport(step=round_ * 5 + 5, losses=losses, counts=counts, shares=asked))
        sampler.observe(EvalReport(step=round_ * 5 + 5, metrics=evaluation(round_)))
        assert all(dict(rule(step, active)) == shares for (step, active), shares in answers.items())


@rows
def test_processes_whose_sums_differ_in_the_last_bits_plan_alike(make):
    plain, _, _ = train(build(make), 40)
    noisy, _, _ = train(build(make, noise=3e-13), 40)
    assert plain == noisy


@rows
def test_planning_twice_or_reading_records_changes_nothing(make):
    curriculum = build(make)
    state = json.dumps(curriculum.state_dict())
    first = curriculum.next_window(0, 5)
    assert curriculum.record() == {}
    assert (curriculum.next_window(0, 5).position == first.position).all()
    assert (curriculum.next_window(0, 3).counts == first.counts[:3]).all()
    assert json.dumps(curriculum.state_dict()) == state

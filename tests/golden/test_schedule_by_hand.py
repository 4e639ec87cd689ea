"""Schedules followed by hand: which tasks are active at which step, and what is said when that changes."""

import pytest

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.schedules.all import AllConfig
from mmtrain.curriculum.schedules.assessed import AssessedConfig
from mmtrain.curriculum.schedules.one_at_a_time import OneAtATimeConfig
from mmtrain.curriculum.schedules.plateau import Plateau
from mmtrain.curriculum.schedules.staged import StagedConfig
from mmtrain.curriculum.schedules.stop_and_go import StopAndGoConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.errors import ConfigError

TASKS = ("gory", "funny", "mood")


def build(config, tasks=TASKS, **chance):
    streams = [StreamSpec(name="clips", size=10, chance=chance)]
    return config.build(Setting(streams=streams, tasks=tasks, steps_per_epoch=10))


def evaluation(step=10, metric="loss", **values):
    return EvalReport(step=step, metrics={f"val/{task}/{metric}": value for task, value in values.items()})


def window(first, stop):
    return WindowReport(step=stop, losses={}, counts={}, first_step=first)


def active(schedule, *steps):
    rule = schedule.decide(steps[0])
    return [" ".join(rule(step)) for step in steps]


def test_all():
    schedule = build(AllConfig())
    assert active(schedule, 0, 999) == ["gory funny mood"] * 2
    assert schedule.observe(evaluation(gory=1)) == ()


def test_a_plateau_counts_evaluations_without_gain():
    """Gains over 10 % of the mark: 1.0 -> 0.95 is none, 0.89 is one over 1.0."""
    plateau, waits = Plateau(0.1, "min"), []
    for value in (1.0, 0.95, 0.92, 0.89, 0.85, 0.95, 0.79, float("nan")):
        plateau.update(value)
        waits.append(plateau.waited)
    assert waits == [0, 1, 2, 0, 1, 2, 0, 1]
    assert (plateau.best, plateau.mark) == (0.79, 0.79)
    assert plateau.fallen(0.88, 0.1)  # over 0.869
    assert not plateau.fallen(0.86, 0.1)
    rising = Plateau(0.1, "max")
    for value in (0.5, 0.54, 0.56):
        rising.update(value)
    assert (rising.best, rising.mark, rising.waited) == (0.56, 0.56, 0)
    assert rising.fallen(0.5, 0.1)
    assert not rising.fallen(0.51, 0.1)


def test_one_at_a_time_until_converged():
    schedule = build(OneAtATimeConfig(order=("mood", "gory", "funny"), patience=2, improve_by=0.01))
    assert active(schedule, 0, 500) == ["mood", "mood"]
    said = [schedule.observe(evaluation(mood=value)) for value in (1.0, 0.8, 0.795, 0.797)]
    assert said == [(), (), (), ("mood -> gory, no gain over 1 % in 2 evaluations",)]
    assert active(schedule, 0) == ["gory"]
    for value in (2.0, 1.0, 1.0):
        assert schedule.observe(evaluation(gory=value)) == ()
    assert schedule.observe(evaluation(gory=1.0)) == ("gory -> funny, no gain over 1 % in 2 evaluations",)
    for _ in range(5):
        assert schedule.observe(evaluation(funny=1.0)) == ()  # the last stays to the end
    assert active(schedule, 0) == ["funny"]


def test_a_falling_loss_is_not_convergence():
    schedule = build(OneAtATimeConfig(patience=1))
    for value in (1.0, 0.9, 0.8, 0.7):
        assert schedule.observe(evaluation(gory=value)) == ()
    assert active(schedule, 0) == ["gory"]
    better = build(OneAtATimeConfig(patience=1, metric="f1", mode="max"))
    for value in (0.1, 0.2, 0.3):
        assert better.observe(evaluation(metric="f1", gory=value)) == ()
    assert better.observe(evaluation(metric="f1", gory=0.2)) == ("gory -> funny, no gain over 0.1 % in 1 evaluation",)


def test_one_at_a_time_for_a_time_each():
    schedule = build(OneAtATimeConfig(each=1.5))  # 15 steps
    assert active(schedule, 0, 14, 15, 29, 30, 99) == ["gory", "gory", "funny", "funny", "mood", "mood"]
    assert schedule.observe(window(10, 20)) == ("step 15: gory -> funny",)
    assert schedule.observe(window(20, 30)) == ()  # the border is the next window's first step
    assert schedule.observe(window(30, 40)) == ("step 30: funny -> mood",)


def test_one_at_a_time_messages():
    with pytest.raises(ConfigError, match=r"order: unknown task 'gori'; did you mean 'gory'\?"):
        build(OneAtATimeConfig(order=("gori",)))
    with pytest.raises(ConfigError, match="order: nothing is written for task funny, mood; name every task"):
        build(OneAtATimeConfig(order=("gory",)))
    with pytest.raises(ConfigError, match="order names a task twice"):
        build(OneAtATimeConfig(order=(*TASKS, "gory")))
    with pytest.raises(ConfigError, match=r"each 0.01 epochs is not one optimizer step; write more"):
        build(OneAtATimeConfig(each=0.01))
    with pytest.raises(ConfigError, match=r"one_at_a_time: metric f2: the evaluations have no 'val/gory/f2'; the nearest"):
        build(OneAtATimeConfig(metric="f2")).observe(evaluation(metric="f1", gory=1))


def staged(*phases, unit="steps"):
    return StagedConfig(unit=unit, phases=[dict(zip(("tasks", "start", "end"), phase, strict=False)) for phase in phases])


def test_staged():
    schedule = build(staged((["mood"], 0, 12), (["funny"], 8, 20), (["gory", "funny"], 20)))
    assert active(schedule, 0, 7, 8, 11, 12, 19, 20, 900) == [
        "mood", "mood", "funny mood", "funny mood", "funny", "funny", "gory funny", "gory funny",
    ]  # fmt: skip
    assert schedule.observe(window(5, 10)) == ("step 8: mood -> funny, mood",)
    assert schedule.observe(window(10, 25)) == ("step 12: funny, mood -> funny", "step 20: funny -> gory, funny")
    in_epochs = build(staged((["mood"], 0, 0.5), (["gory"], 0.5), unit="epochs"))
    assert active(in_epochs, 4, 5) == ["mood", "gory"]


def test_staged_messages():
    with pytest.raises(ConfigError, match=r"phases.1: unknown task 'moood'; did you mean 'mood'\?"):
        build(staged((["gory"],), (["moood"],)))
    with pytest.raises(ConfigError, match=r"phases.0: it starts at step 5 and ends at step 5; end it later"):
        build(staged((["gory"], 5, 5)))
    with pytest.raises(ConfigError, match=r"no phase trains a task at step 8. Let one start there"):
        build(staged((["gory"], 0, 8), (["mood"], 9)))
    with pytest.raises(ConfigError, match="at step 0"):
        build(staged())
    with pytest.raises(ConfigError, match="at step 0"):
        build(staged((["gory"], 1)))
    with pytest.raises(ConfigError, match=r"at step 9.* leave out the `end`"):
        build(staged((["gory"], 0, 8), (["mood"], 0, 9)))


def test_assessed_easiest_first():
    schedule = build(AssessedConfig(warmup=20, every=10, unit="steps"))
    assert schedule.observe(evaluation(step=10, gory=1, funny=9, mood=5)) == ()  # still warming up
    assert active(schedule, 10) == ["gory funny mood"]
    said = schedule.observe(evaluation(step=25, gory=0.9, funny=0.3, mood=0.5))
    assert said == ("easiest first: funny (loss 0.3), mood (loss 0.5), gory (loss 0.9); funny alone at first",)
    assert active(schedule, 25, 34, 35, 44, 45, 999) == [
        "funny", "funny", "funny mood", "funny mood", "gory funny mood", "gory funny mood",
    ]  # fmt: skip
    assert schedule.observe(evaluation(step=50, gory=0.1, funny=0.3, mood=0.5)) == ()  # ranked once
    assert schedule.observe(window(25, 35)) == ()
    assert schedule.observe(window(35, 50)) == ("step 35: mood joins", "step 45: gory joins")


def test_assessed_hardest_first_by_an_accuracy():
    config = AssessedConfig(warmup=1, every=1, unit="epochs", order="hard_to_easy", metric="accuracy", mode="max")
    schedule = build(config)
    said = schedule.observe(evaluation(step=10, metric="accuracy", gory=0.9, funny=float("nan"), mood=0.5))
    assert said[0].startswith("hardest first: funny (accuracy nan), mood (accuracy 0.5), gory (accuracy 0.9)")
    assert active(schedule, 10, 20, 30) == ["funny", "funny mood", "gory funny mood"]


def test_assessed_losses_are_compared_by_chance():
    """gory 0.6 of ln 2 is 0.87, mood 1.15 of ln 10 is half: mood is the easier, with the larger loss."""
    schedule = build(AssessedConfig(warmup=1), tasks=("gory", "mood"), gory=0.6931, mood=2.3026)
    assert schedule.observe(evaluation(step=10, gory=0.6, mood=1.15))[0].startswith("easiest first: mood (loss 1.15), gory")


def test_stop_and_go_and_stop_again():
    schedule = build(StopAndGoConfig(gap=4, patience=3, improve_by=0.001, restart_below=0.005), tasks=("gory", "funny"))
    assert active(schedule, *range(5)) == ["gory funny"] * 5
    falling = iter(range(100, 1, -1))  # funny improves at every evaluation

    def hear(value):
        return schedule.observe(evaluation(gory=value, funny=next(falling)))

    assert [hear(value) for value in (0.6, 0.5, 0.4999, 0.501)] == [()] * 4
    assert hear(0.4998) == ("gory: go -> stop, no gain over 0.1 % in 3 evaluations",)
    assert active(schedule, *range(9)) == ["gory funny", "funny", "funny", "funny"] * 2 + ["gory funny"]
    assert hear(0.5022) == ()  # 0.4998 * 1.005 = 0.5023
    assert hear(0.5024) == ("gory: stop -> go, loss 0.5024 is over 0.5 % worse than its best 0.4998",)
    assert active(schedule, *range(3)) == ["gory funny"] * 3
    assert [hear(value) for value in (0.501, 0.501, 0.501)] == [()] * 3  # a gain over 0.5024, then none
    assert hear(0.501) == ("gory: go -> stop, no gain over 0.1 % in 3 evaluations",)


def test_stop_and_go_where_all_have_stopped_trains_all():
    schedule = build(StopAndGoConfig(patience=1, gap=5), tasks=("gory", "funny"))
    for _ in range(2):
        said = schedule.observe(evaluation(gory=1.0, funny=1.0))
    assert len(said) == 2
    assert active(schedule, *range(7)) == ["gory funny"] * 7
    assert len(schedule.observe(evaluation(gory=1.0, funny=1.1))) == 1
    assert active(schedule, *range(6)) == ["gory funny", *["funny"] * 4, "gory funny"]


def test_a_stopped_task_may_set_a_new_best():
    schedule = build(StopAndGoConfig(patience=1, gap=5, metric="f1", mode="max"), tasks=("gory",))
    said = [schedule.observe(evaluation(metric="f1", gory=value)) for value in (0.5, 0.5, 0.8, 0.79)]
    assert said[1:3] == [("gory: go -> stop, no gain over 0.1 % in 1 evaluation",), ()]
    assert said[3] == ("gory: stop -> go, f1 0.79 is over 0.5 % worse than its best 0.8",)


def curriculum(schedule, window=6, **sizes):
    """Streams that have the tasks of their name's letters: g gory, f funny."""
    letters = {"g": "gory", "f": "funny"}
    streams = [StreamSpec(name=name, size=size, tasks=tuple(letters[x] for x in name)) for name, size in sizes.items()]
    config = CurriculumConfig(window=window, schedule=schedule, group_by_length=False)
    return config.build(streams=streams, tasks=("gory", "funny"), batch_size=8, seed=0, steps_per_epoch=12)


def test_a_stream_is_drawn_while_one_of_its_tasks_is_active_and_the_others_weigh_nothing():
    phases = [{"tasks": ["gory"], "end": 4}, {"tasks": ["funny"], "start": 4}]
    run = curriculum({"name": "staged", "unit": "steps", "phases": phases}, g=50, f=50, gf=50)
    plan = run.next_window(0, 6)
    assert plan.counts.tolist() == [[4, 0, 4]] * 4 + [[0, 4, 4]] * 2
    assert [run.active_tasks(step) for step in (3, 4)] == [("gory",), ("funny",)]
    assert run.weights(3) == {"gory": 1.0, "funny": 0.0}
    assert run.weights(4) == {"gory": 0.0, "funny": 1.0}
    run.finish_window(WindowReport(step=6, losses={}, counts={}))
    assert run.record()["active"] == {"gory": 4, "funny": 2}
    assert run.record()["events"] == ["step 4: gory -> funny"]


def test_an_evaluation_s_event_stands_in_the_record_of_the_window_it_took_effect_in():
    run = curriculum({"name": "stop_and_go", "patience": 1, "gap": 3}, g=50, f=50)
    for number in range(3):
        plan = run.next_window(6 * number, 6)
        saved = run.state_dict()
        run.finish_window(WindowReport(step=plan.stop_step, losses={}, counts={}))
        gory = {0: 1.0, 1: 1.0, 2: 0.9}[number]
        run.observe_evaluation(evaluation(step=plan.stop_step, gory=gory, funny=1 / (1 + number)))
    assert saved["events"] == ["gory: go -> stop, no gain over 0.1 % in 1 evaluation"]
    assert run.record()["events"] == saved["events"]
    assert run.record()["active"] == {"gory": 2, "funny": 6}
    assert plan.counts.tolist() == [[4, 4], [0, 8], [0, 8]] * 2

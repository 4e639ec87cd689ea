"""Every sampler, schedule, pacing and weighting of the tables, each with the options that contract tests try it under."""

from dataclasses import dataclass
from typing import Any

from mmtrain.curriculum.pacing import PACINGS
from mmtrain.curriculum.samplers import SAMPLERS
from mmtrain.curriculum.schedules import SCHEDULES
from mmtrain.curriculum.weighting import WEIGHTINGS

TASKS = ("funny", "mood")


@dataclass(frozen=True)
class Each:
    """Stands for a mapping: a value for each of the streams, however many, from these in turn."""

    values: tuple[Any, ...]


# sampler -> the options that it is tried under; a row that is not here is tried with its defaults
SAMPLER_OPTIONS = {
    "dynamic_difficulty": [
        {},
        {"reference": "chance", "temperature": 0.5, "smoothing": 0.3, "floor": 0.05},
        {"reference": "initial", "start": "proportional", "floor": 0.0},
    ],
    "temperature": [{}, {"temperature": 3.3, "cap": 40}],
    "fixed": [{"shares": Each((3, 1, 0.5, 1e-6))}],
    "scheduled": [
        {
            "unit": "steps",
            "points": [
                {"at": 2, "shares": Each((1, 0, 2))},
                {"at": 9, "shares": Each((1, 7))},
                {"at": 21, "shares": Each((1,))},
            ],
        }
    ],
    "annealed": [{"over": 17, "unit": "steps"}, {"start": 1, "end": 5, "over": 30, "unit": "steps"}],
    "random_stream": [{}, {"temperature": 2}],
    "learning_progress": [{}, {"sign": "falls", "smoothing": 0.0, "floor": 0.0}],
    "ucb": [{}, {"floor": 0.0, "exploration": 0.1}],
    "doremi": [{"reference_losses": Each(({"funny": 2.0, "mood": 3.0}, {"funny": 0.1, "mood": 9.0}))}],
    "validation_driven": [
        {
            "targets": Each(
                ({"metric": "val/funny/macro_f1", "target": 4}, {"metric": "val/loss", "target": 1, "mode": "min"}),
            )
        }
    ],
}

SCHEDULE_OPTIONS = {
    "one_at_a_time": [
        {"patience": 1},
        {"each": 7, "unit": "steps", "order": ["mood", "funny"]},
    ],
    "staged": [
        {
            "unit": "steps",
            "phases": [
                {"tasks": ["mood"], "end": 8},
                {"tasks": ["funny"], "start": 6, "end": 19},
                {"tasks": ["mood", "funny"], "start": 19},
            ],
        }
    ],
    "assessed": [
        {"warmup": 8, "every": 7, "unit": "steps"},
        {"warmup": 3, "every": 13, "unit": "steps", "order": "hard_to_easy", "metric": "macro_f1", "mode": "max"},
    ],
    "stop_and_go": [{"patience": 1, "gap": 3}, {"patience": 1, "gap": 2, "metric": "macro_f1", "mode": "max"}],
}

LENGTH, RUNNING = {"name": "text_length"}, {"name": "running", "probe_every": 1}
PACING_OPTIONS = {
    "competence": [
        {"difficulty": LENGTH, "over": 30, "unit": "steps"},
        {"difficulty": {"name": "column", "column": "hard"}, "over": 25, "unit": "steps", "start": 0.3, "power": 1},
        {"difficulty": RUNNING, "over": 40, "unit": "steps", "power": 3},
    ],
    "baby_steps": [{"difficulty": LENGTH, "buckets": 3}, {"difficulty": {"name": "running"}, "buckets": 5, "passes": 2}],
    "anti": [{"difficulty": LENGTH, "over": 30, "unit": "steps"}, {"difficulty": RUNNING, "over": 40, "unit": "steps"}],
    "self_paced": [{}, {"start": 0.2, "growth": 1.05, "probe_every": 3}],
    "self_paced_linear": [{}, {"start": 0.7, "growth": 1.01, "probe_every": None}],
    "loss_quantile": [
        {"drop_easiest": 0.3},
        {"drop_easiest": 0.1, "drop_hardest": 0.25, "probe_every": 2},
        {"drop_hardest": 0.9, "probe_every": None},
    ],
}


@dataclass(frozen=True)
class Row:
    """A component and its options; called with the streams' names, its config."""

    config: Any
    options: Any
    name: str

    def __call__(self, names):
        return self.config(**_expand(self.options, names))


def _expand(value, names):
    if isinstance(value, Each):
        return {name: value.values[k % len(value.values)] for k, name in enumerate(names)}
    if isinstance(value, dict):
        return {key: _expand(below, names) for key, below in value.items()}
    return [_expand(below, names) for below in value] if isinstance(value, list) else value


def _rows(table, options):
    names = [config.model_fields["name"].default for config in table]
    assert set(options) <= set(names), "options of a component that is in no table"
    return [
        Row(config, choice, f"{name}-{number}")
        for name, config in zip(names, table, strict=True)
        for number, choice in enumerate(options.get(name, [{}]))
    ]


SAMPLER_ROWS = _rows(SAMPLERS, SAMPLER_OPTIONS)
SCHEDULE_ROWS = _rows(SCHEDULES, SCHEDULE_OPTIONS)
WEIGHTING_ROWS = _rows(WEIGHTINGS, {})
PACING_ROWS = _rows(PACINGS, PACING_OPTIONS)

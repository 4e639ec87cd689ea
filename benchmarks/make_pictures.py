"""The pictures of docs/concepts, from the curriculum itself: `python -m benchmarks.make_pictures [FOLDER]` writes them anew.

They come out of the planner and of the simulation behind `mmtrain curriculum simulate`, with its synthetic losses; the same
code and the same matplotlib write the same bytes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.curriculum import Curriculum
from mmtrain.curriculum.permutation import derive_key, hash_words
from mmtrain.curriculum.reports import WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.simulate import simulate, synthetic_curve
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.simulation import Trace

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44")  # Paul Tol's "bright", told apart by all
SIZES = {"clips": 6_000, "calls": 2_000, "films": 500}
CHANCE = {"clips": 0.69, "calls": 1.1, "films": 1.6}
SAMPLERS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "proportional": {},
    "temperature": {"temperature": 2.0},
    "annealed": {},
    "dynamic_difficulty": {"reference": "chance"},
    "learning_progress": {},
}
PACINGS: dict[str, dict[str, Any]] = {
    "baby_steps": {"difficulty": {"name": "column", "column": "words"}},
    "competence": {"difficulty": {"name": "column", "column": "words"}, "start": 0.2, "over": 4},
    "anti": {"difficulty": {"name": "column", "column": "words"}, "start": 0.2, "over": 4},
    "self_paced": {"start": 0.5, "growth": 1.3},
}


def streams(sizes: dict[str, int] = SIZES) -> list[StreamSpec]:
    """Each with one task of its own name."""
    return [
        StreamSpec(name=name, size=size, tasks=(name,), chance={name: CHANCE[name]}, difficulty=difficulty(name, size))
        for name, size in sizes.items()
    ]


def difficulty(name: str, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    words = hash_words(np.arange(size, dtype=np.uint64), derive_key("difficulty", name))
    return ((words >> np.uint64(11)) / 2**53).astype(np.float32)


def build(section: dict[str, Any], specs: Sequence[StreamSpec], *, batch: int, epoch: int | None = None) -> Curriculum:
    config = CurriculumConfig.model_validate(section)
    names = tuple(spec.name for spec in specs)
    return config.build(streams=specs, tasks=names, batch_size=batch, seed=0, steps_per_epoch=epoch)


def trace(section: dict[str, Any], *, steps: int, batch: int = 32) -> Trace:
    """What `mmtrain curriculum simulate` draws."""
    specs = streams()
    names = tuple(spec.name for spec in specs)
    epoch = -(-sum(SIZES.values()) // batch)
    setting = Setting(streams=specs, tasks=names, steps_per_epoch=epoch)
    found = Trace(names)
    curriculum = build(section, specs, batch=batch, epoch=epoch)
    for record in simulate(curriculum, setting, synthetic_curve(setting), total_steps=steps, eval_every=epoch):
        found.add(record)
    return found


def draw_plan() -> Figure:
    """Twelve batches of 8 from three streams: every sample a square with its number, in the color of its stream."""
    sizes, shares, steps = {"clips": 40, "calls": 12, "films": 5}, {"clips": 0.55, "calls": 0.3, "films": 0.15}, 12
    curriculum = build(
        {"sampler": {"name": "fixed", "shares": shares}, "window": steps, "group_by_length": False}, streams(sizes), batch=8
    )
    plan = curriculum.next_window(0, steps)
    curriculum.finish_window(WindowReport(steps, {}, {}))
    figure = Figure(figsize=(9, 5.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 2])
    for step in range(steps):
        order = np.argsort(plan.stream[step], kind="stable")
        for row, place in enumerate(order.tolist()):
            number, position = int(plan.stream[step, place]), int(plan.position[step, place])
            is_odd = bool(plan.pass_number[step, place] % 2)
            style: dict[str, Any] = {"facecolor": COLORS[number], "alpha": 0.9 if is_odd else 0.45, "edgecolor": "white"}
            upper.add_patch(Rectangle((step - 0.48, row), 0.96, 0.96, **style))
            upper.text(step, row + 0.46, str(position), ha="center", va="center", fontsize=8)
    upper.set(xlim=(-0.6, steps - 0.4), ylim=(8.05, -0.05), yticks=[], xticks=range(steps), xlabel="batch")
    upper.set_title(
        "every batch has 8 samples; a number is a sample's place in its stream; a stronger shade is every other pass"
    )
    handles = [Rectangle((0, 0), 1, 1, color=COLORS[k], alpha=0.7) for k in range(len(sizes))]
    labels = [f"{name}: {size} samples, share {shares[name]:.0%}" for name, size in sizes.items()]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    due = 8 * np.array([shares[name] for name in sizes]) * np.arange(1, steps + 1)[:, None]
    carries = due - np.cumsum(plan.counts, axis=0)
    for k in range(len(sizes)):
        lower.plot(range(steps), carries[:, k], marker="o", markersize=4, color=COLORS[k])
    for bound in (-1, 1):
        lower.axhline(bound, color="black", linestyle="--", linewidth=0.8)
    lower.set(xlim=(-0.6, steps - 0.4), xticks=range(steps), ylim=(-1.25, 1.25), ylabel="samples due, less drawn")
    lower.set_title("what is owed is carried to the next batch, and stays within (K - 1) / 2 = 1 sample for K = 3 streams")
    return figure


def grid(rows: int, columns: int, *, height: float = 5.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, height), layout="constrained")
    found = figure.subplots(rows, columns, sharex=True, sharey=True)
    for axis in found[-1]:
        axis.set_xlabel("optimizer step")
    return figure, list(found.flat)


def lines(axis: Axes, found: Trace, rows: Sequence[Sequence[float]], *, title: str) -> None:
    steps, table = np.concatenate([[0], found.steps]), np.array(rows, dtype=np.float64)
    table = np.concatenate([table[:1], table])
    for k, name in enumerate(found.names):
        axis.plot(steps, table[:, k], label=name, color=COLORS[k], drawstyle="steps", linewidth=1.6)
    axis.set_title(title, fontsize=9)


def name_streams(figure: Figure, axis: Axes) -> None:
    handles, names = axis.get_legend_handles_labels()
    labels = [f"{name} ({SIZES[name]:,} samples)" for name in names]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def draw_shares() -> Figure:
    figure, axes = grid(2, 3)
    for axis, (name, options) in zip(axes, SAMPLERS.items(), strict=True):
        found = trace({"sampler": {"name": name, **options}}, steps=3_000)
        lines(axis, found, found.shares, title=name)
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("share")
    axes[3].set_ylabel("share")
    name_streams(figure, axes[0])
    return figure


def draw_pools() -> Figure:
    figure, axes = grid(2, 2)
    for axis, (name, options) in zip(axes, PACINGS.items(), strict=True):
        found = trace({"pacing": {"name": name, **options}}, steps=2_000)
        sizes = np.array([SIZES[stream] for stream in found.names])
        lines(axis, found, (np.array(found.pools) / sizes).tolist(), title=name)
        axis.set_ylim(0, 1.05)
    axes[0].set_ylabel("part of the stream in the pool")
    axes[2].set_ylabel("part of the stream in the pool")
    name_streams(figure, axes[0])
    return figure


def draw_temperature() -> Figure:
    figure, axes = grid(2, 3)
    places = [(temperature, floor) for floor in (0.0, 0.1) for temperature in (0.5, 1.0, 4.0)]
    for axis, (temperature, floor) in zip(axes, places, strict=True):
        sampler = {"name": "dynamic_difficulty", "reference": "chance", "temperature": temperature, "floor": floor}
        found = trace({"sampler": sampler}, steps=3_000)
        lines(axis, found, found.shares, title=f"temperature {temperature}, floor {floor}")
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("share")
    axes[3].set_ylabel("share")
    name_streams(figure, axes[0])
    return figure


PICTURES = {"plan": draw_plan, "shares": draw_shares, "pools": draw_pools, "temperature": draw_temperature}


def write(name: str, folder: Path, *, ending: str = "svg") -> Path:
    """One picture, without the date and random names that matplotlib would put in."""
    file = folder / f"{name}.{ending}"
    with mpl.rc_context({"svg.hashsalt": "mmtrain", "svg.fonttype": "none", "font.size": 9}):
        PICTURES[name]().savefig(file, metadata={"Date": None} if ending == "svg" else None, dpi=110)
    return file


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        print(write(name, folder))


if __name__ == "__main__":
    main()

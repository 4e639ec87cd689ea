"""What `mmtrain curriculum simulate` costs: ten streams and a million steps, wanted in under a minute.

Run `python -m benchmarks.bench_simulate`.
"""

import time

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.simulate import simulate, synthetic_curve
from mmtrain.curriculum.streams import StreamSpec

STREAMS, STEPS, EPOCH, BATCH = 10, 1_000_000, 10_000, 32


def main() -> None:
    tasks = tuple(f"t{k}" for k in range(STREAMS))
    streams = [StreamSpec(name=f"s{k}", size=1000 * 4**k, tasks=(tasks[k],)) for k in range(STREAMS)]
    setting = Setting(streams=streams, tasks=tasks, steps_per_epoch=EPOCH)
    for options in ({}, {"sampler": {"name": "dynamic_difficulty"}, "schedule": {"name": "stop_and_go"}}):
        config = CurriculumConfig.model_validate(options)
        curriculum = config.build(streams=streams, tasks=tasks, batch_size=BATCH, seed=0, steps_per_epoch=EPOCH)
        begun = time.perf_counter()
        records = simulate(curriculum, setting, synthetic_curve(setting), total_steps=STEPS, eval_every=EPOCH)
        windows = sum(1 for _ in records)
        seconds = time.perf_counter() - begun
        names = f"{config.sampler.name}, {config.schedule.name}"
        print(f"{names}: {STREAMS} streams, {STEPS:,} steps of {BATCH} in {windows:,} windows: {seconds:.1f} s")


if __name__ == "__main__":
    main()

"""Makes the steps of a training slow in the first start of a Slurm job, so that something can happen to it in the middle."""

import os
import sys
import threading
import time

if "STEP_SECONDS" in os.environ and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":

    def slow_down():
        while not hasattr(sys.modules.get("mmtrain.engine.loop"), "train_epoch"):
            time.sleep(0.01)
        loop = sys.modules["mmtrain.engine.loop"]
        whole = loop.train_step

        def train_step(run, inputs):
            time.sleep(float(os.environ["STEP_SECONDS"]))
            return whole(run, inputs)

        loop.train_step = train_step

    threading.Thread(target=slow_down, daemon=True).start()

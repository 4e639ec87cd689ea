"""The door for launchers: `accelerate launch mmtrain/train.py --config FILE`, or `python -m mmtrain.train`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # run by path, Python puts this folder first, where our modules would shadow libraries of the same name
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

    from mmtrain.cli import main

    main(["train", *sys.argv[1:]])

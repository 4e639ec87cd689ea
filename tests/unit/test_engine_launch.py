"""CPU threads of a launched process."""

import pytest

from mmtrain.engine import launch


@pytest.mark.parametrize(
    ("words", "inherited", "own", "expected"),
    [
        (["accelerate", "launch", "x.py"], {}, "1", "all"),
        (["accelerate", "launch", "--num_cpu_threads_per_process=1", "x.py"], {}, "1", None),
        (["accelerate", "launch", "--num-cpu-threads-per-process", "1", "x.py"], {}, "1", None),
        (["accelerate", "launch", "x.py"], {"OMP_NUM_THREADS": "1"}, "1", None),  # the user's own wish
        (["accelerate", "launch", "x.py"], {}, "3", None),
        (["bash"], {}, "1", None),
    ],
)
def test_threads_that_only_the_launcher_took_away_are_given_back(monkeypatch, words, inherited, own, expected):
    monkeypatch.setattr(launch, "_launcher", lambda: (words, inherited))
    monkeypatch.setenv("OMP_NUM_THREADS", own)
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)
    assert launch.cpu_threads(local_processes=2) == (4 if expected == "all" else None)
    assert launch.cpu_threads(local_processes=16) == (1 if expected == "all" else None)

"""A curriculum that went on can be put back, in place, to any earlier state: what a rollback asks of every row."""

import pytest
from curriculum_rows import PACING_ROWS, SAMPLER_ROWS, SCHEDULE_ROWS
from test_pacing_contract import SIZES, run_of
from test_sampler_contract import snapshot, train

TABLES = (PACING_ROWS, SAMPLER_ROWS, SCHEDULE_ROWS)
TRIPLES = [tuple(rows[k % len(rows)] for rows in TABLES) for k in range(max(map(len, TABLES)))]


@pytest.mark.parametrize("triple", TRIPLES, ids=lambda triple: "-".join(row.name for row in triple))
def test_a_curriculum_that_went_on_is_put_back_as_a_new_one_would_be(triple):
    curriculum = run_of(triple, sizes=SIZES)
    start = (0, snapshot(curriculum, {}))
    trained, checkpoints, records = train(curriculum, 43)
    for finished, state in [start, checkpoints[30], checkpoints[7]]:
        rest, _, later = train(curriculum, 43, state=state, finished=finished)
        assert rest == trained[finished:], f"put back to step {finished}"
        assert later == records[len(records) - len(later) :]

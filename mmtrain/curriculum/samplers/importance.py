"""Rewards of a bandit whose action is a vector of shares, weighted so that their expectation is right."""

from collections.abc import Mapping

from mmtrain.curriculum.reports import WindowReport


def importance_weighted(rewards: Mapping[str, float], report: WindowReport) -> dict[str, float]:
    """Stream t -> (n_t / n) r_t / p_t over the streams drawn: n_t of the window's n samples, p_t the share asked for.

    A window is n draws from the policy p. Each draw of t is worth r_t / p_t, every other draw 0, and this is their mean.
    With a single draw it is the r_t / p_t of the papers; as n grows it tends to r_t.
    """
    drawn = sum(report.counts.values())
    return {
        stream: report.counts[stream] / drawn * reward / report.shares[stream]
        for stream, reward in rewards.items()
        if report.counts.get(stream, 0) and report.shares.get(stream, 0.0) > 0
    }

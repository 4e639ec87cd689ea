"""Pages of runs: each one self-contained HTML file."""

from mmtrain.extras import require


def require_report(what: str) -> None:
    """Errors: ConfigError where the extra `report` is not installed, and `what` needs it."""
    require(what, ["altair", "vl_convert"], extra="report")

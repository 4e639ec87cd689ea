"""Pages of runs: each one self-contained HTML file."""

from mmtrain.extras import missing, require

_PACKAGES = ("altair", "vl_convert")


def has_report() -> bool:
    """Whether the extra `report` is installed."""
    return not missing(_PACKAGES)


def require_report(what: str) -> None:
    """Errors: ConfigError where the extra `report` is not installed, and `what` needs it."""
    require(what, _PACKAGES, extra="report")

"""Packages that only some choices need: said in words where they are missing, imported without words where they are not."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from mmtrain.errors import ConfigError


def missing(packages: Sequence[str]) -> list[str]:
    """Those that this Python lacks."""
    return [package for package in packages if find_spec(package) is None]


def require(what: str, packages: Sequence[str], *, extra: str) -> None:
    """Errors: ConfigError naming the extra of mmtrain to install, where a package that `what` needs is missing."""
    lacking = missing(packages)
    if lacking:
        raise ConfigError(f"{what} needs {' and '.join(lacking)}, which this Python lacks: pip install 'mmtrain[{extra}]'")


@contextmanager
def quiet_import() -> Iterator[None]:
    """What libraries log of their own dealings with each other while they are imported is no user's business."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)

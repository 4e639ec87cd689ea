"""What can be read without waiting: a pipe has no end until somebody closes it, and then nothing is left of it."""

import os
import stat


def is_plain(status: os.stat_result) -> bool:
    """Whether that is the status of a file or a folder; not of a pipe, a socket or a device."""
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)

"""The errors that a person or a file can cause; the command line prints them as one message and exits with 2."""


class UserError(Exception):
    """Something outside the code is wrong: a config, a file, a command. The message says where, what, and what to write."""


class ConfigError(UserError):
    """A config names something unknown, leaves something out, or asks for what cannot be."""


class DataError(UserError):
    """A store, a sample or a media file does not hold what its description says."""


class CheckpointError(UserError):
    """A checkpoint is damaged, foreign, or does not belong to this run."""


class NonFiniteError(UserError):
    """Training met a NaN or Inf; no weight was touched by it."""


class PeerError(UserError):
    """Another process of the run failed, and this one cannot go on without it."""


class Interrupted(UserError):
    """A signal stopped the run; its state is saved."""


class Preempted(Interrupted):
    """SIGUSR1 stopped the run: whoever sent it will start it again."""

"""What one process finds or does for all of them: the first looks, and every process has its answer or its error."""

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from mmtrain.errors import ConfigError, UserError

Answer = TypeVar("Answer")


def look_once(accelerator: Accelerator, look: Callable[[], Answer]) -> Answer:
    """What `look` says in the first process, in all of them. Errors: ConfigError in all where it fails there."""
    answer: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            answer = [look(), None]
        except UserError as error:
            answer = [None, str(error)]
        except OSError as error:
            answer = [None, f"{error.filename}: {error.strerror}"]
    if accelerator.num_processes > 1:
        broadcast_object_list(answer)
    if answer[1] is not None:
        raise ConfigError(answer[1])
    found: Answer = answer[0]
    return found

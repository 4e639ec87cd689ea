"""What tables and pages of results go by, without the libraries that compute them."""

from collections.abc import Mapping

from mmtrain.data.schema import TaskKind

# the metric that stands for a task
PRIMARY: Mapping[TaskKind, str] = {
    "binary": "average_precision",
    "multiclass": "accuracy",
    "multilabel": "macro_average_precision",
    "regression": "pearson",
}
FEW_GROUPS = 30  # below this, a table says that an interval is of few groups
FEWEST_GROUPS = 10  # below this nobody has looked how often an interval holds the truth, and nothing is concluded from it

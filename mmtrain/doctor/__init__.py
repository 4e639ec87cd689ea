"""The table of checks before a training, in the order in which they are made and printed."""

from collections.abc import Callable

from mmtrain.doctor.case import Case
from mmtrain.doctor.finding import Finding
from mmtrain.doctor.gradient_reach import check_gradient_reach
from mmtrain.doctor.group_leakage import check_group_leakage
from mmtrain.doctor.initial_loss import check_initial_loss
from mmtrain.doctor.input_scale import check_input_scale
from mmtrain.doctor.label_balance import check_label_balance
from mmtrain.doctor.lr_range import check_lr_range
from mmtrain.doctor.overfitting import check_overfit
from mmtrain.doctor.padding import check_padding
from mmtrain.doctor.throughput import check_throughput

__all__ = ["CHECKS"]

CHECKS: dict[str, Callable[[Case], list[Finding]]] = {
    "label_balance": check_label_balance,
    "group_leakage": check_group_leakage,
    "input_scale": check_input_scale,
    "padding": check_padding,
    "initial_loss": check_initial_loss,
    "gradient_reach": check_gradient_reach,
    "overfit": check_overfit,
    "lr_range": check_lr_range,
    "throughput": check_throughput,
}

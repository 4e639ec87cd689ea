"""The operations of `recurrent` in ONNX, whose gates stand in another order."""

from typing import Any

from onnxscript import opset18 as op


def lstm(rows: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
    """ONNX: input, output, forget, cell; T before B."""
    weights = _ordered((weight_ih, weight_hh, bias_ih, bias_hh), gates=4, order=(0, 3, 1, 2))
    hidden = int(weight_hh.shape[1])
    states, _, _ = op.LSTM(op.Transpose(rows, perm=[1, 0, 2]), *weights, hidden_size=hidden)
    return _batch_first(states)


def gru(rows: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
    """ONNX: update, reset, new; the reset gate acts behind the recurrent product, as in torch."""
    weights = _ordered((weight_ih, weight_hh, bias_ih, bias_hh), gates=3, order=(1, 0, 2))
    hidden = int(weight_hh.shape[1])
    states, _ = op.GRU(op.Transpose(rows, perm=[1, 0, 2]), *weights, hidden_size=hidden, linear_before_reset=1)
    return _batch_first(states)


def _ordered(weights: tuple[Any, ...], *, gates: int, order: tuple[int, ...]) -> list[Any]:
    """W [1, gH, D], R [1, gH, H] and B [1, 2gH] of one direction."""
    parts = [op.Split(weight, axis=0, num_outputs=gates) for weight in weights]
    ordered = [op.Concat(*(part[number] for number in order), axis=0) for part in parts]
    axis: Any = op.Constant(value_ints=[0])
    return [
        op.Unsqueeze(ordered[0], axis),
        op.Unsqueeze(ordered[1], axis),
        op.Unsqueeze(op.Concat(ordered[2], ordered[3], axis=0), axis),
    ]


def _batch_first(states: Any) -> Any:
    """[T, 1, B, H] to [B, T, H]."""
    direction: Any = op.Constant(value_ints=[1])
    return op.Transpose(op.Squeeze(states, direction), perm=[1, 0, 2])

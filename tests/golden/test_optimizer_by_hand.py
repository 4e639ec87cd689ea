"""Which parameters decay and how fast each learns, and the first updates of every optimizer in plain float64 loops."""

from math import sqrt

import pytest
import torch
from torch import nn

from mmtrain.engine.optimizers import OPTIMIZERS
from mmtrain.engine.optimizers.adafactor import AdafactorConfig
from mmtrain.engine.optimizers.adagrad import AdagradConfig
from mmtrain.engine.optimizers.adam import AdamConfig
from mmtrain.engine.optimizers.adamw import AdamWConfig
from mmtrain.engine.optimizers.groups import parameter_groups
from mmtrain.engine.optimizers.schedule_free_adamw import ScheduleFreeAdamWConfig
from mmtrain.engine.optimizers.sgd import SGDConfig
from mmtrain.engine.text_layers import TextLayers
from mmtrain.errors import ConfigError
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.pooling.mean import MeanPoolingConfig


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.text = nn.ModuleDict({"table": nn.Embedding(5, 4), "layer": nn.Linear(4, 4)})
        self.norm, self.head, self.frozen = nn.LayerNorm(4), nn.Linear(4, 2), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


def groups_of(model, text, **settings):
    found = parameter_groups(model, text=text, lr=1.0, text_lr=0.1, weight_decay=0.3, **settings)
    return {group["name"]: group for group in found}


def test_only_matrices_decay_and_the_text_encoder_has_its_own_rate():
    model = Tiny()
    groups = groups_of(model, TextLayers(model.text, None, "albert"))
    held = {name: {id(parameter) for parameter in group["params"]} for name, group in groups.items()}
    text, table = model.text["layer"], model.text["table"]
    assert held == {
        "text.matrices": {id(text.weight)},
        "text.others": {id(text.bias), id(table.weight)},  # an embedding is a matrix that does not decay
        "model.matrices": {id(model.head.weight)},
        "model.others": {id(model.head.bias), id(model.norm.weight), id(model.norm.bias)},
    }
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "text.matrices": (0.1, 0.3),
        "text.others": (0.1, 0.0),
        "model.matrices": (1.0, 0.3),
        "model.others": (1.0, 0.0),
    }


class Marked(nn.Module):
    """Marks that it holds itself, beside layers: one of its own with a product inside, and torch's attention."""

    def __init__(self):
        super().__init__()
        self.marks, self.scale = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(4, 1, 1))
        self.layer, self.attention = nn.LSTM(4, 2), nn.MultiheadAttention(4, 2)


@pytest.mark.parametrize("is_text", [False, True])
def test_what_is_put_beside_the_rows_does_not_decay(is_text):
    model = Marked()
    found = groups_of(model, TextLayers(model, None, "xlnet") if is_text else None)
    owner = "text" if is_text else "model"
    matrices = {id(parameter) for parameter in found[f"{owner}.matrices"]["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in matrices}
    products = {"layer.weight_ih_l0", "layer.weight_hh_l0", "attention.in_proj_weight", "attention.out_proj.weight"}
    assert names == (products | {"marks", "scale"} if is_text else products)


def test_a_matrix_that_is_made_of_others_decays():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    found = groups_of(model, None)
    factors = model[0].parametrizations.weight
    assert [id(value) for value in found["model.matrices"]["params"]] == [id(factors.original0), id(factors.original1)]


@pytest.mark.parametrize("name", ["attention", "bottleneck", "perceiver"])
def test_marks_tokens_and_latents_of_a_fusion_do_not_decay(name):
    config = next(row for row in FUSIONS if row.model_fields["name"].default == name)()
    fusion = config.build(modalities=["audio", "video"], dim=8, pooling=MeanPoolingConfig())
    own = {id(value) for key, value in fusion.named_parameters() if key in ("query", "marks", "tokens", "latents")}
    decaying = {id(value) for value in groups_of(fusion, None)["model.matrices"]["params"]}
    assert own
    assert not own & decaying
    assert len(decaying) > 2


def test_lower_layers_of_a_bert_learn_slower(tiny_bert):
    from mmtrain.models.encoders.hub import load_encoder, transformer_layers

    model = nn.ModuleDict(
        {"encoder": load_encoder(str(tiny_bert), weights="random", dropout=None), "head": nn.Linear(32, 2)}
    )
    encoder = model["encoder"]
    groups = groups_of(model, TextLayers(encoder, transformer_layers(encoder), "bert"), layer_decay=0.5)
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "text.embeddings.others": (0.025, 0.0),  # 0.1 / 2 / 2: two layers stand above
        "text.layer_1.matrices": (0.05, 0.3),
        "text.layer_1.others": (0.05, 0.0),
        "text.layer_2.matrices": (0.1, 0.3),
        "text.layer_2.others": (0.1, 0.0),
        "model.matrices": (1.0, 0.3),
        "model.others": (1.0, 0.0),
    }
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    for name, group in groups.items():
        if name.startswith("text.layer_"):
            assert len(group["params"]) == (6 if name.endswith("matrices") else 10)
            assert all(f"layer.{int(name[11]) - 1}." in names[id(parameter)] for parameter in group["params"])
    assert len(groups["text.embeddings.others"]["params"]) == 5  # three tables, the norm's gain and bias
    assert sum(len(group["params"]) for group in groups.values()) == len(list(model.parameters()))


def test_what_stands_behind_the_layers_learns_as_the_top_one_does():
    encoder = nn.ModuleDict({"table": nn.Embedding(3, 2), "layers": nn.ModuleList([nn.Linear(2, 2)])})
    encoder["norm"], encoder["relative"] = nn.LayerNorm(2), nn.Embedding(4, 2)
    groups = groups_of(encoder, TextLayers(encoder, encoder["layers"], "x"), layer_decay=0.5)
    assert {name: (group["lr"], len(group["params"])) for name, group in groups.items()} == {
        "text.embeddings.others": (0.05, 2),
        "text.layer_1.matrices": (0.1, 1),
        "text.layer_1.others": (0.1, 1),
        "text.top.others": (0.1, 2),
    }


def test_an_encoder_without_layers_cannot_decay_by_them():
    model = Tiny()
    message = r"training.optimizer.layer_decay: albert encoders have no separate layers; write 1"
    with pytest.raises(ConfigError, match=message):
        groups_of(model, TextLayers(model.text, None, "albert"), layer_decay=0.9)


W, GRADIENTS = [[2.0, -1.0], [0.5, 3.0]], ([[4.0, -0.5], [1.0, 0.25]], [[-1.0, 2.0], [0.5, 0.125]])
B, B_GRADIENTS = [1.0, -2.0], ([0.5, -0.25], [1.0, 2.0])


def updated(config):
    """Matrix and bias after two steps, the second at half the rate."""
    model = nn.Linear(2, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor(W))
        model.bias.copy_(torch.tensor(B))
    optimizer = config.build(model, text=None)
    for number in range(2):
        model.weight.grad = torch.tensor(GRADIENTS[number], dtype=torch.float64)
        model.bias.grad = torch.tensor(B_GRADIENTS[number], dtype=torch.float64)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = config.lr / 2
    if isinstance(config, ScheduleFreeAdamWConfig):
        optimizer.eval()
    return [*model.weight.flatten().tolist(), *model.bias.tolist()]


def each(rule, decay):
    """A rule over one number and its two gradients, over all six numbers; the bias does not decay."""
    flat = [[value for row in rows for value in row] for rows in (W, *GRADIENTS)]
    matrix = [rule(value, [first, second], decay) for value, first, second in zip(*flat, strict=True)]
    return matrix + [rule(value, list(pair), 0.0) for value, *pair in zip(B, *B_GRADIENTS, strict=True)]


def adam(value, gradients, decay, *, decoupled):
    mean = square = 0.0
    for t, given in enumerate(gradients, 1):
        lr, gradient = 0.1 / t, given if decoupled else given + decay * value
        value -= lr * decay * value if decoupled else 0.0
        mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
        value -= lr * mean / (1 - 0.8**t) / (sqrt(square / (1 - 0.9**t)) + 1e-3)
    return value


def test_adamw_and_adam():
    settings = {"lr": 0.1, "weight_decay": 0.5, "betas": (0.8, 0.9), "eps": 1e-3}
    for config, decoupled in ((AdamWConfig(**settings), True), (AdamConfig(**settings), False)):
        expected = each(lambda *given, decoupled=decoupled: adam(*given, decoupled=decoupled), 0.5)
        assert updated(config) == pytest.approx(expected, rel=1e-12)


def test_adagrad():
    def rule(value, gradients, decay):
        total = 0.25
        for t, given in enumerate(gradients, 1):
            gradient = given + decay * value
            total += gradient**2
            value -= 0.1 / t * gradient / (sqrt(total) + 1e-3)
        return value

    config = AdagradConfig(lr=0.1, weight_decay=0.5, initial_sum=0.25, eps=1e-3)
    assert updated(config) == pytest.approx(each(rule, 0.5), rel=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov):
    def rule(value, gradients, decay):
        speed = 0.0
        for t, given in enumerate(gradients, 1):
            gradient = given + decay * value
            speed = 0.8 * speed + gradient
            value -= 0.1 / t * (gradient + 0.8 * speed if nesterov else speed)
        return value

    config = SGDConfig(lr=0.1, weight_decay=0.5, momentum=0.8, nesterov=nesterov)
    assert updated(config) == pytest.approx(each(rule, 0.5), rel=1e-12)


def test_sgd_without_momentum_is_the_plain_step_and_nesterov_is_refused_there():
    found = updated(SGDConfig(lr=0.1, momentum=0.0))
    assert found[0] == pytest.approx(2.0 - 0.1 * 4.0 + 0.05 * 1.0)
    with pytest.raises(ValueError, match="nesterov: needs a momentum above 0"):
        SGDConfig(momentum=0.0, nesterov=True)


def adafactor(values, gradients, decay):
    """Algorithm 4 over a matrix as rows, or over a vector as one row; `values` are changed in place."""
    rows, columns, is_matrix = len(values), len(values[0]), len(values) > 1
    row, column = [0.0] * rows, [0.0] * columns
    squares = [0.0] * columns
    for t, gradient in enumerate(gradients, 1):
        lr, new = 0.02 / t, t**-0.8
        size = sqrt(sum(value**2 for line in values for value in line) / (rows * columns))
        step = max(1e-3, size) * min(lr, 1 / sqrt(t))
        values = [[value * (1 - lr * decay) for value in line] for line in values]
        if is_matrix:
            row = [old + new * (sum(g**2 for g in line) / columns - old) for old, line in zip(row, gradient, strict=True)]
            means = [sum(line[j] ** 2 for line in gradient) / rows for j in range(columns)]
            column = [old + new * (mean - old) for old, mean in zip(column, means, strict=True)]
            moments = [[r * c / (sum(row) / rows) for c in column] for r in row]
        else:
            squares = [old + new * (g**2 - old) for old, g in zip(squares, gradient[0], strict=True)]
            moments = [squares]
        update = [[g / sqrt(v) for g, v in zip(*lines, strict=True)] for lines in zip(gradient, moments, strict=True)]
        clipped = max(1.0, sqrt(sum(u**2 for line in update for u in line) / (rows * columns)))
        values = [
            [w - step * u / clipped for w, u in zip(*lines, strict=True)] for lines in zip(values, update, strict=True)
        ]
    return [value for line in values for value in line]


def test_adafactor():
    expected = adafactor(W, GRADIENTS, 0.5) + adafactor([B], [[line] for line in B_GRADIENTS], 0.0)
    assert updated(AdafactorConfig(lr=0.02, weight_decay=0.5)) == pytest.approx(expected, rel=1e-9)


def test_schedule_free_adamw_gives_the_average():
    pytest.importorskip("schedulefree")

    def rule(value, gradients, decay):
        y = z = x = value
        square = weights = 0.0
        for t, gradient in enumerate(gradients, 1):
            lr = 0.1 / t
            square = 0.9 * square + 0.1 * gradient**2
            z -= lr * (gradient / (sqrt(square / (1 - 0.9**t)) + 1e-3) + decay * y)
            weights += 0.1**2  # the largest rate so far, squared
            x += 0.1**2 / weights * (z - x)
            y = 0.2 * z + 0.8 * x
        return x

    config = ScheduleFreeAdamWConfig(lr=0.1, weight_decay=0.5, betas=(0.8, 0.9), eps=1e-3)
    assert updated(config) == pytest.approx(each(rule, 0.5), rel=1e-9)


def test_schedule_free_adamw_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "schedulefree", None)
    message = r"schedule_free_adamw needs schedulefree, which this Python lacks: pip install 'mmtrain\[schedule-free\]'"
    with pytest.raises(ConfigError, match=message):
        ScheduleFreeAdamWConfig().build(nn.Linear(2, 2), text=None)


@pytest.mark.parametrize("row", OPTIMIZERS)
def test_what_has_no_gradient_stays_as_it_is(row):
    if row is ScheduleFreeAdamWConfig:
        pytest.importorskip("schedulefree")
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    optimizer = row(weight_decay=0.5).build(model, text=None)
    before = [value.detach().clone() for value in model.parameters()]
    for value in model[1].parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    assert [torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)] == [True, True, False, False]

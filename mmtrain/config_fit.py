"""Whether the sections of an experiment fit together: a line for each thing that does not, beginning with its key."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from mmtrain.config_errors import nearest
from mmtrain.config_sections import BatchConfig, DatasetConfig, SelectionConfig, StreamConfig, TaskConfig
from mmtrain.config_training import TrainingConfig
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.pacing import PacingConfig
from mmtrain.curriculum.pacing.difficulty.running import RunningConfig
from mmtrain.curriculum.pacing.loss_quantile import LossQuantileConfig
from mmtrain.curriculum.pacing.self_paced import SelfPacedConfig
from mmtrain.curriculum.pacing.self_paced_linear import SelfPacedLinearConfig
from mmtrain.curriculum.samplers.doremi import DoremiConfig
from mmtrain.curriculum.setting import Naming, Watching
from mmtrain.curriculum.weighting.gradients import GradientSection
from mmtrain.data.augment import AUGMENTATIONS, AugmentationConfig
from mmtrain.data.augment.protocol import Kind
from mmtrain.data.schema import TEXTS
from mmtrain.errors import ConfigError
from mmtrain.models.config import ModelConfig
from mmtrain.objectives.pretext import PretextConfig
from mmtrain.objectives.pretext.masked_modelling import MaskedModellingConfig
from mmtrain.objectives.regularizers import RegularizerConfig
from mmtrain.objectives.regularizers.r_drop import RDropConfig

Streams = Mapping[str, StreamConfig]
Pretext = Mapping[str, PretextConfig]


def stream_complaints(streams: Streams, datasets: Mapping[str, DatasetConfig], model: ModelConfig) -> Iterator[str]:
    """Streams of data sets, tasks or modalities that are not there, or are there twice."""
    learned: dict[tuple[str, str], str] = {}
    for name, stream in streams.items():
        if stream.dataset not in datasets:
            yield f"streams.{name}.dataset: no dataset '{stream.dataset}'{nearest(stream.dataset, datasets)}"
        for task in stream.tasks:
            other = learned.setdefault((stream.dataset, task), name)
            if other != name:
                yield f"streams.{name}.tasks: '{task}' of dataset '{stream.dataset}' is in the stream '{other}' already"
        for task in sorted({task for task in stream.tasks if stream.tasks.count(task) > 1}):
            yield f"streams.{name}.tasks: '{task}' stands here twice"
        for modality in stream.modalities or ():
            if modality not in model.modalities:
                yield f"streams.{name}.modalities: the model reads no '{modality}'{nearest(modality, model.modalities)}"


def task_complaints(tasks: Mapping[str, TaskConfig], pretext: Pretext, learned: Collection[str]) -> Iterator[str]:
    """Settings of tasks that no stream learns."""
    for task in tasks:
        if task in pretext:
            yield f"tasks.{task}: this is a pretext task; all that it has to say stands under pretext.{task}"
        elif task not in learned:
            yield f"tasks.{task}: no stream has this task{nearest(task, learned)}"


def watched_by(
    selection: SelectionConfig, training: TrainingConfig, curriculum: CurriculumConfig, tasks: Sequence[str]
) -> list[tuple[str, str]]:
    """(key, metric) of all that reads the evaluations of a run of these tasks."""
    schedule = training.schedule
    watched = schedule.watched_metrics(tasks) if isinstance(schedule, Watching) else []
    return [
        ("selection.metric", selection.metric),
        *((f"training.schedule.{key}", metric) for key, metric in watched),
        *curriculum.watched_metrics(tasks),
    ]


def metric_complaints(watched: Iterable[tuple[str, str]], streams: Streams) -> Iterator[str]:
    """Metrics of tasks that no stream has, which are known before any store is opened."""
    owners: dict[str, list[str]] = {}
    for name, stream in streams.items():
        for task in stream.tasks:
            owners.setdefault(task, []).append(name)
    for where, metric in watched:
        if metric == "val/loss":
            continue
        split, _, rest = metric.partition("/")
        task, at, stream_name = rest.partition("/")[0].partition("@")
        if split != "val" or "/" not in rest:
            yield f"{where}: no metric '{metric}'; write val/loss, or val/<task>/<metric> of one of {', '.join(owners)}"
        elif task not in owners:
            yield f"{where}: no metric '{metric}', since no stream has the task '{task}'{nearest(task, owners)}"
        elif at and stream_name not in owners[task]:
            yield f"{where}: no metric '{metric}', since '{task}' is of other streams{nearest(stream_name, owners[task])}"


def name_complaints(curriculum: CurriculumConfig, streams: Streams, tasks: Sequence[str]) -> Iterator[str]:
    """Streams and tasks that parts of the curriculum name and that are not there, or that they leave out."""
    for key in ("sampler", "schedule", "weighting"):
        part = getattr(curriculum, key)
        if isinstance(part, Naming):
            try:
                part.check_names(tuple(streams), tasks)
            except ConfigError as error:
                yield f"curriculum.{key}: {error}"


def augmentation_complaints(
    augmentation: Mapping[str, Mapping[str, AugmentationConfig]], model: ModelConfig
) -> Iterator[str]:
    """Augmentations of what is not read, or is of another kind."""
    for modality, rows in augmentation.items():
        if modality not in model.modalities:
            yield f"augmentation.{modality}: the model reads no '{modality}'{nearest(modality, model.modalities)}"
            continue
        kind: Kind = "text" if modality in TEXTS else "images" if modality in model.images else "features"
        known = ", ".join(row.model_fields["name"].default for row in AUGMENTATIONS if row.reads == kind)
        for name, row in rows.items():
            if row.reads != kind:
                where = f"augmentation.{modality}.{name}"
                yield f"{where}: {row.name} is for {row.reads}; for '{modality}' write one of {known}"
            elif kind == "text" and model.text is not None and model.text.cache:
                yield (
                    f"augmentation.{modality}.{name}: {row.name} changes texts, and model.text.cache holds whole ones; "
                    "leave it out, or write model.text.cache: false"
                )


def pretext_complaints(pretext: Pretext, streams: Streams, model: ModelConfig) -> Iterator[str]:
    """Pretext tasks that no stream has, or that the model or their streams cannot do."""
    learned = dict.fromkeys(task for stream in streams.values() for task in stream.tasks)
    for name, config in pretext.items():
        if name not in learned:
            yield f"pretext.{name}: no stream lists this task{nearest(name, learned)}"
        try:
            config.check(model.fused_modalities)
            if isinstance(config, MaskedModellingConfig):
                config.check_rows(model.fused_modalities, pooled=model.pooled_modalities, pixels=model.images)
        except ConfigError as error:
            yield f"pretext.{name}.{error}"
        if isinstance(config, MaskedModellingConfig) and model.text is not None and model.text.cache:
            for modality in set(config.hidden_of(model.fused_modalities)) & set(model.texts):
                yield (
                    f"pretext.{name}.modalities: of '{modality}' words are hidden, which the text encoder has to read; name "
                    "other modalities alone, or write model.text.cache: false"
                )
        for stream_name, stream in streams.items():
            lacking = [task for task in config.needed_tasks if name in stream.tasks and task not in stream.tasks]
            if lacking:
                yield f"streams.{stream_name}.tasks: '{name}' learns from the labels of '{lacking[0]}'; list it here too"


def training_complaints(training: TrainingConfig, curriculum: CurriculumConfig, model: ModelConfig) -> Iterator[str]:
    """Cadences that do not meet, and unfreezing of what is not there or frozen otherwise."""
    every, window = training.eval_every, curriculum.window
    if every is not None and every % window:
        yield (
            f"training.eval_every: {every} is not a multiple of curriculum.window ({window}): evaluations fall on "
            f"window borders; write {max(every // window, 1) * window}, or another window"
        )
    if training.compile and isinstance(curriculum.weighting, GradientSection):
        yield (
            f"training.compile: {curriculum.weighting.name} goes through the model's graph once for every task, which a "
            "compiled one does not allow; write false, or a weighting of losses"
        )
    if training.unfreeze is None:
        return
    text = model.text
    if text is None:
        yield "training.unfreeze: the model reads no text; write null"
    elif text.trainable_layers is not None:
        yield f"training.unfreeze: model.text.trainable_layers is {text.trainable_layers}; write null for one of them"
    elif text.lora is not None:
        yield "training.unfreeze: model.text.lora trains adapters alone; write null for one of them"


def batch_complaints(batch: BatchConfig, pretext: Pretext) -> Iterator[str]:
    """A budget where it matters which samples share a forward pass."""
    for name in pretext if batch.tokens is not None else ():
        yield (
            f"batch.tokens: the loss of pretext task '{name}' is reckoned among the samples of a forward pass, which a "
            "budget makes few and of like length; write batch.micro, which leaves them mixed"
        )


def rivals(pretext: Pretext, curriculum: CurriculumConfig, regularizers: Mapping[str, RegularizerConfig]) -> Iterator[str]:
    """Components that cannot stand beside each other."""
    weighting = curriculum.weighting
    if pretext and isinstance(weighting, GradientSection) and weighting.over == "representation":
        yield (
            f"curriculum.weighting.over: {weighting.name} compares gradients at the joint vectors, and pretext tasks "
            "do not pass through them; write parameters"
        )
    comparing = [name for name, row in pretext.items() if row.compares]
    if comparing and _listens(curriculum.pacing):
        yield (
            f"curriculum.pacing: {curriculum.pacing.name} goes by each sample's own loss, and that of pretext task "
            f"'{comparing[0]}' is as high as the company of its forward pass makes it; write another pacing or difficulty"
        )
    if comparing and isinstance(curriculum.sampler, DoremiConfig):
        yield (
            f"curriculum.sampler: doremi takes a loss less a reference, and that of pretext task '{comparing[0]}' grows "
            "with the number of samples of the stream in a forward pass; write another sampler"
        )
    r_drops = [name for name, config in regularizers.items() if isinstance(config, RDropConfig)]
    for name in r_drops if pretext else ():
        yield f"regularizers.{name}: r_drop reads each sample twice, which pretext tasks would compare; leave it out"
    if len(r_drops) > 1:
        yield f"regularizers.{r_drops[1]}: r_drop stands under '{r_drops[0]}' already; its strength is one number"


def _listens(pacing: PacingConfig) -> bool:
    """Whether it goes by the losses of the run itself."""
    difficulty = getattr(pacing, "difficulty", None)
    return isinstance(difficulty, RunningConfig) or isinstance(
        pacing, SelfPacedConfig | SelfPacedLinearConfig | LossQuantileConfig
    )

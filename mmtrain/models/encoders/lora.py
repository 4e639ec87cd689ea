"""Low-rank adapters in a pretrained text encoder: its own weights stand still, small matrices beside them learn."""

from typing import Any

from pydantic import Field
from torch import nn

from mmtrain.errors import ConfigError
from mmtrain.extras import require
from mmtrain.section import Section


class LoraConfig(Section):
    """LoRA (Hu et al. 2022, equation 3): W x + (alpha / rank) B A x with W frozen; B begins at zero."""

    rank: int = Field(default=8, ge=1, description="Rows of A and columns of B.")
    alpha: float = Field(default=16.0, gt=0, description="The adapters count alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Before A; a probability.")
    targets: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Last names of the linear layers that get one; null: peft's usual ones."
    )

    def attach(self, encoder: Any) -> None:
        """Put adapters into the encoder, in place, and freeze all else of it.

        Errors: ConfigError where peft is not installed, knows no usual layers of this encoder, or a target is not there.
        """
        require("LoRA", ["peft"], extra="lora")
        from peft import LoraConfig as Adapters  # slow to import
        from peft import inject_adapter_in_model

        found = sorted({name.split(".")[-1] for name, part in encoder.named_modules() if isinstance(part, nn.Linear)})
        kind, known = encoder.config.model_type, ", ".join(found)
        for target in self.targets or ():
            if target not in found:
                raise ConfigError(f"text.lora.targets: this {kind} encoder has no linear layer '{target}'; it has {known}")
        config = Adapters(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=None if self.targets is None else list(self.targets),
        )
        try:
            inject_adapter_in_model(config, encoder)
        except ValueError:  # no entry for this kind in peft's table
            raise ConfigError(
                f"text.lora.targets: peft knows no usual layers of {kind} encoders; name some of {known}"
            ) from None

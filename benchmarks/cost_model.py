"""What a step costs on many GPUs, on paper: compute, the gradient's all-reduce, and loading, as far as they are not hidden.

docs/scaling.md explains the terms; `python -m benchmarks.bench_scale` prints its tables from here. Seconds, bytes, FLOP/s.
"""

from dataclasses import dataclass
from math import log2

BUCKET = 25 * 2**20  # bytes of gradient that DDP reduces at a time
STATE = 16  # bytes a trained parameter: weight, gradient and AdamW's two moments, in float32


@dataclass(frozen=True)
class Machine:
    """A GPU and what connects it, from its vendor's tables; `utilization` and `bus` say how much of that is reached."""

    name: str
    peak: float  # FLOP/s of dense products in bf16
    memory: float
    inside: float  # bytes/s that a GPU sends to the others of its node
    between: float  # bytes/s that a node sends to others, over all its adapters
    per_node: int = 8
    utilization: float = 0.4
    bus: float = 0.8
    latency: float = 1e-5  # seconds a hop


A100 = Machine("A100", peak=312e12, memory=80e9, inside=300e9, between=8 * 25e9)
H100 = Machine("H100", peak=989e12, memory=80e9, inside=450e9, between=8 * 50e9)
SLOW = Machine("A100, 100 Gbit/s a node", peak=312e12, memory=80e9, inside=300e9, between=12.5e9)
MACHINES = (A100, SLOW, H100)


@dataclass(frozen=True)
class Work:
    """A model and its samples: a text encoder of `layers` x `width`, and the rest (fusion, other encoders, heads)."""

    layers: int
    width: int
    vocabulary: int
    rest: int  # parameters
    tokens: int  # of a sample

    @property
    def products(self) -> int:
        """Parameters of the encoder that every token is multiplied with: 4 d^2 of attention and 8 d^2 behind it a layer."""
        return 12 * self.layers * self.width**2

    @property
    def parameters(self) -> int:
        """All that is trained; biases and norms (under 0.1 %) are left out."""
        return self.products + (self.vocabulary + 512) * self.width + self.rest

    @property
    def flops(self) -> float:
        """Of a sample, forward and backward: 6 N a token (Kaplan et al. 2020, 2.1), and 12 l d T for its scores."""
        linear = 6.0 * (self.products + self.rest) * self.tokens
        return linear + 12.0 * self.layers * self.width * self.tokens**2

    def activations(self, heads: int = 12) -> float:
        """Bytes a sample that the backward pass needs of the encoder, 16 bits a number (Korthikanti et al. 2022, eq. 1)."""
        return self.layers * self.tokens * self.width * (34 + 5 * heads * self.tokens / self.width)


@dataclass(frozen=True)
class Step:
    """Seconds of one optimizer step; a process waits for `total`."""

    compute: float
    communication: float
    loading: float
    total: float

    @property
    def bottleneck(self) -> str:
        """What the step waits for besides computing, if it waits for anything at all."""
        waits = {"network": self.exposed_communication, "loading": self.total - self.compute - self.exposed_communication}
        name = max(waits, key=lambda key: waits[key])
        return name if waits[name] > 0.05 * self.total else "compute"

    @property
    def exposed_communication(self) -> float:
        """What the backward pass, two thirds of the computing, does not hide."""
        return exposed(self.communication, behind=2 / 3 * self.compute)


def exposed(seconds: float, *, behind: float) -> float:
    """What is left of something that runs beside something else."""
    return max(0.0, seconds - behind)


def all_reduce(size: float, processes: int, machine: Machine) -> float:
    """Sum `size` bytes over all processes: 2 (p - 1) / p of them pass the slowest link of a ring (Patarasu and Yuan 2009).

    Every bucket besides waits for 2 log2(p) hops, as in the trees that NCCL takes where p is large.
    """
    if processes == 1:
        return 0.0
    link = machine.inside if processes <= machine.per_node else min(machine.inside, machine.between)
    hops = 2 * log2(processes) * machine.latency * max(1.0, size / BUCKET)
    return 2 * (processes - 1) / processes * size / (link * machine.bus) + hops


def step(work: Work, machine: Machine, *, processes: int, samples: int, rate: float) -> Step:
    """`samples` of each process a step; `rate`: samples a second that its loader reads."""
    compute = samples * work.flops / (machine.peak * machine.utilization)
    communication = all_reduce(4.0 * work.parameters, processes, machine)
    waits = exposed(communication, behind=2 / 3 * compute)
    loading = samples / rate
    return Step(compute, communication, loading, compute + waits + exposed(loading, behind=compute + waits))

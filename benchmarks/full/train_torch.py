"""Full scale in PyTorch: one process, or as many as torchrun starts, each with its part of every batch."""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import distributed
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from benchmarks.full.batches import Batch
from benchmarks.full.config import Config
from benchmarks.full.models_torch import Network
from benchmarks.full.run import same_run
from samfamily.division import division
from samfamily_torch import SharpnessAware


class Trainer:
    """A network in training; see `run`."""

    def __init__(self, config: Config, place: Path, device: str | None, devices: int | None) -> None:
        if devices is not None:
            raise ValueError(f"--devices {devices}: PyTorch takes one for each process; start them with torchrun")
        self.config, self.file = config, place / "checkpoint.pt"
        self.device, self.part = _joined(device)
        torch.manual_seed(config.training["seed"])
        examples = config.training["batch"] // self.part[1]
        self.network = Network(config.plan, division(config.training["m"], examples, self.part[1]).shards).to(
            self.device
        )
        self.parameters = sum(p.numel() for p in self.network.parameters())
        spread = self.part[1] > 1
        self.model: torch.nn.Module = DistributedDataParallel(self.network) if spread else self.network
        training = config.training
        self.base = torch.optim.SGD(
            self.network.parameters(),
            lr=training["learning_rate"],
            momentum=training["momentum"],
            weight_decay=training["weight_decay"],
            nesterov=training["nesterov"],
        )
        self.base.register_step_pre_hook(self._clip)
        self.optimizer = SharpnessAware(self.base, config.variant, model=self.model)
        self.done = 0
        if self.file.exists():
            self._restore()

    def step(self, batch: Batch, learning_rate: float) -> torch.Tensor:
        """Take a step and return the loss before it."""
        self.model.train()
        for group in self.base.param_groups:
            group["lr"] = learning_rate
        loss: torch.Tensor = self.optimizer.step(self._closure, batch=self._moved(batch))
        return loss

    @torch.no_grad()
    def wrong(self, found: Iterable[Batch]) -> int:
        """How many of these images, and those of the other processes, the network gets wrong."""
        self._agree()
        self.network.eval()
        count = torch.zeros((), dtype=torch.int64, device=self.device)
        for batch in found:
            images, labels = self._moved(batch)
            count += (self.network(images).argmax(1) != labels).sum()
        if self.part[1] > 1:
            distributed.all_reduce(count)
        return int(count)

    def save(self) -> None:
        """Keep weights, statistics, the optimizer's state and how far it has come; the first process writes."""
        kept = {
            "config": self.config.plain(),
            "done": self.done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.part[0] == 0:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self.file.with_suffix(".unfinished")
            torch.save(kept, unfinished)
            unfinished.replace(self.file)

    def close(self) -> None:
        """Leave the other processes."""
        if self.part[1] > 1:
            distributed.barrier()
            distributed.destroy_process_group()

    def _restore(self) -> None:
        kept = torch.load(self.file, map_location=self.device, weights_only=True)
        same_run(kept["config"], self.config, self.file.parent)
        self.network.load_state_dict(kept["network"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.done = kept["done"]

    @torch.no_grad()
    def _agree(self) -> None:
        """Take the mean of what the processes know of the batches, since each has seen its own part of them."""
        for buffer in self.network.buffers():
            if self.part[1] > 1 and buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer.div_(self.part[1])

    def _closure(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(images), labels, label_smoothing=self.config.training["label_smoothing"])
        loss.backward()
        return loss

    def _clip(self, *_: object) -> None:
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.training["clip"])

    def _moved(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = (torch.from_numpy(x).to(self.device, non_blocking=True) for x in batch)
        return images.permute(0, 3, 1, 2).contiguous(), labels


def _joined(device: str | None) -> tuple[torch.device, tuple[int, int]]:
    """The device of this process, and which process of how many it is, once it has joined the others."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return torch.device(device), (0, 1)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return torch.device(device), (distributed.get_rank(), distributed.get_world_size())

"""Train a small convolutional network on MNIST-1D with SAM, in Lightning's automatic optimisation.

python examples/train_lightning.py --accumulate 2 --epochs 5
"""

import argparse
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.data import load
from benchmarks.network import initial_weights
from benchmarks.network_torch import Network
from samfamily_torch import SAM, SharpnessAware
from samfamily_torch.lightning import SharpnessAwareMixin


class Classifier(pl.LightningModule):
    """A network, its loss and its optimizer; all but `SharpnessAware` is as it would be without SAM."""

    def __init__(self, network: torch.nn.Module, rho: float, lr: float) -> None:
        super().__init__()
        self.network, self.rho, self.lr = network, rho, lr

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return the loss at the weights, wherever they are."""
        loss = cross_entropy(self.network(batch[0]), batch[1])
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count what is classified wrongly."""
        self.log("error", (self.network(batch[0]).argmax(1) != batch[1]).float().mean())

    def configure_optimizers(self) -> SharpnessAware:
        """SGD with momentum that follows SAM."""
        base = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return SharpnessAware(base, SAM(rho=self.rho), model=self)

    def on_train_epoch_end(self) -> None:
        """Print loss and test error."""
        told = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch + 1}: loss {told['loss']:.4f}, test error {100 * told['error']:.1f} %")


class SharpnessAwareClassifier(SharpnessAwareMixin, Classifier):
    """The same, whose micro-batches share a perturbation: a class of its own, since the mixin wraps `training_step`."""


def main() -> None:
    """Train, and print loss and test error after each epoch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="times through the training data")
    parser.add_argument("--steps", type=int, help="stop each epoch after so many steps")
    parser.add_argument("--batch", type=int, default=64, help="examples to a micro-batch")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches to a step, and to a perturbation")
    parser.add_argument("--rho", type=float, default=0.1, help="radius of the neighbourhood")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    options = parser.parse_args()

    pl.seed_everything(0, verbose=False)
    inputs, labels, test_inputs, test_labels = map(torch.from_numpy, vars(load("mnist1d")).values())
    training = DataLoader(TensorDataset(inputs, labels), options.batch, shuffle=True, drop_last=True)
    testing = DataLoader(TensorDataset(test_inputs, test_labels), len(test_labels))
    network = Network(inputs.shape[1], initial_weights(inputs.shape[1], seed=0))
    quiet: Any = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=options.epochs, accumulate_grad_batches=options.accumulate,
        limit_train_batches=options.steps and options.steps * options.accumulate, num_sanity_val_steps=0, **quiet,
    )  # fmt: skip
    trainer.fit(SharpnessAwareClassifier(network, options.rho, options.lr), training, testing)
    print(f"{trainer.global_step} steps")


if __name__ == "__main__":
    main()

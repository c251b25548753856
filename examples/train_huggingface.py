"""Train a small convolutional network on MNIST-1D with SAM, in the Trainer of Hugging Face transformers.

python examples/train_huggingface.py --accumulate 2 --epochs 5
"""

import argparse
import tempfile
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.data import load
from benchmarks.network import initial_weights
from benchmarks.network_torch import Network
from samfamily_torch import SAM
from samfamily_torch.huggingface import SharpnessAwareMixin


class SharpnessAwareTrainer(SharpnessAwareMixin, Trainer):
    """The Trainer, whose optimizer follows a variant."""


class Classifier(Network):
    """The network, called as the Trainer calls a model."""

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> Any:  # type: ignore[override]
        """The loss, and the logits."""
        logits = super().forward(inputs)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class Printing(TrainerCallback):
    """Prints loss and test error of each epoch."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Print what was logged last, and what was measured now."""
        loss, error = state.log_history[-2]["loss"], kwargs["metrics"]["eval_error"]
        print(f"epoch {state.epoch:.0f}: loss {loss:.4f}, test error {100 * error:.1f} %")


def main() -> None:
    """Train, and print loss and test error after each epoch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="times through the training data")
    parser.add_argument("--steps", type=int, help="train on the data of so many steps alone")
    parser.add_argument("--batch", type=int, default=64, help="examples to a micro-batch")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches to a step, and to a perturbation")
    parser.add_argument("--rho", type=float, default=0.1, help="radius of the neighbourhood")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    options = parser.parse_args()

    data = load("mnist1d")
    count = options.steps and options.steps * options.batch * options.accumulate
    training = [{"inputs": x, "labels": y} for x, y in zip(data.inputs[:count], data.labels[:count], strict=True)]
    testing = [{"inputs": x, "labels": y} for x, y in zip(data.evaluation_inputs, data.evaluation_labels, strict=True)]
    length = data.inputs.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=options.epochs, per_device_train_batch_size=options.batch, use_cpu=True,
            gradient_accumulation_steps=options.accumulate, dataloader_drop_last=True, optim="sgd",
            optim_args="momentum=0.9", learning_rate=options.lr, lr_scheduler_type="constant", logging_strategy="epoch",
            eval_strategy="epoch", per_device_eval_batch_size=len(testing), save_strategy="no", report_to=[],
            disable_tqdm=True, remove_unused_columns=False, log_level="error",
        )  # fmt: skip
        trainer: Any = SharpnessAwareTrainer(
            model=Classifier(length, initial_weights(length, seed=0)), args=arguments, train_dataset=training,
            eval_dataset=testing, callbacks=[Printing()], variant=SAM(rho=options.rho),
            compute_metrics=lambda found: {"error": (found.predictions.argmax(1) != found.label_ids).mean()},
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    print(f"{trainer.state.global_step} steps")


if __name__ == "__main__":
    main()

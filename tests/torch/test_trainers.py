"""Other people's training loops: Hugging Face's Trainer and Accelerate, Lightning, Hogwild."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import adamite.torch as ours

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of these libraries' own
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "DISABLE_TELEMETRY"):
    os.environ.setdefault(variable, "1")


# ---- transformers and accelerate


def language_model() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    )


class Words(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = torch.randint(0, 50, (12,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


def trainer(library: Any, folder: Path, steps: int) -> Any:
    from transformers import Trainer, TrainingArguments, get_linear_schedule_with_warmup

    model = language_model()
    optimizer = library.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_grad_norm=0.5,
        logging_steps=1,
        save_steps=3,
        report_to=[],
        use_cpu=True,
        seed=0,
        disable_tqdm=True,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 6)
    return Trainer(model, arguments, train_dataset=Words(), optimizers=(optimizer, schedule))


def losses(trained: Any) -> list[float]:
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def test_transformers_trainer(tmp_path: Path) -> None:
    found = {}
    for label, library in (("theirs", torch.optim), ("ours", ours)):
        loop = trainer(library, tmp_path / label, 6)
        loop.train()
        found[label] = losses(loop)
    assert len(found["ours"]) == 6
    assert found["ours"] == pytest.approx(found["theirs"], rel=1e-4)
    again = trainer(ours, tmp_path / "ours", 6)
    again.train(resume_from_checkpoint=str(tmp_path / "ours" / "checkpoint-3"))
    assert losses(again)[-3:] == pytest.approx(found["ours"][-3:], rel=1e-5)


def test_accelerate() -> None:
    from accelerate import Accelerator

    found = []
    for library in (torch.optim, ours):
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        torch.manual_seed(0)
        model: Any = nn.Linear(4, 2)
        optimizer: Any = library.AdamW(model.parameters(), lr=0.05)
        scheduler: Any = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
        data: Any = DataLoader(TensorDataset(x), batch_size=4)
        model, optimizer, data, scheduler = accelerator.prepare(model, optimizer, data, scheduler)
        for _ in range(3):
            for (batch,) in data:
                with accelerator.accumulate(model):
                    accelerator.backward(model(batch).square().mean())
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), 0.1)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
        found.append([p.detach() for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-5)


# ---- lightning


def module(library: Any, manual: bool) -> Any:
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
            self.automatic_optimization = not manual

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.net(batch[0]).square().mean()
            if manual:
                optimizer: Any = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = library.NAdam(self.parameters(), lr=0.02)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    return Module()


def fit(made: Any, folder: Path, epochs: int, **options: Any) -> None:
    from lightning.pytorch import Trainer

    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))
    loop = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"enable_checkpointing": False, **options},
    )
    checkpoint = folder / "last.ckpt"
    loop.fit(
        made, DataLoader(TensorDataset(x), batch_size=6), ckpt_path=str(checkpoint) if checkpoint.exists() else None
    )
    if options.get("enable_checkpointing"):
        loop.save_checkpoint(checkpoint)


@pytest.mark.parametrize("manual", [False, True])
def test_lightning(manual: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {} if manual else {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2}
    made = [module(library, manual) for library in (torch.optim, ours)]
    for one in made:
        fit(one, tmp_path, 3, **options)
    for a, b in zip(*(one.parameters() for one in made), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_lightning_resumes(tmp_path: Path) -> None:
    through = module(ours, False)
    (tmp_path / "through").mkdir()
    fit(through, tmp_path / "through", 4)
    (tmp_path / "broken").mkdir()
    fit(module(ours, False), tmp_path / "broken", 2, enable_checkpointing=True)
    resumed = module(ours, False)
    fit(resumed, tmp_path / "broken", 4, enable_checkpointing=True)
    for a, b in zip(through.parameters(), resumed.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6)


# ---- processes that share a model


def hogwild(model: nn.Module, optimizer: Any, rank: int) -> None:
    torch.set_num_threads(1)
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(rank))
    for _ in range(30):
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()


def test_hogwild() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    model.share_memory()
    optimizer: Any = ours.Adagrad(model.parameters(), lr=0.3)
    optimizer.share_memory()
    context = torch.multiprocessing.get_context("spawn")
    workers = [context.Process(target=hogwild, args=(model, optimizer, rank)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
        assert worker.exitcode == 0
    assert torch.allclose(model.weight, torch.ones(1, 3), atol=0.1)
    # Both processes counted into the same number, as far as their steps didn't fall together.
    assert 30 <= optimizer.state[model.weight]["step"] <= 60

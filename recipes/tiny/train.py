"""Train the network for a given time: Muon for the matrices, AdamW for the embedding and the norms."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import Rows
from errors import RecipeError
from model import WORKING_TYPE, Config, Tiny
from torch import Tensor, nn

BATCH_TOKENS = 6144  # of a batch, padding counted
WARMUP_STEPS = 40
STEADY_SHARE = 0.45  # of the time, before the rate falls
LAST_SCALE = 0.02  # of the rate, at the end
ADAM_RATE = 0.004
MOMENTUM = 0.95
WEIGHT_DECAY = 0.02
STEPS_PER_REPORT = 50
STEPS_PER_CHECKPOINT = 500


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass of training: how long, how fast, and where its weights come from and go to."""

    minutes: float
    matrix_rate: float  # Muon's learning rate
    output: Path
    resume: Path | None = None


def train(rows: Rows, phase: Phase, config: Config) -> None:
    """Train until the phase's time is over; its output is written on the way and at the end."""
    torch.manual_seed(0)
    rng = random.Random(0)
    model = Tiny(config)
    if phase.resume is not None:
        model.load_state_dict(load_weights(phase.resume))
    optimizer = Optimizer(model, phase.matrix_rate)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size / 1e6:.2f} M parameters, {len(rows)} rows", flush=True)

    progress = Progress(time.monotonic(), phase.minutes * 60)
    for ids, learned in _endless_batches(rows, rng):
        elapsed = progress.elapsed_share()
        if elapsed >= 1:
            break
        scale = rate_scale(progress.steps, elapsed)
        loss = _loss(model, ids, learned)
        loss.backward()
        optimizer.step(scale)
        progress.count(loss.item(), ids.numel())
        if progress.steps % STEPS_PER_REPORT == 0:
            print(progress.report(scale), flush=True)
        if progress.steps % STEPS_PER_CHECKPOINT == 0:
            save_weights(model, phase.output)
    save_weights(model, phase.output)
    print(f"saved {phase.output} after {progress.steps} steps", flush=True)


def _loss(model: Tiny, ids: Tensor, learned: Tensor) -> Tensor:
    """Mean cross-entropy of the learned tokens; ids and learned are (B, T)."""
    keep = learned[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=WORKING_TYPE is torch.bfloat16):
        logits = model(ids[:, :-1], keep)
    return F.cross_entropy(logits.float(), ids[:, 1:][keep])


def rate_scale(step: int, elapsed: float) -> float:
    """The learning rate's factor: up over the first steps, level, then down to nearly nothing with the time."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    if elapsed < STEADY_SHARE:
        return warmup
    return warmup * max(LAST_SCALE, 1 - (elapsed - STEADY_SHARE) / (1 - STEADY_SHARE))


class Optimizer:
    """Muon (Jordan et al., 2024) for the matrices of the blocks, AdamW for every other parameter."""

    def __init__(self, model: nn.Module, matrix_rate: float) -> None:
        parameters = list(model.named_parameters())
        self._matrices = [p for name, p in parameters if p.ndim == 2 and "emb" not in name]
        self._momenta = [torch.zeros_like(matrix) for matrix in self._matrices]
        self._matrix_rate = matrix_rate
        others = [p for name, p in parameters if p.ndim != 2 or "emb" in name]
        self._adam = torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def step(self, scale: float) -> None:
        """Apply the gradients at ``scale`` times the learning rates, and clear them."""
        self._step_matrices(self._matrix_rate * scale)
        for group in self._adam.param_groups:
            group["lr"] = ADAM_RATE * scale
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _step_matrices(self, rate: float) -> None:
        for matrix, momentum in zip(self._matrices, self._momenta, strict=True):
            assert matrix.grad is not None
            momentum.mul_(MOMENTUM).add_(matrix.grad)
            ahead = matrix.grad.add(momentum, alpha=MOMENTUM)
            shape_scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
            matrix.mul_(1 - rate * WEIGHT_DECAY)
            matrix.add_(orthogonalise(ahead), alpha=-rate * shape_scale)
            matrix.grad = None


def orthogonalise(gradient: Tensor, steps: int = 5) -> Tensor:
    """Nearly the closest semi-orthogonal matrix (M, N), by Muon's Newton-Schulz iteration."""
    x = gradient / (gradient.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def _endless_batches(rows: Rows, rng: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches(rows, rng)


def batches(rows: Rows, rng: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Every row once, as ids and learned (B, T), T the longest of the batch; shorter rows end in zeros."""
    lengths = rows.lengths.tolist()
    for group in _group(lengths, rng):
        width = max(lengths[index] for index in group)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        learned = torch.zeros(len(group), width, dtype=torch.bool)
        for place, index in enumerate(group):
            tokens, marks = rows.row(index)
            ids[place, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
            learned[place, : len(marks)] = torch.from_numpy(marks)
        yield ids, learned


def _group(lengths: list[int], rng: random.Random) -> list[list[int]]:
    """Rows of about one length together, as many as a batch holds; the groups in random order."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index] // 16, rng.random()))
    groups: list[list[int]] = []
    group: list[int] = []
    width = 0
    for index in order:
        width = max(width, lengths[index])
        if group and width * (len(group) + 1) > BATCH_TOKENS:
            groups.append(group)
            group, width = [], lengths[index]
        group.append(index)
    groups.append(group)
    rng.shuffle(groups)
    return groups


@dataclass(slots=True)
class Progress:
    started: float  # on the monotonic clock
    duration_s: float
    steps: int = 0
    tokens: int = 0
    loss: float | None = None  # smoothed

    def elapsed_share(self) -> float:
        """How much of the time is over; 1 and more at the end."""
        return (time.monotonic() - self.started) / self.duration_s

    def count(self, loss: float, tokens: int) -> None:
        self.loss = loss if self.loss is None else 0.97 * self.loss + 0.03 * loss
        self.steps += 1
        self.tokens += tokens

    def report(self, scale: float) -> str:
        rate = self.tokens / (time.monotonic() - self.started)
        return (
            f"step {self.steps}  loss {self.loss:.4f}  rate x {scale:.2f}  "
            f"{self.tokens / 1e6:.2f} M tokens, {rate:.0f} a second"
        )


def save_weights(model: nn.Module, path: Path) -> None:
    """The parameters as arrays, by their names; the old file stays until the new one is whole."""
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)


def load_weights(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except FileNotFoundError as exc:
        raise RecipeError(f"{path} does not exist; try: --first train") from exc

"""Tiny's network: a decoder-only transformer of the Qwen3 family.

RMSNorm, rotary positions that rotate halves, grouped-query attention with normalised queries and keys, SwiGLU, and
tied embeddings. It is trained on a CPU, under bfloat16 autocast where the CPU is good at that: then the norms return bfloat16
for the matrices after them.

The short attribute names are the keys of the weight files; ``export.py`` says what GGUF calls each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Without AVX-512 bfloat16 is emulated, a hundred times slower than float32.
WORKING_TYPE = torch.bfloat16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else torch.float32
SHORT_ROW = 192  # tokens; up to here attention is written out


@dataclass(frozen=True, slots=True)
class Config:
    vocabulary_size: int = 2048
    width: int = 256
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2  # heads of keys and values; each serves heads / kv_heads heads of queries
    head_width: int = 64
    feed_forward: int = 512
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    longest_row: int = 4096  # tokens that rotary positions are tabled for


class RMSNorm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) of any type to the working type, reckoned in float32."""
        x = x.float()
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon)
        return (x * scale * self.weight).to(WORKING_TYPE)


class Attention(nn.Module):
    mask: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.head_width = config.head_width
        self.queries_per_key = config.heads // config.kv_heads
        self.q = nn.Linear(config.width, config.heads * config.head_width, bias=False)
        self.k = nn.Linear(config.width, config.kv_heads * config.head_width, bias=False)
        self.v = nn.Linear(config.width, config.kv_heads * config.head_width, bias=False)
        self.o = nn.Linear(config.heads * config.head_width, config.width, bias=False)
        mask = torch.full((SHORT_ROW, SHORT_ROW), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)
        self.qn = RMSNorm(config.head_width, config.norm_epsilon)
        self.kn = RMSNorm(config.head_width, config.norm_epsilon)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Causal attention over x (B, T, width); cos and sin are (T, head_width)."""
        batch, length, _ = x.shape
        split = (batch, length, -1, self.head_width)
        q = _rotate(self.qn(self.q(x).view(split)).transpose(1, 2), cos, sin)  # (B, heads, T, head_width)
        k = _rotate(self.kn(self.k(x).view(split)).transpose(1, 2), cos, sin)  # (B, kv_heads, T, head_width)
        v = self.v(x).view(split).transpose(1, 2)  # (B, kv_heads, T, head_width)
        k = k.repeat_interleave(self.queries_per_key, 1)
        v = v.repeat_interleave(self.queries_per_key, 1)
        if length <= SHORT_ROW:  # the fused kernel's backward pass is slow on short rows
            scores = torch.matmul(q * self.head_width**-0.5, k.transpose(-1, -2)) + self.mask[:length, :length]
            y = scores.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(batch, length, -1))


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.n1 = RMSNorm(config.width, config.norm_epsilon)
        self.n2 = RMSNorm(config.width, config.norm_epsilon)
        self.attn = Attention(config)
        self.gate = nn.Linear(config.width, config.feed_forward, bias=False)
        self.up = nn.Linear(config.width, config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, T, width) to the same shape."""
        x = x + self.attn(self.n1(x), cos, sin)
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Tiny(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.emb = nn.Embedding(config.vocabulary_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_epsilon)
        nn.init.normal_(self.emb.weight, std=0.02)
        for block in self.blocks:  # every block begins as the identity
            nn.init.zeros_(block.attn.o.weight)
            nn.init.zeros_(block.down.weight)
        angles = _rotary_angles(config)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """The logits after ids (B, T): (B, T, vocabulary), or (kept, vocabulary) where keep (B, T) is true."""
        x = self.emb(ids)
        length = ids.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        x = self.norm(x)
        if keep is not None:
            x = x[keep]
        return x @ self.emb.weight.T


def _rotary_angles(config: Config) -> Tensor:
    """(longest_row, head_width): position times frequency, the frequencies twice over."""
    frequencies = config.rope_base ** (-torch.arange(0, config.head_width, 2) / config.head_width)
    angles = torch.outer(torch.arange(config.longest_row), frequencies)
    return torch.cat((angles, angles), -1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, heads, T, head_width) turned by its positions, dimension i together with i + head_width / 2."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin

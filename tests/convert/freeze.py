"""Make the folders in ``published/``: small random models as transformers saves them, and what transformers computes with them.

Run by hand, in an environment with torch, transformers, peft, tokenizers and sentencepiece; tests need none of them:

    python -m tests.convert.freeze

The weights are far from what training gives, but large enough that every part of a model changes its logits.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import peft
import sentencepiece
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.convert.texts import TEXTS

OUT = Path(__file__).parent / "published"
VOCABULARY = 384
PADDED = 392  # more embeddings than tokens
LENGTHS = (1, 2, 7, 40, 300)
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
)
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
SMALL = {
    "vocab_size": PADDED,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    llama3 = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    model = save("llama", transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, rope_parameters=llama3)))
    byte_pairs("llama", WORDS % r"\p{N}{1,3}", ignore_merges=True, begins=True)
    adapter("llama-lora", model)
    mistral = transformers.MistralConfig(**SMALL, head_dim=16, sliding_window=None)
    save("mistral", transformers.MistralForCausalLM(mistral), shard="60KB")
    byte_pairs("mistral", CASED + SPACES, ignore_merges=True, begins=True)
    save("llama2", transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)))
    pieces("llama2", prefix=True)
    save("qwen2", transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SMALL, tie_word_embeddings=True)))
    byte_pairs("qwen2", WORDS % r"\p{N}", ignore_merges=False, begins=False)
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    save("qwen3", transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SMALL, head_dim=16, rope_parameters=yarn)))
    byte_pairs("qwen3", WORDS % r"\p{N}", ignore_merges=False, begins=False)
    gemma(transformers.Gemma2ForCausalLM, transformers.Gemma2Config, "gemma2", layers=3)
    rope = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 100000.0},
    }
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    gemma(
        transformers.Gemma3ForCausalLM,
        transformers.Gemma3TextConfig,
        "gemma3",
        layers=4,
        layer_types=kinds,
        rope_parameters=rope,
    )
    random = np.random.default_rng(3)
    longrope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256,
        "short_factor": list(1 + random.random(6)), "long_factor": list(1 + 8 * random.random(6)),
    }  # fmt: skip
    phi = transformers.Phi3Config(
        **SMALL, original_max_position_embeddings=256, rope_parameters=longrope, sliding_window=None
    )
    save("phi3", transformers.Phi3ForCausalLM(phi))
    pieces("phi3", prefix=True)


def gemma(model: type, config: type, name: str, *, layers: int, **more: object) -> None:
    sizes = SMALL | {"num_hidden_layers": layers, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 24}
    save(name, model(config(**sizes, **more)))
    pieces(name, prefix=False)


def save(name: str, model: torch.nn.Module, shard: str = "1GB") -> torch.nn.Module:
    """The folder ``name``, with the logits at the ends of random prompts."""
    torch.manual_seed(len(name))
    is_gemma = name.startswith("gemma")
    for key, parameter in model.named_parameters():
        with torch.no_grad():
            if parameter.ndim == 1 and "norm" in key:
                parameter.copy_(torch.randn_like(parameter) * 0.3 + (0 if is_gemma else 1))
            elif parameter.ndim == 1:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
            else:
                parameter.copy_(
                    torch.randn_like(parameter) * (0.3 if "embed" in key else 1.2 / parameter.shape[1] ** 0.5)
                )
    model.eval()
    model.save_pretrained(OUT / name, max_shard_size=shard)
    (OUT / name / "generation_config.json").unlink(missing_ok=True)
    freeze(name, model)
    return model


def freeze(name: str, model: torch.nn.Module) -> None:
    random = np.random.default_rng(1)
    frozen = {}
    for length in LENGTHS:
        prompt = random.integers(3, VOCABULARY, length)
        with torch.no_grad():
            logits = model(torch.tensor(prompt[None]), use_cache=False).logits[0, -1]
        frozen[f"prompt{length}"], frozen[f"logits{length}"] = prompt.astype(np.int32), logits.float().numpy()
    np.savez(OUT / name / "frozen.npz", **frozen)


def adapter(name: str, model: torch.nn.Module) -> None:
    """A LoRA for ``model``, saved without it, and what both give together."""
    torch.manual_seed(5)
    matrices = ["q_proj", "k_proj", "v_proj", "down_proj"]
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=3, lora_alpha=5, target_modules=matrices, init_lora_weights=False)
    )
    adapted.eval()
    adapted.save_pretrained(OUT / name)
    (OUT / name / "README.md").unlink(missing_ok=True)
    freeze(name, adapted)


def byte_pairs(name: str, split: str, *, ignore_merges: bool, begins: bool) -> None:
    """``tokenizer.json`` of a vocabulary of byte pairs."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split if split.endswith(SPACES) else split + SPACES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1,
        special_tokens=["<|begin|>", "<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    tokenizer.add_tokens(["<think>"])
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing("<|begin|> $A", None, [("<|begin|>", 0)])
    tokenizer.save(str(OUT / name / "tokenizer.json"))
    settings = {"bos_token": "<|begin|>", "eos_token": {"content": "<|end|>"}, "pad_token": "<|pad|>"}
    (OUT / name / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "{{ messages }}"}))


def pieces(name: str, *, prefix: bool) -> None:
    """``tokenizer.model``, and how SentencePiece cuts the texts."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        bos_id=0,
        eos_id=1,
        unk_id=2,
        # Behind such a symbol the engine puts a space again where it puts one before a text.
        user_defined_symbols=[] if prefix else ["<start_of_turn>", "\t\t"],
        minloglevel=2,
    )
    (OUT / name / "tokenizer.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    (OUT / name / "frozen.json").write_text(json.dumps([processor.encode(text) for text in TEXTS]))
    if name == "llama2":
        merges_of(processor).save(str(OUT / name / "tokenizer.json"))
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (OUT / name / "tokenizer_config.json").write_text(json.dumps(settings))


def merges_of(processor: sentencepiece.SentencePieceProcessor) -> Tokenizer:
    """The same tokeniser as pairs to merge: those whose piece has the highest score first."""
    vocabulary = {processor.id_to_piece(number): number for number in range(processor.vocab_size())}
    merges = [
        (piece[:at], piece[at:])
        for piece in sorted(vocabulary, key=lambda piece: -processor.get_score(vocabulary[piece]))
        if not processor.is_byte(vocabulary[piece]) and not processor.is_control(vocabulary[piece])
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return tokenizer


if __name__ == "__main__":
    main()

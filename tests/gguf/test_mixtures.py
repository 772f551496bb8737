"""Which format each tensor gets: against what llama.cpp itself said (``llama_cpp.json``), and rules worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from corral.errors import QuantizationError
from corral.gguf import read_gguf
from corral.gguf.mixtures import MIXTURES, Hyperparameters, hyperparameters, mixture, tensor_types
from tests.gguf.freeze import FROZEN, in_order, summary
from tests.gguf.mixture_models import MODELS, tensor, transformer

LLAMA_CPP = json.loads(FROZEN.read_text())["types"]


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("label", MODELS)
def test_tensors_get_the_formats_that_llama_cpp_gives_them(label: str, name: str) -> None:
    model, tensors = MODELS[label]
    target = mixture(name)
    types = tensor_types(tensors, model, target)
    ours = {one.name: types[one.name] for one in in_order(tensors)}
    assert summary(ours, target.tensor_type) == LLAMA_CPP[label][name]


def test_the_order_in_the_file_changes_nothing() -> None:
    model, tensors = MODELS["shared values"]
    for name in MIXTURES:
        assert tensor_types(tensors, model, mixture(name)) == tensor_types(tensors[::-1], model, mixture(name))


# By hand, from the rules: llama.cpp's own table of models knows no Qwen of this size.
@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("Q4_K_M", 0, "Q6_K"),
        ("Q4_K_M", 10, "Q5_K"),
        ("Q4_K_S", 50, "Q5_K"),
        ("Q2_K", 3, "Q5_K"),
        ("Q3_K_M", 70, "Q5_K"),
    ],
)
def test_the_few_values_of_a_model_of_72_billion_get_more(name: str, layer: int, expected: str) -> None:
    model, tensors = transformer("qwen2", 80, kv_heads=1)
    assert tensor_types(tensors, model, mixture(name))[f"blk.{layer}.attn_v.weight"] == expected


@pytest.mark.parametrize("name", MIXTURES)
def test_what_has_one_dimension_keeps_its_format(name: str) -> None:
    norm = tensor("blk.0.attn_norm.weight", 512, type_name="F32")
    bias = tensor("blk.0.attn_q.bias", 512, type_name="F32")
    assert set(tensor_types([norm, bias], Hyperparameters("llama", 1), mixture(name)).values()) == {"F32"}


@pytest.mark.parametrize("arrays", [True, False])
@pytest.mark.parametrize("layers", [2, 80])
def test_of_a_number_for_each_layer_the_first_counts(tmp_path: Path, layers: int, arrays: bool) -> None:
    path = tmp_path / "layers.gguf"
    writer = gguf.GGUFWriter(path, "deci")
    writer.add_block_count(layers)
    writer.add_head_count([32] * layers)
    writer.add_head_count_kv([8, *[0] * (layers - 1)])
    writer.add_expert_count(4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = hyperparameters(read_gguf(path, arrays=arrays))
    assert found == Hyperparameters("deci", layers, 4, 32, 8)
    assert found.queries_per_value == 4


@pytest.mark.parametrize(
    ("asked", "name", "number"), [("q4_k", "Q4_K_M", 15), ("q8_0", "Q8_0", 7), ("bf16", "BF16", 32)]
)
def test_mixtures_are_found_by_what_people_write(asked: str, name: str, number: int) -> None:
    found = mixture(asked)
    assert (found.name, found.number) == (name, number)


@pytest.mark.parametrize("asked", ["nosuch", "", "Q9_K", "IQ1_S"])
def test_an_unknown_mixture_is_an_error_that_lists_those_there_are(asked: str) -> None:
    with pytest.raises(QuantizationError) as refused:
        mixture(asked)
    assert str(refused.value) == (
        f"unsupported quantization type {asked.upper()} - supported types are F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_0, "
        "Q4_K_M, Q4_K_S, Q4_0, IQ4_XS, Q3_K_M, Q2_K"
    )


@pytest.mark.parametrize("name", ["ffn_down_exps.weight", "blk.2.ffn_down_exps.weight"])
def test_experts_of_no_known_layer_are_an_error(name: str) -> None:
    with pytest.raises(QuantizationError, match=r"the layer of the tensor .* cannot be told in 2 layers"):
        tensor_types([tensor(name, 512, 512, 4)], Hyperparameters("llama", 2, 4), mixture("Q4_K_M"))

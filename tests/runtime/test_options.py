from __future__ import annotations

import pytest

from corral.errors import InvalidRequest
from corral.runtime.options import Options, parse_options


def test_a_requests_options_win_over_the_models_own() -> None:
    options = parse_options({"temperature": 0}).over(parse_options({"temperature": 1, "top_k": 5}))
    sampling = options.sampling(num_ctx=128)
    assert (sampling.temperature, sampling.top_k) == (0.0, 5)


def test_defaults_are_ollamas() -> None:
    sampling = Options().sampling(num_ctx=128)
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.8, 40, 0.9, 0.0)
    assert (sampling.repeat_last_n, sampling.repeat_penalty, sampling.max_tokens) == (64, 1.0, None)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"temperature": True}, 'option "temperature" must be of type float32'),
        ({"num_predict": "x"}, 'option "num_predict" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"temperature": -1}, 'option "temperature" must be at least 0 and at most 100, not -1'),
        ({"top_p": 5}, 'option "top_p" must be at least 0 and at most 1, not 5'),
        ({"repeat_penalty": 0}, 'option "repeat_penalty" must be greater than 0 and at most 100, not 0'),
        ({"num_ctx": 0}, 'option "num_ctx" must be at least 4'),
        ({"num_ctx": 1e30}, 'option "num_ctx" must be at least 4'),
        ({"temperature": float("inf")}, "not inf"),
        ({"mirostat": 3}, 'option "mirostat" must be at least 0 and at most 2, not 3'),
        ({"xtc_probability": 2}, 'option "xtc_probability" must be at least 0 and at most 1, not 2'),
        ({"dry_base": 0.5}, 'option "dry_base" must be at least 1'),
        ({"dry_sequence_breakers": "x"}, 'option "dry_sequence_breakers" must be of type array'),
        ({"samplers": ["nope"]}, 'option "samplers" has "nope", which is none of penalties, dry'),
        ({"logit_bias": {"Hello": 1}}, "option \"logit_bias\" has 'Hello', which is no number of a token"),
        ({"logit_bias": {"5": 101}}, 'option "logit_bias" must be at least -100 and at most 100, not 101'),
        ({"logit_bias": [5]}, 'option "logit_bias" has 5, which is no pair'),
        ({"logit_bias": 5}, 'option "logit_bias" must be of an object of numbers'),
    ],
)
def test_a_wrong_value_is_refused_by_name(options: dict[str, object], error: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_options(options)
    assert error in str(refused.value)


def test_null_means_unset_and_unknown_names_are_reported() -> None:
    options = parse_options({"seed": None, "low_vram": True, "nonsense": None, "Temperature": 3})
    assert options.values == {}
    assert options.ignored == ("low_vram", "Temperature")


@pytest.mark.parametrize("limit", [2**31, 2**31 - 1, 2**40, 2**63 - 1])
def test_a_limit_past_any_context_is_none(limit: int) -> None:
    assert parse_options({"num_predict": limit}).sampling(num_ctx=128).max_tokens is None


def test_fractions_of_whole_numbers_are_cut_toward_zero() -> None:
    assert parse_options({"seed": 1.9, "num_predict": -1.5}).values == {"seed": 1, "num_predict": -1}


@pytest.mark.parametrize("limit", [0, -1, -2])
def test_no_limit_is_no_limit_however_it_is_written(limit: int) -> None:
    assert parse_options({"num_predict": limit}).sampling(num_ctx=128).max_tokens is None


def test_repeat_last_n_of_minus_one_is_the_context() -> None:
    assert parse_options({"repeat_last_n": -1}).sampling(num_ctx=777).repeat_last_n == 777


def test_an_empty_stop_string_is_none() -> None:
    assert parse_options({"stop": ["", "x"]}).sampling(num_ctx=1).stop == ("x",)


def test_a_batch_that_would_crash_the_engine_becomes_one_that_works() -> None:
    assert parse_options({"num_batch": 1}).wishes.batch == 64


def test_automatic_is_no_wish() -> None:
    wishes = parse_options({"num_gpu": -1, "num_thread": 0}).wishes
    assert (wishes.gpu_layers, wishes.threads) == (None, None)


def test_what_llama_cpp_knows_besides_reaches_it() -> None:
    given = {
        "top_n_sigma": 1.5, "xtc_probability": 0.5, "xtc_threshold": 0.1, "dry_multiplier": 0.8, "dry_base": 1.75,
        "dry_allowed_length": 2, "dry_penalty_last_n": -1, "dry_sequence_breakers": ["\n"], "dynatemp_range": 0.5,
        "dynatemp_exponent": 1.5, "mirostat": 2, "mirostat_tau": 4, "mirostat_eta": 0.2, "samplers": ["top_k", "temperature"],
        "logit_bias": {"7": -100, "8": False},
    }  # fmt: skip
    sampling = parse_options(given).sampling(num_ctx=99)
    for name, value in given.items():
        if name not in ("dry_penalty_last_n", "logit_bias"):
            assert getattr(sampling, name) == (tuple(value) if isinstance(value, list) else value), name
    assert sampling.dry_penalty_last_n == 99
    assert sampling.logit_bias == ((7, -100.0), (8, float("-inf")))
    assert parse_options({"logit_bias": [[7, 1], [8, False]]}).sampling(num_ctx=9).logit_bias[0] == (7, 1.0)

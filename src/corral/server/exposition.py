"""The server's numbers in Prometheus's formats. Imported by the first who asks for them, and the library with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import corral
from corral.runtime.numbers import Histogram, label
from corral.server.state import State


def exposition(state: State, models: frozenset[str], accept: str) -> tuple[bytes, str]:
    """All numbers of a server, and their content type. ``models`` are the labels that may appear."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Numbers(state, models))
    return encode(registry), content_type


class _Numbers(Collector):
    def __init__(self, state: State, models: frozenset[str]) -> None:
        self._state = state
        self._models = models

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("corral_build", "Which Corral this is.", {"version": corral.__version__})
        memory = psutil.Process().memory_info().rss
        yield GaugeMetricFamily(
            "corral_server_memory_bytes", "Resident memory of the server, engines not counted.", memory
        )
        yield from self._of_requests()
        yield from self._of_answers()
        yield from self._of_engines()
        yield from self._of_loads()
        transfers = CounterMetricFamily(
            "corral_transfer_bytes", "Bytes of models that were pulled and pushed.", labels=("direction",)
        )
        traffic = self._state.transfers.traffic
        transfers.add_metric(("pull",), traffic.pulled_bytes)
        transfers.add_metric(("push",), traffic.pushed_bytes)
        yield transfers

    def _of_requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "corral_requests", "Requests that were answered.", labels=("dialect", "model", "outcome")
        )
        for (dialect, model, outcome), count in self._state.requests.items():
            if not model or model in self._models:
                requests.add_metric((dialect, model, outcome), count)
        yield requests
        in_flight = self._state.inflight.num_requests
        yield GaugeMetricFamily("corral_requests_in_flight", "Requests that are being answered.", in_flight)
        waiting = self._state.pool.num_waiting
        yield GaugeMetricFamily("corral_queue_depth", "Requests that wait for room for their model.", waiting)
        wait = HistogramMetricFamily("corral_queue_wait_seconds", "How long requests waited for room for their model.")
        queue_wait = self._state.pool.numbers.queue_wait
        wait.add_metric((), queue_wait.buckets(), queue_wait.total)
        yield wait

    def _of_answers(self) -> Iterator[Metric]:
        numbers = self._state.pool.numbers
        yield self._histogram(
            "corral_time_to_first_token_seconds",
            "From the request to the first piece of its answer, loading included.",
            numbers.first_token,
        )
        yield self._counter("corral_prompt_tokens", "Tokens of prompts, cached ones included.", numbers.prompt_tokens)
        yield self._counter(
            "corral_cached_tokens", "Tokens of prompts that the engine had in memory.", numbers.cached_tokens
        )
        yield self._counter("corral_generated_tokens", "Tokens that were generated.", numbers.generated_tokens)
        yield self._counter(
            "corral_retries", "Requests that were begun again after their engine crashed.", numbers.retries
        )

    def _of_engines(self) -> Iterator[Metric]:
        loaded = [model for model in self._state.pool.loaded() if label(model.spec.name) in self._models]
        names = [label(model.spec.name) for model in loaded]
        yield GaugeMetricFamily("corral_engines", "Engines that run or are being started.", len(loaded))
        for name, text, values in (
            ("corral_engine_slots", "Requests that the engine can work on at a time.", [m.slots for m in loaded]),
            ("corral_engine_requests", "Requests that hold the engine.", [m.leases for m in loaded]),
            ("corral_engine_context_tokens", "Context of each slot.", [m.context for m in loaded]),
            ("corral_engine_memory_bytes", "Resident memory of the engine.", [m.memory_bytes for m in loaded]),
        ):
            yield self._gauge(name, text, zip(names, values, strict=True))
        loads = [(label(model.spec.name), model.load) for model in loaded if not model.loading]
        for name, text, of_load in (
            ("corral_engine_slots_in_use", "Requests that the engine works on.", attrgetter("slots_in_use")),
            ("corral_engine_pool_tokens", "Tokens that all sequences share.", attrgetter("pool_tokens")),
            ("corral_engine_pool_tokens_in_use", "Tokens that requests hold.", attrgetter("pool_in_use")),
            ("corral_engine_queue_depth", "Requests that wait for their turn.", attrgetter("queue")),
            ("corral_engine_paused", "Answers that wait to go on.", attrgetter("paused")),
        ):
            yield self._gauge(name, text, [(model, of_load(load)) for model, load in loads])
        numbers = self._state.pool.numbers
        yield self._counter("corral_pauses", "Answers that were paused for others.", numbers.pauses)
        yield self._counter(
            "corral_prefix_leaders",
            "Beginnings of prompts that were computed once for several.",
            numbers.prefix_leaders,
        )

    def _of_loads(self) -> Iterator[Metric]:
        numbers = self._state.pool.numbers
        loads = CounterMetricFamily("corral_model_loads", "Loads of models.", labels=("model", "outcome"))
        for (model, outcome), count in numbers.loads.items():
            if model in self._models:
                loads.add_metric((model, outcome), count)
        yield loads
        yield self._histogram("corral_model_load_seconds", "How long loads took that ended well.", numbers.load_times)
        yield self._counter("corral_evictions", "Models unloaded to make room for others.", numbers.evictions)
        yield self._counter("corral_engine_crashes", "Engines that ended unexpectedly.", numbers.crashes)

    def _gauge(self, name: str, text: str, values: Iterable[tuple[str, float]]) -> Metric:
        gauge = GaugeMetricFamily(name, text, labels=("model",))
        for model, value in values:
            gauge.add_metric((model,), value)
        return gauge

    def _counter(self, name: str, text: str, counts: Mapping[str, int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=("model",))
        for model, count in self._here(counts):
            family.add_metric((model,), count)
        return family

    def _histogram(self, name: str, text: str, histograms: Mapping[str, Histogram]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=("model",))
        for model in [model for model in histograms if model in self._models]:
            family.add_metric((model,), histograms[model].buckets(), histograms[model].total)
        return family

    def _here(self, counts: Mapping[str, int]) -> Iterable[tuple[str, int]]:
        return ((model, count) for model, count in counts.items() if model in self._models)

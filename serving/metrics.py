"""The lines of ``/metrics``, in the Prometheus text format.

BentoML's own request metrics are off: they take every path asked for as a label, so a hostile client could fill the memory.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.desk import Desk

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Requests:
    """Counts requests by address and status, and how long they took; an address that is not served counts as ``other``.

    Parameters
    ----------
    routes : the addresses that are served
    """

    def __init__(self, routes: Iterable[str]) -> None:
        self.routes = frozenset(routes)
        self.counts: dict[tuple[str, int], list[int]] = {}
        self.seconds: dict[tuple[str, int], float] = {}

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        key = (path if path in self.routes else "other", status)
        counts = self.counts.get(key)
        if counts is None:
            counts = self.counts[key] = [0] * (len(BUCKETS) + 1)
            self.seconds[key] = 0.0
        counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.seconds[key] += seconds


def text(desk: Desk, requests: Requests) -> bytes:
    """All lines, for one desk."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

    class State:
        """Reads the desk when it is asked to."""

        def collect(self) -> Iterable[Metric]:
            durations = HistogramMetricFamily(
                "foretune_request_seconds", "Requests by address and status", labels=["path", "status"]
            )
            for (path, code), counts in list(requests.counts.items()):
                total, buckets = 0, []
                for edge, count in zip((*map(str, BUCKETS), "+Inf"), list(counts), strict=True):
                    total += count
                    buckets.append((edge, float(total)))
                durations.add_metric([path, str(code)], buckets, requests.seconds[(path, code)])
            yield durations
            watch, snapshot = desk.watch, desk.watch.snapshot
            decisions = CounterMetricFamily("foretune_decisions", "Comparisons answered, by decision", labels=["decision"])
            for decision, count in desk.decided.items():
                decisions.add_metric([decision], count)
            yield decisions
            yield CounterMetricFamily("foretune_rankings", "Rankings answered", value=desk.rankings)
            yield CounterMetricFamily("foretune_answers_from_memory", "Comparisons answered from memory", value=desk.hits)
            info = GaugeMetricFamily("foretune_ranker_info", "The ranker that answers", labels=["name", "version", "source"])
            info.add_metric([snapshot.name, snapshot.version, snapshot.source], 1)
            yield info
            yield CounterMetricFamily("foretune_ranker_swaps", "Champions taken over since the start", value=watch.swaps)
            yield GaugeMetricFamily(
                "foretune_champion_refused",
                "1 while the champion is corrupt or incompatible",
                value=float(watch.refused is not None),
            )
            if watch.reachable is not None:
                yield GaugeMetricFamily("foretune_mlflow_reachable", "0 while MLflow is away", value=float(watch.reachable))
            jobs = GaugeMetricFamily("foretune_jobs", "Measurements by status", labels=["status"])
            for status, count in desk.jobs.counts().items():
                jobs.add_metric([status], count)
            yield jobs
            drift = desk.drift
            seen = CounterMetricFamily("foretune_feature_seen", "Sides of questions that had the feature", labels=["feature"])
            outside = CounterMetricFamily(
                "foretune_feature_outside", "Sides whose value lay outside the training range", labels=["feature"]
            )
            for name, count in drift.seen.items():
                seen.add_metric([name], count)
                outside.add_metric([name], drift.outside[name])
            yield seen
            yield outside
            judged = desk.ledger.judgement()
            yield GaugeMetricFamily("foretune_answers_judged", "Past answers whose outcomes are known", value=judged["judged"])
            if judged["judged"]:
                yield GaugeMetricFamily(
                    "foretune_answers_accuracy", "Share of past answers that were right", value=judged["accuracy"]
                )
                yield GaugeMetricFamily("foretune_answers_brier", "Brier score of past answers", value=judged["brier"])

    registry = CollectorRegistry(auto_describe=False)
    registry.register(State())  # type: ignore[arg-type]
    return bytes(generate_latest(registry))

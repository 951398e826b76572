"""Where the jobs of an extraction run: here, in worker processes, or on a Ray cluster. One method, `map`, for all three.

A backend runs `work(job)`, a generator, for each job, and yields (index of the job, item) as items come, in any order between
jobs. A worker that
dies (killed, out of memory) yields a `Crash` for its job; the other jobs go on. An exception that `work` raises ends the map.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from features.errors import UnknownNameError, UserError
from features.manifest import closest

J = TypeVar("J")
R = TypeVar("R")
Work = Callable[[J], Iterable[R]]


@dataclass(frozen=True)
class Crash:
    """The worker of a job ended without a word."""

    message: str


class Backend(Protocol):
    """`remote` is whether its workers may be on machines that do not share this one's files."""

    workers: int
    remote: bool

    def map(self, work: Callable[[J], Iterable[R]], jobs: Sequence[J]) -> Iterator[tuple[int, R | Crash]]: ...


class Inline:
    """In this process, one job after the other."""

    workers = 1
    remote = False

    def map(self, work: Callable[[J], Iterable[R]], jobs: Sequence[J]) -> Iterator[tuple[int, R | Crash]]:
        """Run the jobs in order."""
        for index, job in enumerate(jobs):
            for item in work(job):
                yield index, item


class Processes:
    """In spawned processes that live on from job to job; each has a share of the threads, and one GPU where there are any.

    Parameters
    ----------
    workers : None is one for each GPU, else half the processors
    gpus : names for CUDA_VISIBLE_DEVICES, dealt out in turn; empty for none
    """

    remote = False

    def __init__(self, workers: int | None = None, *, gpus: Sequence[str] = ()) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"{workers} workers", where="--workers", remedy="give at least 1")
        self.workers = workers or len(gpus) or max(1, (os.cpu_count() or 2) // 2)
        self.gpus = list(gpus)

    def map(self, work: Callable[[J], Iterable[R]], jobs: Sequence[J]) -> Iterator[tuple[int, R | Crash]]:
        """Run the jobs, each free worker taking the next."""
        count = min(self.workers, len(jobs))
        threads = max(1, (os.cpu_count() or 1) // max(count, 1))
        crew = [_Worker(work, threads, self.gpus[i % len(self.gpus)] if self.gpus else None) for i in range(count)]
        waiting = list(enumerate(jobs))[::-1]
        try:
            for worker in crew:
                worker.give(waiting)
            while busy := {worker.connection: worker for worker in crew if worker.index is not None}:
                for ready in wait(list(busy)):
                    worker = busy[ready]  # type: ignore[index]
                    yield from worker.take(waiting)
        finally:
            for worker in crew:
                worker.end()


class _Worker(Generic[J, R]):
    """One spawned process and the pipe to it."""

    def __init__(self, work: Callable[[J], Iterable[R]], threads: int, gpu: str | None) -> None:
        self.work, self.threads, self.gpu = work, threads, gpu
        self.index: int | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.work, self.threads, self.gpu), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, waiting: list[tuple[int, J]]) -> None:
        """Send the next job, if there is one."""
        self.index = None
        if waiting:
            self.index, job = waiting.pop()
            with contextlib.suppress(BrokenPipeError):  # a worker that died is seen when its answer is awaited
                self.connection.send(job)

    def take(self, waiting: list[tuple[int, J]]) -> Iterator[tuple[int, R | Crash]]:
        """What the worker has to say; a new job when it is done, a new process when it died."""
        assert self.index is not None
        try:
            kind, item = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            yield self.index, Crash(f"its worker process ended {how}; if that was for want of memory, use fewer workers")
            self.connection.close()
            self._start()
            self.give(waiting)
            return
        if kind == "raised":
            raise item
        if kind == "item":
            yield self.index, item
        else:
            self.give(waiting)

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.connection.close()
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(connection: Connection, work: Callable[[Any], Iterable[Any]], threads: int, gpu: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ["OMP_NUM_THREADS"] = str(
        min(threads, int(os.environ.get("OMP_NUM_THREADS") or threads))
    )  # torch reads it as it loads
    with contextlib.suppress(EOFError, OSError):  # the parent is gone: so are we
        while True:
            job = connection.recv()
            try:
                for item in work(job):
                    connection.send(("item", item))
            except OSError:
                raise
            except Exception as error:
                connection.send(("raised", error))
                return
            connection.send(("done", None))


class Ray:
    """On a Ray cluster (the one that RAY_ADDRESS names, else one of this machine): a task for each job, one GPU each where
    there are any.

    The workers write nothing: what they measure comes back and is kept here. The checkpoints' files must be where they can
    read them.
    """

    remote = True

    def __init__(self, workers: int | None = None, *, gpus: Sequence[str] = ()) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError("Ray is not installed", where="--backend ray", remedy="pip install 'foretune[ray]'")
        self.workers = workers or 1
        self.per_job = 1 if gpus else 0

    def map(self, work: Callable[[J], Iterable[R]], jobs: Sequence[J]) -> Iterator[tuple[int, R | Crash]]:
        """Run the jobs as the cluster has room."""
        import ray

        started = not ray.is_initialized()
        if started:
            path = os.pathsep.join(entry for entry in sys.path if entry)
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}},
            )
        try:
            remote = ray.remote(num_cpus=1, num_gpus=self.per_job, max_retries=0)(work).options(num_returns="streaming")
            pending = {remote.remote(job): index for index, job in enumerate(jobs)}
            while pending:
                ready, _ = ray.wait(list(pending), num_returns=1)
                for stream in ready:
                    try:
                        yield pending[stream], ray.get(next(stream))
                    except StopIteration:
                        pending.pop(stream)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause from None
                    except ray.exceptions.RayError as error:
                        first = (str(error).strip().splitlines() or ["no reason given"])[0]
                        yield pending.pop(stream), Crash(f"its Ray task ended: {first}")
        finally:
            if started:
                ray.shutdown()


BACKENDS: dict[str, type[Inline] | type[Processes] | type[Ray]] = {"inline": Inline, "process": Processes, "ray": Ray}


def backend(name: str, *, workers: int | None = None, device: str = "auto") -> Backend:
    """A backend by name. Raises UnknownNameError, and UserError where it is not installed."""
    if name not in BACKENDS:
        raise UnknownNameError(f"no backend named {name!r}", where="--backend", remedy=closest(name, BACKENDS))
    if name == "inline":
        return Inline()
    return Processes(workers, gpus=gpus(device)) if name == "process" else Ray(workers, gpus=gpus(device))


def gpus(device: str) -> list[str]:
    """The GPUs that workers may use, as CUDA_VISIBLE_DEVICES names them; none for another device."""
    if device != "auto" and not device.startswith("cuda"):
        return []
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]

"""Wiring: settings and applications in, a listening process out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import random
import signal
import socket
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import orjson
import uvicorn

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.known import OtherContracts, note_contracts
from bakehouse_schemas.errors import SettingsError
from bakehouse_schemas.loading import load_applications
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.private import make_home
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.process.spans import Tracer, open_tracer
from bakehouse_serving.api_keys import Authenticator
from bakehouse_serving.app import make_app
from bakehouse_serving.background import Background
from bakehouse_serving.dashboard.live import Live
from bakehouse_serving.dashboard.status import StatusReport
from bakehouse_serving.dashboard.view import dashboard_settings
from bakehouse_serving.explain.client import ExplainerClient
from bakehouse_serving.handles import raise_limit
from bakehouse_serving.hot.idempotency import ANSWERS_A_WRITE, IdempotencyCache
from bakehouse_serving.hot.one_write import OneWriteProtocol
from bakehouse_serving.hot.outcome_tokens import OutcomeTokens, token_secret
from bakehouse_serving.hot.request_timeout import RequestTimeout
from bakehouse_serving.hot.route import Route
from bakehouse_serving.hot.routes import HotRoutes, Receive, Scope, Send
from bakehouse_serving.hydration.lookup import Hydrator
from bakehouse_serving.policies.served import Served
from bakehouse_serving.policies.subscriber import Subscriber
from bakehouse_serving.spool.folder_lock import FolderLock, lock_orphans, lock_own_folder
from bakehouse_serving.spool.frames import Topic
from bakehouse_serving.spool.fsync import FsyncThread
from bakehouse_serving.spool.publisher import Publisher, connect, record_bytes, topics
from bakehouse_serving.spool.spool import Spool

log = logging.getLogger(__name__)

STATUS_EVERY_S = 1.0
DRAIN_S = 5.0  # at a stop, for Kafka to take what is left; the next start publishes the rest
UNREACHABLE_S = 1.0  # the same, where Kafka did not answer before either
# The publishing thread hands the interpreter over this often while it is busy: what a request
# may have to wait for it (Python's own default is ten times as long).
SWITCH_INTERVAL_S = 0.0005
# What libraries import where they first use it: that fails once file handles have run out.
USED_LATER = ("anyio._backends._asyncio", "encodings.idna", "numpy.ma")
GC_EVERY = 20_000  # objects made and not freed; Python's own is 700


@dataclass
class Process:
    """All parts of one serving process."""

    settings: Settings
    folder_lock: FolderLock
    spool: Spool
    fsync_thread: FsyncThread
    hot: HotRoutes
    report: StatusReport
    live: Live
    publisher: Publisher | None
    subscriber: Subscriber | None
    idempotency_caches: list[IdempotencyCache]
    other_contracts: list[OtherContracts]
    hydrators: list[Hydrator]
    tracer: Tracer | None
    explainer: ExplainerClient
    background: Background


def build(
    settings: Settings, applications: Sequence[Application], refs: Sequence[str] = ()
) -> Process:
    """Everything in place, nothing listening yet; needs no broker.

    Args:
        refs: the applications as they were named, for a process that loads them too.
    """
    make_home(settings.home)
    note_contracts(settings.home, applications)
    secret = token_secret(settings)
    root = settings.home / "spool"
    folder_lock = lock_own_folder(root)
    tracer = open_tracer(settings, "serving", process=folder_lock.process)
    spool = Spool(folder_lock.folder, limit_bytes=settings.spool_bytes, replay=folder_lock.rebooted)
    last_decisions = [
        orjson.loads(record.value) for record in spool.newest(Topic.DECISIONS, ANSWERS_A_WRITE)
    ]
    served: dict[str, Served] = {}
    routes: dict[str, Route] = {}
    for application in applications:
        name = application.name
        served[name] = Served(
            application,
            policies=settings.policies,
            cache=settings.home / "serving" / f"{name}.json",
            tracer=tracer,
        )
        served[name].restore()
        answers = IdempotencyCache(
            application.actions,
            folder=folder_lock.folder / "answers" / f"{name}-{application.contract}",
            span_s=settings.answer_memory_minutes * 60,
        )
        for contract in served[name].other_contracts.found:
            folder = folder_lock.folder / "answers" / f"{name}-{contract.fingerprint}"
            if folder.is_dir():
                answers.inherit(contract.actions, folder)
        answers.recover(
            event
            for event in last_decisions
            if event["application"] == name
            and application.actions.problem_with(event["action"], event.get("items")) is None
        )
        tokens = None if secret is None else OutcomeTokens(secret, name)
        routes[name] = Route(served[name], answers, tokens)
    publisher = subscriber = None
    try:
        settings.kafka_client()
    except SettingsError as error:
        log.warning("%s. Decisions are answered; events wait in the spool", error)
    else:
        orphans = [
            (other, Spool(other.folder, limit_bytes=settings.spool_bytes, replay=other.rebooted))
            for other in lock_orphans(root)
        ]
        publisher = Publisher(
            spool,
            topics=topics(settings),
            status_topic=settings.topic("status"),
            producer=lambda: connect(settings),
            orphans=orphans,
        )
        subscriber = Subscriber(settings, served, process=folder_lock.process)

    authenticator = Authenticator(settings.keys)

    async def beyond(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    most_record_bytes = record_bytes(settings) - 1024  # what Kafka adds to a value and its key
    hot = HotRoutes(
        beyond,
        routes,
        spool=spool,
        authenticator=authenticator,
        draw=random.Random().random,
        most_body_bytes=settings.max_body_bytes,
        most_record_bytes=most_record_bytes,
        tracer=tracer,
    )
    report = StatusReport(
        folder_lock.process,
        served=served,
        hot=hot,
        spool=spool,
        publisher=publisher,
        subscriber=subscriber,
        home=settings.home,
    )
    live = Live(report, served, dashboard_settings(settings))
    background = Background()
    explainer = ExplainerClient(settings, refs)
    app = make_app(
        served,
        report,
        live=live,
        spool=spool,
        most_body_bytes=settings.max_body_bytes,
        authenticator=authenticator,
        explainer=explainer,
        background=background,
    )
    idempotency_caches = [route.answers for route in routes.values()]
    hydrators = [one.hydrator for one in served.values() if one.hydrator is not None]
    for hydrator in hydrators:
        hydrator.start()
        background.watch("looking features up", hydrator.is_alive)
    # A request leaves no cycles behind; looking for some took a tenth of the CPU, and its pauses
    # were the longest. What is there now stays, so it need not be looked at again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_EVERY, 50, 100)
    fsync_thread = FsyncThread(spool, every_s=settings.spool_sync_s)
    return Process(
        settings,
        folder_lock,
        spool,
        fsync_thread,
        hot,
        report,
        live,
        publisher,
        subscriber,
        idempotency_caches,
        [one.other_contracts for one in served.values()],
        hydrators,
        tracer,
        explainer,
        background,
    )


class _Server(uvicorn.Server):
    """Uvicorn that announces itself, publishes its status, and exits 0 on a signal."""

    def __init__(self, config: uvicorn.Config, process: Process, url: str) -> None:
        super().__init__(config)
        self._process = process
        self._url = url
        self._heartbeat: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Uvicorn raises the signal again after its shutdown; events are drained after it here.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._process.report.url = self._url
        PhaseFile(self._process.settings.home, "serving").announce(READY, url=self._url)
        background = self._process.background
        process = self._process
        for thread in (process.fsync_thread, process.publisher, process.subscriber):
            if thread is not None:
                thread.start()
                background.watch(thread.name, thread.is_alive)
        if self._process.subscriber is not None:
            loader = self._process.subscriber.loader
            background.watch(loader.name, loader.is_alive)
        heartbeat = self._heartbeat = asyncio.create_task(self._beat())
        background.watch("heartbeat", lambda: not heartbeat.done())
        heartbeat.add_done_callback(self._note_end)

    def _note_end(self, heartbeat: asyncio.Task[None]) -> None:
        if not heartbeat.cancelled():  # as it is at a stop
            log.critical("the heartbeat ended", exc_info=heartbeat.exception())
            self._process.background.look()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._process.live.close()
        await super().shutdown(sockets=sockets)

    async def _beat(self) -> None:
        """The heartbeat: `status.v1` while anything happens, and what else is due each second."""
        background, request_timeout = self._process.background, RequestTimeout()
        while True:
            await asyncio.sleep(STATUS_EVERY_S)
            with background.turn("patience"):
                request_timeout.look(self.server_state.connections, time.monotonic())
            for cache in self._process.idempotency_caches:
                with background.turn("answer memory"):
                    cache.flush()
            with background.turn("contracts"):
                for one in self._process.other_contracts:
                    one.look()
            with background.turn("status"):
                self._report()
            with background.turn("live"):
                self._process.live.beat()
            background.look()

    def _report(self) -> None:
        report, publisher = self._process.report, self._process.publisher
        status = report.tick()
        if status is not None and publisher is not None:
            publisher.report(f"serving/{report.process}".encode(), orjson.dumps(status))


def serve(settings: Settings, refs: Sequence[str]) -> int:
    """Answer until SIGTERM or SIGINT; returns the exit status.

    Raises:
        SettingsError: the address can be reached by others, and no key is set.
        ApplicationError: an application cannot be loaded.
        OSError: the address is taken.
    """
    began = time.monotonic()
    settings.check_exposure()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    raise_limit()
    for name in USED_LATER:
        importlib.import_module(name)
    phase = PhaseFile(settings.home, "serving")
    phase.announce("loading applications")
    applications = [one.application for one in load_applications(refs).values()]
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        port = listener.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        process = build(settings, applications, refs)
        config = uvicorn.Config(
            process.hot,
            loop="auto",  # uvloop where there is one
            http=OneWriteProtocol,
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
        )
        log.info("listening %.1f s after the start", time.monotonic() - began)
        _Server(config, process, f"http://{host}:{port}").run(sockets=[listener])
    phase.announce("stopping")
    return _close(process)


def _close(process: Process) -> int:
    drained = True
    process.explainer.stop()
    if process.subscriber is not None:
        process.subscriber.stop()
    if process.publisher is not None:
        reachable = process.publisher.connected and not process.publisher.problem
        drained = process.publisher.stop(DRAIN_S if reachable else UNREACHABLE_S)
    if not drained:
        log.warning(
            "events are still in the spool (%d); the next start publishes them",
            process.spool.waiting,
        )
    for hydrator in process.hydrators:
        hydrator.stop()
    for cache in process.idempotency_caches:
        cache.close()
    process.fsync_thread.stop()
    process.spool.close()
    process.folder_lock.release()
    if process.tracer is not None:
        process.tracer.stop()
    return 0

"""Starts the parts of a stack, keeps them running, and stops them all.

    with Stack(["game.py"], settings, on_event=print) as stack:
        stack.wait("stream", timeout=120)
        ... stack.url, stack.kafka_bootstrap ...

Serving is started at once and answers while the rest is still loading; `with` waits for that
alone. Broker, stream and learner follow in the background.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from bakehouse.local.broker import Broker
from bakehouse.local.events import Events, OnEvent
from bakehouse.local.extras import require_agents, require_extras
from bakehouse.local.guard import Guard
from bakehouse.local.home import Run, hold
from bakehouse.local.jars import ensure_jars
from bakehouse.local.java import find_java
from bakehouse.local.part import Part, bound_log, exit_words, module_of
from bakehouse.local.ports import is_free, keep_ports
from bakehouse.local.topics import ensure_topics
from bakehouse_schemas.errors import BakehouseError, StackError
from bakehouse_schemas.loading import load_applications
from bakehouse_schemas.process.phase import PhaseFile
from bakehouse_schemas.process.settings import Settings

PARTS = ("serving", "stream", "learner")
# Serving first: it drains its spool into a broker that is still there. Those in one row together.
STOP_ORDER = (("serving",), ("learner", "stream"), ("broker",))
STOP_TIMEOUT_S = {"serving": 20.0, "learner": 30.0, "stream": 30.0, "broker": 20.0}
TICK_S, QUIET_TICK_S = 0.1, 0.5  # while a part is starting; when all are ready
LOG_CHECK_S = 60.0
SERVING_TIMEOUT_S = 60.0
BROKER_TIMEOUT_S = 120.0
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)


class Stack:
    """The local stack of one home, as a context manager.

    Args:
        refs: applications, as on the command line.
        settings: where `kafka_bootstrap` is None a broker is run in the home; port 0 becomes a
            free one, kept over restarts of the part and of the stack while it is free.
        on_event: told what happens, from a thread of its own.
        commands: part -> command line, in place of broker, serving, stream and learner.

    Raises:
        ApplicationError: from `with`: an application cannot be loaded; nothing was started.
        MissingDependency: from `with`: stream, learner or an agent needs what is not installed.
        HomeInUse: from `with`: another stack runs in this home.
        SettingsError: from `with`: serving would be open to others, and no key is set.
        StackError: from `with`: the port is taken, or serving does not come up; nothing is
            left running.
    """

    def __init__(
        self,
        refs: Sequence[str],
        settings: Settings,
        *,
        on_event: OnEvent | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._refs = list(refs)
        self._names: list[str] = []
        self._commands = commands
        self._on_event = on_event
        self._home = settings.home.resolve()
        self._settings = settings.model_copy(update={"home": self._home})
        self._ports: dict[str, int] = {}
        self._parts: dict[str, Part] = {}
        self._changed = threading.Condition(threading.RLock())  # guards the parts and what follows
        self._stopping = False
        self._failure: BakehouseError | None = None
        self._threads: list[threading.Thread] = []
        self._cleanup = ExitStack()
        self._started_at_ms = int(time.time() * 1000)

    # what others ask

    @property
    def url(self) -> str:
        """Serving's address."""
        with self._changed:
            serving = self._parts.get("serving")
            announced = serving.details.get("url") if serving else None
        if announced:
            return str(announced)
        host = self._settings.host
        return f"http://{'127.0.0.1' if host in ANY_ADDRESS else host}:{self._settings.port}"

    @property
    def kafka_bootstrap(self) -> str:
        """`host:port` of the broker that the parts use."""
        return self._settings.kafka_bootstrap or ""

    @property
    def settings(self) -> Settings:
        """As the parts got them: the ports chosen, the home absolute."""
        return self._settings

    def phases(self) -> dict[str, str]:
        """Part -> what it is busy with; `ready` when it is."""
        with self._changed:
            return {name: part.phase for name, part in self._parts.items()}

    def pids(self) -> dict[str, int]:
        """Part -> process id, of those that run."""
        with self._changed:
            processes = {name: part.process for name, part in self._parts.items()}
            return {name: p.pid for name, p in processes.items() if p and p.poll() is None}

    def wait(self, part: str, timeout: float) -> None:
        """Wait until a part is ready.

        Raises:
            StackError: it was given up, the stack failed, or `timeout` seconds have passed.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._is_ready(part) or self._problem(part) is not None, timeout
            )
            if (problem := self._problem(part)) is not None:
                raise problem
            if not done:
                raise StackError(
                    f"{part} was not ready within {timeout:.0f} s; it is at "
                    f"{self.phases().get(part, 'waiting')!r}. Its log is in {self._home / 'logs'}"
                )

    def wait_for_failure(self, timeout: float | None = None) -> BakehouseError | None:
        """Wait until the stack as a whole cannot go on; None when `timeout` has passed first."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None, timeout)
            return self._failure

    # what others do to a part

    def stop_part(self, part: str) -> None:
        """Stop a part in an orderly way, and leave it stopped."""
        self._stop_together([self._parts[part]])

    def restart(self, part: str) -> None:
        """Stop a part in an orderly way and start it again; `wait` tells when it is ready."""
        self.stop_part(part)
        with self._changed:
            self._start(self._parts[part])

    def kill(self, part: str) -> None:
        """Kill a part and all that it started, without warning; it is started again."""
        self.forgive(part)
        with self._changed:
            self._parts[part].kill()

    def forgive(self, part: str) -> None:
        """Forget how often a part has died: it was asked for, so no sign of a fault."""
        with self._changed:
            self._parts[part].rapid_deaths = 0

    # life

    def __enter__(self) -> Self:
        try:
            self._begin()
            if "serving" in self._parts:
                self.wait("serving", SERVING_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all parts, serving first and the broker last. A second Ctrl-C kills them."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        parts = list(self._parts.values())
        try:
            for row in range(len(STOP_ORDER) + 1):
                self._stop_together([part for part in parts if _stop_order(part.name) == row])
        except KeyboardInterrupt:
            for part in parts:
                part.kill()
                part.end(STOP_TIMEOUT_S["broker"])
        for thread in self._threads:
            thread.join(timeout=10)
        self._cleanup.close()

    def _begin(self) -> None:
        self._settings.check_exposure()  # else serving would refuse to start, five times
        if self._commands is None:  # what cannot be loaded here cannot be loaded by any part
            require_extras()
            applications = load_applications(self._refs)
            require_agents(applications.values())
            self._names = list(applications)
        lock = self._cleanup.enter_context(hold(self._home))
        self._choose_addresses()
        shutil.rmtree(self._home / "run", ignore_errors=True)  # the phases of the run before
        self._events = Events(
            self._on_event, self._home / "logs" / "supervisor.log", self._settings.log_format
        )
        self._cleanup.callback(self._events.close)
        self._guard = Guard(lock)
        self._cleanup.callback(self._guard.close)
        commands = self._commands or {
            part: [sys.executable, "-m", module_of(part), *self._refs] for part in PARTS
        }
        environment = os.environ | self._settings.as_environment() | {"PYTHONUNBUFFERED": "1"}
        self._parts = {
            name: Part(name, list(command), environment, self._home)
            for name, command in commands.items()
        }
        with self._changed:
            if "serving" in self._parts:
                self._start(self._parts["serving"])
            self._write_run()
        for work in (self._supervise, self._start_the_rest):
            thread = threading.Thread(target=work, name=work.__name__, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _choose_addresses(self) -> None:
        named = self._settings
        if named.port and not is_free(named.port, named.host):
            raise StackError(
                f"port {named.port} is taken by another program, and serving was to listen on "
                "it; nothing was started. Name another with --port (0: any free one)"
            )
        self._ports = keep_ports(self._home / "ports.json", ["serving", "broker", "controller"])
        embedded = f"127.0.0.1:{self._ports['broker']}"
        self._embedded_broker = named.kafka_bootstrap is None
        self._settings = named.model_copy(
            update={
                "port": named.port or self._ports["serving"],
                "kafka_bootstrap": named.kafka_bootstrap or embedded,
            }
        )

    def _start_the_rest(self) -> None:
        """Thread: Java, jars, broker, topics, then the parts that need them."""
        try:
            environment = self._prepare_kafka() if self._commands is None else {}
            with self._changed:
                for part in self._parts.values():
                    if part.process is None and part.phase == "waiting" and not self._stopping:
                        part.environment = {**part.environment, **environment}
                        self._start(part)
        except (BakehouseError, OSError) as error:
            self._fail("broker", error if isinstance(error, BakehouseError) else StackError(error))

    def _prepare_kafka(self) -> dict[str, str]:
        """A broker that answers and has the topics; the variables that its users need."""
        phase = PhaseFile(self._home, "broker")

        def progress(words: str) -> None:
            if self._stopping:
                raise StackError("stopped while starting")
            phase.announce(words)
            self._events.tell("broker", "phase", words)

        progress("looking for Java")
        java = find_java()
        jars = ensure_jars(progress, java=java)
        if self._embedded_broker:
            progress("preparing")
            self._run_broker(
                Broker(
                    folder=self._home / "kafka",
                    java=java,
                    jars=jars.kafka,
                    port=self._ports["broker"],
                    controller_port=self._ports["controller"],
                    settings=self._settings,
                )
            )
        ensure_topics(self._settings, adjust=self._embedded_broker)
        if not self._embedded_broker:
            phase.announce(f"not ours, at {self._settings.kafka_bootstrap}", pid=None)
        return {
            "JAVA_HOME": str(java.home),
            "BAKEHOUSE_SPARK_JARS": ",".join(map(str, jars.spark)),
        }

    def _run_broker(self, broker: Broker) -> None:
        broker.prepare()
        part = Part("broker", broker.command(), os.environ, self._home, ready=broker.answers)
        with self._changed:
            if self._stopping:
                raise StackError("stopped while starting")
            self._parts["broker"] = part
            self._start(part)
        self.wait("broker", BROKER_TIMEOUT_S)

    def _supervise(self) -> None:
        """Thread: notice phases and deaths, and start again what died."""
        next_log_check = time.monotonic() + LOG_CHECK_S
        with self._changed:
            while not self._stopping:
                for part in self._parts.values():
                    self._look_at(part)
                if time.monotonic() > next_log_check:
                    next_log_check += LOG_CHECK_S
                    for part in self._parts.values():
                        bound_log(part.log)
                quiet = all(part.is_ready for part in self._parts.values())
                self._changed.wait(QUIET_TICK_S if quiet else TICK_S)

    def _look_at(self, part: Part) -> None:
        if part.restart_at is not None and time.monotonic() >= part.restart_at:
            self._start(part)
        if part.process is None or not part.wanted or part.restart_at is not None:
            return
        code = part.process.poll()
        if code is None:
            if part.refresh():
                self._tell(part, *(("ready",) if part.is_ready else ("phase", part.phase)))
            return
        self._guard.gone(part.process.pid)
        delay = part.note_death()
        self._write_run()
        if delay is not None:
            self._tell(part, "died", f"{exit_words(code)}; starting it again in {delay:g} s")
        elif part.name == "serving":
            self._fail(part.name, StackError(part.given_up))
        else:
            self._tell(part, "given up", str(part.given_up))

    def _start(self, part: Part) -> None:
        self._guard.started(part.start(), _stop_order(part.name))
        self._tell(part, "phase", part.phase)
        self._write_run()

    def _stop_together(self, parts: list[Part]) -> None:
        with self._changed:
            running = [(part, part.process.pid) for part in parts if part.process is not None]
            for part, _ in running:
                part.ask_to_stop()
                self._tell(part, "stopping")
        asked_at = time.monotonic()
        for part, pid in running:  # without the lock: it may take long, and the rest goes on
            waited = time.monotonic() - asked_at
            by_itself = part.end(max(0.0, STOP_TIMEOUT_S.get(part.name, 20.0) - waited))
            self._guard.gone(pid)
            self._tell(part, "stopped", "" if by_itself else "killed: it took too long")

    def _is_ready(self, part: str) -> bool:
        return part in self._parts and self._parts[part].is_ready

    def _problem(self, part: str) -> BakehouseError | None:
        given_up = self._parts[part].given_up if part in self._parts else None
        return StackError(given_up) if given_up is not None else self._failure

    def _fail(self, part: str, failure: BakehouseError) -> None:
        with self._changed:
            if not self._stopping:
                self._failure = self._failure or failure
                self._changed.notify_all()
                self._events.tell(part, "failed", str(failure))

    def _tell(self, part: Part, what: str, detail: str = "") -> None:
        self._events.tell(part.name, what, detail)
        with self._changed:
            self._changed.notify_all()

    def _write_run(self) -> None:
        Run(
            pid=os.getpid(),
            url=self.url,
            kafka_bootstrap=self.kafka_bootstrap,
            applications=self._refs,
            names=self._names,
            started_at_ms=self._started_at_ms,
            parts=self.pids(),
        ).write(self._home)


def _stop_order(part: str) -> int:
    return next((n for n, row in enumerate(STOP_ORDER) if part in row), len(STOP_ORDER))

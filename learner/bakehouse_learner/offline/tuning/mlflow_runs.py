"""A search in MLflow: a parent run, and in it a run for every trial.

Nothing is waited for that fails: a store that cannot be reached is said once, and the search goes
on without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bakehouse_learner.artifacts.mlflow_writer import Writer, quieten
from bakehouse_schemas.process.addresses import told, without_secrets
from bakehouse_schemas.process.private import make_home
from bakehouse_schemas.process.settings import Settings

LONGEST = 250  # characters of a parameter: what stores of every age take


class Runs:
    """One search.

    Args:
        say: a line for people who wait.
    """

    def __init__(self, settings: Settings, application: str, say: Callable[[str], None]) -> None:
        self._settings, self._application, self._say = settings, application, say
        self._writer: Writer | None = None
        self._experiment = ""
        self.parent: str | None = None  # None: there is no store
        self.failed = False

    def begin(self, parameters: Mapping[str, Any]) -> None:
        """The parent run."""

        def made() -> None:
            quieten()
            make_home(self._settings.home)
            artifacts = self._settings.home.resolve() / "mlflow-artifacts"
            self._writer = Writer(self._settings.mlflow_tracking_uri, artifacts)
            self._experiment = self._writer.experiment(self._application)
            if self._writer.restored:
                self._say(f"MLflow's experiment {self._application} had been deleted; it is back")
            self.parent = self._run(f"tune-{time.strftime('%Y%m%d-%H%M%S')}", {"kind": "tune"})
            self._log(self.parent, parameters, [])

        self._tried(made)

    def trial(
        self,
        number: int,
        *,
        state: str,
        settings: Mapping[str, Any],
        scores: Mapping[int, float],
        score: float | None,
    ) -> None:
        """A trial that has ended.

        Args:
            state: complete, pruned or failed.
            scores: so far, by decisions made.
        """

        def made() -> None:
            assert self._writer is not None and self.parent is not None
            tags = {"kind": "trial", "state": state, "mlflow.parentRunId": self.parent}
            run = self._run(f"trial-{number}", tags)
            told = [("score so far", value, step) for step, value in sorted(scores.items())]
            self._log(run, settings, told + ([] if score is None else [("score", score, 0)]))
            how = {"complete": "FINISHED", "pruned": "KILLED"}.get(state, "FAILED")
            self._writer.client.set_terminated(run, how)

        self._tried(made)

    def end(
        self, *, metrics: Mapping[str, float], answer: Mapping[str, Any], plots: Sequence[Path]
    ) -> None:
        """What came of the search."""

        def made() -> None:
            assert self._writer is not None and self.parent is not None
            self._log(self.parent, {}, [(name, value, 0) for name, value in metrics.items()])
            self._writer.client.log_dict(self.parent, dict(answer), "tune.json")
            for plot in plots:
                self._writer.client.log_artifact(self.parent, str(plot), "plots")
            self._writer.client.set_terminated(self.parent)

        self._tried(made)

    def _tried(self, made: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            made()
        except Exception as error:  # MLflow's own, its database's, its server's
            self.failed = True
            self._say(
                f"MLflow at {without_secrets(self._settings.mlflow_tracking_uri)} did not take it, "
                f"and the search goes on without: {told(error)}"
            )

    def _run(self, name: str, tags: Mapping[str, str]) -> str:
        assert self._writer is not None
        run = self._writer.client.create_run(self._experiment, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def _log(
        self,
        run: str,
        parameters: Mapping[str, Any],
        metrics: Sequence[tuple[str, float, int]],
    ) -> None:
        from mlflow.entities import Metric, Param

        assert self._writer is not None
        now_ms = time.time_ns() // 1_000_000
        self._writer.client.log_batch(
            run,
            metrics=[Metric(name, value, now_ms, step) for name, value, step in metrics],
            params=[Param(name, str(value)[:LONGEST]) for name, value in parameters.items()],
        )

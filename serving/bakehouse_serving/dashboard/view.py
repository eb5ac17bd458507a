"""What the dashboard at `/` gets each second: verdict, tiles, pipe, and what answers now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bakehouse_schemas.application.application import Episodic
from bakehouse_schemas.process.addresses import without_secrets
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.dashboard.pipeline_health import stages
from bakehouse_serving.dashboard.stage import Snapshot
from bakehouse_serving.dashboard.status import StatusReport
from bakehouse_serving.dashboard.verdict import verdict
from bakehouse_serving.policies.served import Served

Fields = dict[str, Any]


class DashboardSettings(NamedTuple):
    """Settings that the dashboard shows; no user, password or key of an address."""

    freshness_target_s: float
    mlflow_url: str | None  # of a server that people can open
    mlflow_command: str | None  # what starts one, where there is none
    mlflow_file: Path | None = None  # a database of this home: there is no command before it


def dashboard_settings(settings: Settings) -> DashboardSettings:
    """What of the settings the dashboard shows."""
    uri, target_s = settings.mlflow_tracking_uri, settings.freshness_target_s
    if uri.startswith(("http://", "https://")):
        return DashboardSettings(target_s, without_secrets(uri), None)
    if settings.mlflow_uri is None:
        command = f"uv run mlflow ui --backend-store-uri {uri}"
        return DashboardSettings(target_s, None, command, settings.mlflow_file)
    if without_secrets(uri) == uri:
        return DashboardSettings(target_s, None, f"uv run mlflow ui --backend-store-uri {uri}")
    # MLflow reads it from there: an argument could be read by every user of the machine
    return DashboardSettings(
        target_s, None, 'MLFLOW_BACKEND_STORE_URI="$BAKEHOUSE_MLFLOW_URI" uv run mlflow ui'
    )


def view(
    report: StatusReport,
    served: Served,
    settings: DashboardSettings,
    *,
    now_ms: int,
    own: Fields | None = None,
) -> Fields:
    """One application's `tick`: see the functions below.

    Args:
        own: what `report.status()` said just now, where several are asked for.
    """
    application = served.application
    own = report.status() if own is None else own
    figures = own["applications"][application.name]
    learner, _ = _learner(report, application.name)
    insight = _insight(report, application.name)
    rates = report.rates(application.name)
    made_at_ms = None if served.slot.policy is None else served.slot.policy.manifest.created_at_ms
    age_s = None if made_at_ms is None else max(now_ms - made_at_ms, 0) / 1000
    pipe = pipe_of(report, served, settings, now_ms=now_ms, own=own)
    return {
        "at_ms": now_ms,
        "application": application.name,
        "mode": application.mode,
        "agent": application.agent.name,
        "problem": "episodic" if isinstance(application.problem, Episodic) else "bandit",
        "actions_kind": application.shape.kind,
        "process": own["process"],
        "url": own["url"],
        "verdict": verdict(
            application,
            figures,
            control=served.control.model_dump(),
            learner=learner,
            insight=insight,
            pipe=pipe,
            policy_age_s=age_s,
            decisions_per_s=rates["decisions_per_s"],
        ),
        "tiles": _tiles(served, figures, insight, own, rates, settings),
        "policy": _policy(served, figures, learner, age_s),
        "swaps": list(served.history),
        "pipe": pipe,
        "mlflow": _mlflow(settings),
    }


def pipe_of(
    report: StatusReport, served: Served, settings: DashboardSettings, *, now_ms: int, own: Fields
) -> list[Fields]:
    """The stages of one application's pipe: see
    `bakehouse_serving.dashboard.pipeline_health.stages`.

    Args:
        own: what `report.status()` said just now.
    """
    name = served.application.name
    learner, record = _learner(report, name)
    snapshot = Snapshot(
        own,
        own["applications"][name],
        report.newest("stream"),
        record,
        learner and {**learner, "outcomes": _insight(report, name).get("outcomes")},
        report.waits.stream(),
        report.waits.learner(name),
    )
    return stages(snapshot, report.activity, now_ms=now_ms, target_s=settings.freshness_target_s)


def _learner(report: StatusReport, application: str) -> tuple[Fields, Fields]:
    """What the learner says of an application, and the record that it stands in."""
    record = report.newest("learner", application)
    its = (record.get("applications") or {}).get(application)
    return (its if isinstance(its, dict) else {}), record


def _insight(report: StatusReport, application: str) -> Fields:
    return (report.insight(application) or {}).get("insight") or {}


def _mlflow(settings: DashboardSettings) -> Fields:
    """Where the runs can be looked at: of a home's own database not before the learner has made
    it, lest a person's MLflow makes it at the same time."""
    made = settings.mlflow_file is None or settings.mlflow_file.exists()
    return {"url": settings.mlflow_url, "command": settings.mlflow_command if made else None}


def listed(
    report: StatusReport, served: Mapping[str, Served], settings: DashboardSettings, *, now_ms: int
) -> Fields:
    """All applications, a line each: `list`."""
    lines, own = [], report.status()
    for name, one in served.items():
        tick = view(report, one, settings, now_ms=now_ms, own=own)
        fresh = tick["tiles"]["freshness"]
        lines.append(
            {
                "name": name,
                "mode": tick["mode"],
                "verdict": tick["verdict"],
                "policy_version": tick["policy"]["version"],
                "decisions": tick["tiles"]["decisions"]["total"],
                "decisions_per_s": tick["tiles"]["decisions"]["per_s"],
                "freshness_s": {"p50": fresh["p50_s"], "p95": fresh["p95_s"], "n": fresh["n"]},
            }
        )
    simulated = any(line["verdict"]["simulated"] for line in lines)
    return {"at_ms": now_ms, "simulated": simulated, "applications": lines}


def _tiles(
    served: Served,
    figures: Fields,
    insight: Fields,
    own: Fields,
    rates: Fields,
    settings: DashboardSettings,
) -> Fields:
    lift, explored = insight.get("lift") or {}, insight.get("exploration") or {}
    fresh, handling = figures["freshness_s"], own["handling_ms"]
    sides = [lift.get(side) or {} for side in ("policy", "holdout")]
    answered, cohorts = figures["decisions"], figures["cohorts"]
    exploration = served.slot.exploration
    return {
        "lift": {
            "relative": lift.get("relative"),
            "difference": lift.get("difference"),
            "decisions": sum(int(side.get("n") or 0) for side in sides),
            "design_effect": lift.get("design_effect"),
            "holdout": served.application.rollout.holdout,
            "confidence": lift.get("confidence") or served.application.gate.confidence,
        },
        "decisions": {
            "per_s": rates["decisions_per_s"],
            "total": answered,
            "outcomes_per_s": rates["outcomes_per_s"],
            "outcomes_total": figures["outcomes"],
            "outcomes_rejected": figures["rejected"],
            "outcomes_uncounted": figures["uncounted"],
            "uncounted_names": served.uncounted.most(),
        },
        "freshness": {
            "p50_s": fresh["p50"],
            "p95_s": fresh["p95"],
            "n": fresh["n"],
            "target_s": settings.freshness_target_s,
        },
        "outcomes": insight.get("outcomes") or {"in_time": 0, "late": 0, "never": 0},
        "exploration": {
            "configured": _configured(exploration.logged()),
            "kind": exploration.kind,
            "override": served.slot.explore_share,
            "observed": explored.get("observed"),
            "expected": explored.get("expected"),
        },
        "answers": {
            "p50_ms": handling["p50"],
            "p99_ms": handling["p99"],
            "fallback_share": cohorts["fallback"] / answered if answered else 0.0,
            "fallbacks": cohorts["fallback"],
        },
    }


def _configured(exploration: Mapping[str, Any]) -> float | None:
    """The one number of an exploration: ε, else its spread or temperature."""
    if exploration["kind"] == "epsilon_greedy" or exploration.get("epsilon"):
        return float(exploration["epsilon"])
    found = exploration.get("std", exploration.get("temperature"))
    return None if found is None else float(found)


def _policy(served: Served, figures: Fields, learner: Fields, age_s: float | None) -> Fields:
    control = served.control
    return {
        "version": figures["policy_version"],
        "age_s": None if age_s is None else round(age_s, 1),
        "newest_version": figures["newest_version"],
        "canary": figures["canary"],
        "killed": figures["killed"],
        "frozen": figures["frozen"],
        "pinned_version": figures["pinned_version"],
        "gate_frozen": bool(learner.get("frozen")),
        "explore_share": figures["explore_share"],
        "by": control.by,
        "why": control.why,
        "control_at_ms": control.at_ms,
        "swaps": figures["swaps"],
    }

"""What serving says to the page, as examples: every state of the verdict, every kind of actions."""

from __future__ import annotations

import math
from typing import Any

SENTENCES = {
    "learning": "levels is learning: the first policy is being trained on 1,204 decisions.",
    "not_enough_data": "Not enough decisions yet to say what levels earns: 3,100 of about 8,000.",
    "winning": "levels earns +8.4% over the baseline (95% CI +3.1 to +13.9, 41,200 decisions, "
    "holdout 10%). Policy 37 is 12 s old.",
    "no_difference": "levels earns as much as the baseline (95% CI −1.2 to +1.4).",
    "hurting": "levels earns −6.1% against the baseline (95% CI −9.0 to −3.2, 41,200 decisions).",
    "blocked": "levels is blocked: nothing is being learned because Kafka cannot be reached; "
    "players get policy 37. It earns +8.4% over the baseline (95% CI +3.1 to +13.9, 41,200 "
    "decisions, holdout 10%). Policy 37 is 12 min old.",
    "frozen": "levels is frozen at policy 37 by ada: “release weekend”.",
    "killed": "levels is killed: the game's own rules answer, by ada: “players complain”.",
}
STAGES = ("serving", "spool", "kafka", "join", "replay", "learner", "swap")
KINDS = ("discrete", "continuous", "parts", "ranking")
START_MS = 1_790_000_000_000
DECISION = "0199d0f2-7c31-7a44-9a51-0c9b4c1f2a3b"


def tick(
    name: str,
    at_ms: int,
    *,
    state: str = "winning",
    kind: str = "discrete",
    total: int = 41_200,
    uncounted: bool = False,
    rejected: int = 0,
    evil: str = "",
) -> dict[str, Any]:
    """One `tick`. `evil` is put into every text that a game or a person wrote."""
    lift = state in ("winning", "no_difference", "hurting")
    return {
        "at_ms": at_ms,
        "application": name,
        "mode": "online",
        "agent": "neural_greedy",
        "problem": "bandit",
        "actions_kind": kind,
        "process": "0",
        "url": "http://127.0.0.1:8080",
        "verdict": {
            "state": state,
            "sentence": SENTENCES[state],
            "simulated": True,
            "next": f"`bakehouse logs broker`, or raise the holdout ` of{evil}.",
        },
        "tiles": {
            "lift": {
                "relative": {"mean": 0.084, "lower": 0.031, "upper": 0.139} if lift else None,
                "difference": {"mean": 0.041, "lower": 0.015, "upper": 0.067} if lift else None,
                "decisions": total,
                "holdout": 0.1,
                "confidence": 0.95,
            },
            "decisions": {
                "per_s": 98.4 + total % 7,
                "total": total,
                "outcomes_per_s": 91.2,
                "outcomes_total": total - 900,
                "outcomes_rejected": rejected,
                "outcomes_uncounted": 412 if uncounted else 0,
                "uncounted_names": [
                    {"name": f"revenue{evil}", "count": 400, "meant": f"revenue_usd{evil}"},
                    {"name": "shop", "count": 12, "meant": None},
                ][: 2 * uncounted],
            },
            "freshness": {"p50_s": 1.8, "p95_s": 3.2, "n": 5400, "target_s": 5.0},
            "outcomes": {"in_time": 38_000, "late": 400, "never": 2_800},
            "exploration": {
                "configured": 0.1,
                "kind": "epsilon_greedy",
                "override": None,
                "observed": 0.0987,
                "expected": 0.1002,
            },
            "answers": {"p50_ms": 0.31, "p99_ms": 1.9, "fallback_share": 0.0, "fallbacks": 0},
        },
        "policy": {
            "version": 37,
            "age_s": 12.0,
            "newest_version": 37,
            "canary": 1.0,
            "killed": state == "killed",
            "frozen": state == "frozen",
            "pinned_version": None,
            "gate_frozen": False,
            "explore_share": None,
            "by": f"ada{evil}",
            "why": f"release weekend{evil}",
            "control_at_ms": START_MS,
            "swaps": 12,
        },
        "swaps": [
            {
                "at_ms": START_MS + 300_000 + i * 40_000,
                "from": i,
                "to": i + 1,
                "killed": False,
                "why": f"newer{evil}",
            }
            for i in range(12)
        ],
        "pipe": [
            {
                "stage": stage,
                "title": stage.title(),
                "level": ("ok", "ok", "busy", "ok", "unknown", "blocked", "ok")[i],
                "age_s": 0.4 * i,
                "figures": [
                    {"name": "waiting", "value": f"{i * 30}"},
                    {"name": "rate", "value": f"98/s{evil}"},
                ],
                "meaning": f"What {stage} means{evil}",
                "do": f"What to do about {stage}{evil}",
            }
            for i, stage in enumerate(STAGES)
        ],
        "mlflow": {"url": None, "command": "mlflow ui --backend-store-uri sqlite:///mlflow.db"},
    }


def insight(kind: str, *, evil: str = "", buckets: int = 60) -> dict[str, Any]:
    """What the learner says, in one of four kinds of actions; of "many", labels are two dozen."""
    at_ms = [START_MS + i * 15_000 for i in range(buckets)]
    words = [f"offer {i}" for i in range(24)] if kind == "many" else ["easy", "normal", "hard"]
    labels = [f"{word}{evil}" for word in words]
    kind = "discrete" if kind == "many" else kind
    named = [f"tone{evil}={label}" for label in labels] if kind == "parts" else labels

    def line(level: float, gain: float, n: float) -> dict[str, Any]:
        mean = [
            level + gain * (1 - math.exp(-i / 18)) + 0.012 * math.sin(i) for i in range(buckets)
        ]
        reach = [1.4 / math.sqrt((i + 1) * n) for i in range(buckets)]
        return {
            "n": [int(n)] * buckets,
            "mean": mean,
            "lower": [a - b for a, b in zip(mean, reach, strict=True)],
            "upper": [a + b for a, b in zip(mean, reach, strict=True)],
        }

    return {
        "since_ms": START_MS,
        "decisions": 41_200,
        "simulated": 41_200,
        "skipped": 0,
        "outcomes": {"in_time": 38_000, "late": 400, "never": 2_800},
        "exploration": {"observed": 0.0987, "expected": 0.1002, "n": 36_000},
        "series": {
            "bucket_ms": 15_000,
            "at_ms": at_ms,
            "policy": line(0.31, 0.19, 40),
            "holdout": line(0.33, 0.0, 9),
            "random": line(0.21, 0.0, 14),
            "actions": {
                label: [
                    int(100 + (60 - 40 * k % 120) * math.sin(i / 9 + k)) for i in range(buckets)
                ]
                for k, label in enumerate(named)
            },
            "version": [i // 5 for i in range(buckets)],
        },
        "actions": {"kind": kind, **_actions(kind, labels, evil)},
        "candidates": [_candidate(i, evil) for i in range(14, 0, -1)],
        "trust": {
            "sample_ratio": {
                "expected": 0.1,
                "observed": 0.1013,
                "subjects": 5_000,
                "p_value": 0.76,
                "ok": True,
            },
            "audit": {
                "checked": 400,
                "equal": 399,
                "different": 1,
                "unavailable": 2,
                "worst": 0.02,
                "last_problem": {
                    "decision_id": f"{DECISION}{evil}",
                    "recorded": 0.5,
                    "recomputed": 0.51,
                },
            },
            "drift": [
                {"feature": f"skill{evil}", "psi": 0.31, "level": "shifted"},
                {"feature": "country", "psi": 0.13, "level": "moved"},
                {"feature": "minutes_today", "psi": 0.01, "level": "stable"},
            ],
            "drift_reference": f"the first 5,000 decisions{evil}",
            "excluded": {"checked": 41_200, "violations": 0},
            "match_rate": 0.997,
        },
    }


def _actions(kind: str, labels: list[str], evil: str) -> dict[str, Any]:
    shares = (0.3, 0.5, 0.2) if len(labels) == 3 else [1 / len(labels)] * len(labels)
    board = [
        {
            "action": label,
            "n": 9_000 + 4_000 * i,
            "share": shares[i],
            "raw_mean": 0.52 - 0.1 * i,
            "mean": 0.31 + 0.06 * i,
            "lower": 0.27 + 0.06 * i,
            "upper": 0.35 + 0.06 * i,
            "effective_sample": 2_100.0,
        }
        for i, label in enumerate(labels)
    ]
    groups = [
        {
            "from": i,
            "to": i + 2,
            "n": 900,
            "shares": dict(zip(labels, shares, strict=True)),
        }
        for i in range(0, 36, 3)
    ]
    hill = [int(100 * math.exp(-(((i - 18) / 5) ** 2))) for i in range(32)]
    number = {"name": f"health{evil}", "low": 0.5, "high": 2.0}
    counts = {"policy": hill, "holdout": hill[::-1]}
    match kind:
        case "continuous":
            return {"numbers": [{**number, **counts}, {**number, "name": "damage", **counts}]}
        case "parts":
            return {
                "parts": [
                    {"name": f"tone{evil}", "kind": "discrete", "leaderboard": board},
                    {"kind": "continuous", **number, **counts},
                ]
            }
        case "ranking":
            places = {f"place {i + 1} as the baseline": 0.9 / (i + 1) for i in range(3)}
            return {"by_version": [{**one, "shares": places} for one in groups]}
        case _:
            return {"leaderboard": board, "by_version": groups}


def _candidate(i: int, evil: str) -> dict[str, Any]:
    published = i % 3 != 0
    return {
        "version": i,
        "at_ms": START_MS + 200_000 + i * 45_000,
        "published": published,
        "reason": f"{'better than the anchor' if published else 'not shown to be better'}{evil}",
        "trigger": f"new rows{evil}",
        "rows": 1_000 * i,
        "new_rows": 1_000,
        "losses": {"loss": 0.61 - 0.01 * i, f"other{evil}": 0.2},
        "mean": 0.3 + 0.01 * i,
        "lower": 0.2 + 0.01 * i,
        "upper": 0.4 + 0.01 * i,
        "effective_sample": 480.0 * i,
        "rules": [
            {"name": f"lower bound{evil}", "number": 0.02, "threshold": 0.0, "passed": published},
            {"name": "effective sample", "number": 480.0 * i, "threshold": 100, "passed": True},
        ],
        "mlflow_run": f"a1b2c3{evil}",
        "changed": {"action_shift": 0.04, "loss": -0.01, "new_rows": 1_000, "exploration": 0.1},
    }


def explanation(evil: str = "") -> dict[str, Any]:
    """Why somebody got "hard"."""
    return {
        "decision_id": DECISION,
        "application": "levels",
        "contract": "c0ffee",
        "subject_id": f"simulated-4711{evil}",
        "decided_at_ms": START_MS,
        "received_at_ms": START_MS + 40,
        "mode": "online",
        "cohort": "policy",
        "explored": False,
        "policy_version": 36,
        "simulated": True,
        "context": {f"skill{evil}": 0.72, "country": f"DE{evil}"},
        "observation": [{"feature": f"skill{evil}", "value": 0.44}],
        "policy": {
            "version": 36,
            "agent": "neural_greedy",
            "created_at_ms": START_MS - 9_000,
            "available": True,
        },
        "scores": [
            {"action": "easy", "score": 0.2, "own": 0.0, "eligible": True, "executed": 0.033},
            {
                "action": f"hard{evil}",
                "score": 0.6,
                "own": 1.0,
                "eligible": True,
                "executed": 0.933,
            },
            {"action": "normal", "score": 0.4, "own": 0.0, "eligible": False, "executed": 0.0},
        ],
        "numbers": [],
        "mask": {"eligible": ["easy", f"hard{evil}"], "excluded": [f"normal{evil}"]},
        "exploration": {"kind": "epsilon_greedy", "epsilon": 0.1},
        "draw": 0.41,
        "action": f"hard{evil}",
        "baseline_action": "normal",
        "propensity": 0.9333333333333333,
        "recomputed": 0.9333333333333333,
        "exact": True,
        "why_not": None,
        "outcomes": [
            {
                "outcome_id": "o1",
                "kind": "reward",
                "name": f"level_won{evil}",
                "value": 1.0,
                "occurred_at_ms": START_MS + 4_000,
                "received_at_ms": START_MS + 4_050,
                "counted": True,
                "why": f"within 8 s{evil}",
            }
        ],
        "reward": {
            "value": 1.0,
            "state": "matured",
            "matured_at_ms": START_MS + 4_050,
            "rule": f"level_won 1, quit -1{evil}",
        },
        "trained": {"first": 37, "versions": 3, "latest": 39, "learner": f"rows up to now{evil}"},
        "contested": False,
        "sentences": [
            f"Player simulated-4711{evil} asked at 12:00:00.",
            "Policy 36 scored “hard” highest of 2 eligible actions.",
            "It was drawn with probability 0.93, and not by exploration.",
        ],
    }

"""What Bakehouse promises when things break, and the proof.

| promise | where it is proved |
|---|---|
| whatever comes, how often and in whatever order: the folded table is what was sent | `test_exactly_once.py`, by `oracle.py` |
| a process ended at any named point of its code loses nothing and repeats nothing | `test_failpoints.py`, `test_learner.py` |
| broker, network, disk and processes fail while a game is played | `python -m tests.faults`: `scenarios/`, `kills.py` |
| every Kafka position is accounted for, and a missing row is noticed | `test_exactly_once.py`, `verify.py` |
| a killed learner makes the same policies; nothing is counted twice; no infinity gets out | `test_learner.py` |
| the gate errs as seldom as it says | `test_gate.py` |
| actions are drawn as logged, from one policy; a kill switch holds | `test_serving.py` |
| no request and no byte from outside breaks anything or changes anything | `test_doors_http.py`, `test_fuzz.py` |

    uv run pytest tests/faults
    uv run python -m tests.faults --events 100000 --kills 6
    uv run python -m tests.faults.fuzz --help
"""

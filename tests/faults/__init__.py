"""What Bakehouse promises when things break, and the proof.

- Whatever comes, how often and in whatever order: the folded table is what was sent; every Kafka
  position is accounted for, and a missing row is noticed. `test_exactly_once.py`, by `oracle.py`
- A process ended at any named point of its code loses nothing and repeats nothing; a killed
  learner makes the same policies. `test_failpoints.py`, `test_learner.py`
- Broker, network, disk and processes fail while a game is played. `python -m tests.faults`:
  `scenarios/` and `kills.py`, held to account by `verify.py`
- Nothing is counted twice, and no infinity gets into a policy. `test_learner.py`
- The gate errs as seldom as it says. `test_gate.py`
- Actions are drawn as logged, from one policy; a kill switch holds. `test_serving.py`
- No request and no byte from outside breaks or changes anything. `test_doors_http.py`,
  `test_fuzz.py`

    uv run pytest tests/faults
    uv run python -m tests.faults --events 100000 --kills 6
    uv run python -m tests.faults.fuzz --help
"""

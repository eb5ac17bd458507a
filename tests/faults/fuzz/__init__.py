"""Coverage-guided fuzzing of everything that parses bytes from outside.

A target is a module `tests/faults/fuzz/target_<name>.py` with

- `__doc__`: what it feeds to what, and what must hold;
- `seeds()`: a few valid inputs, made in code;
- `check(data)`: feeds one input and raises when something does not hold;
- `mutate(data, size, random, bytewise)`, optional: another input near this one, of at most `size`
  bytes, where `bytewise(data, size)` is libFuzzer's own way;
- `plant()`: puts a defect into the product code, in this process, so that a test can see that the
  fuzzer finds it.
"""

from __future__ import annotations

# name -> what it feeds, in a line; `NAME --help` gives the target's own words
TARGETS = {
    "decision": "records of decisions.v1, through the decoder, to rows that the tables take",
    "outcome": "records of outcomes.v1, through the decoder, to rows and a reward",
    "control": "records of policies.v1 under <application>/control, as serving hears them",
    "pointer": "records of policies.v1, progress.v1 and status.v1, as they are heard",
    "cost": "bodies and records that grow, through every door: what a byte costs",
    "frames": "stretches of a spool, cut, damaged and repeated",
    "spool": "whole folders of a spool: segments, positions, and files that are neither",
    "manifest": "policy bundles: their manifest, arrays and files",
    "application": "application pages: their values, and their text",
}

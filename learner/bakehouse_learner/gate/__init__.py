"""Whether a candidate may replace the policy that is served, on what evidence, step by step."""

"""Off-policy evaluation: what would another policy have earned, from a log of this one?

Pure NumPy, no client and no clock. Everything is by the target's probability or density of the
logged action and the logged propensity, so continuous actions fit as discrete ones do.
"""

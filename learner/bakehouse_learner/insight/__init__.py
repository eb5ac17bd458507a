"""Figures for people: what is earned, what is done, and can it be trusted. A question a file.

Counted from the ring beside the learning, which looks at none of it.
"""

"""How estimates are shown to people."""

from bakehouse.reports.evaluate import signed_bounded


def test_a_difference_has_its_sign_whether_or_not_it_is_sure() -> None:
    unsure = {"mean": 0.02, "lower": -0.01, "upper": 0.05}
    assert signed_bounded(unsure) == "+0.020 (-0.010 to 0.050)"
    assert signed_bounded({"mean": 0.5, "lower": None, "upper": None}) == "+0.500 (no interval)"
    assert signed_bounded({"mean": None, "lower": None, "upper": None}) == "no number"
    assert signed_bounded(unsure | {"mean": -0.005}) == "-0.005 (-0.010 to 0.050)"

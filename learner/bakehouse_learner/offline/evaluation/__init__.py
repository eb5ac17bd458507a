"""What a policy would have earned, from what is logged."""

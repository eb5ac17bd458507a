"""The commands of `bakehouse`, a file each, and what they share."""

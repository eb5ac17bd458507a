"""How the offline commands print what they found."""

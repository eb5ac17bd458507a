"""An application learned in a world, in virtual time."""

"""Which policy answers: heard of, loaded, put in force, and recorded."""

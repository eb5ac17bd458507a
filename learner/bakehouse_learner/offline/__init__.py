"""One program a command: advise, compare, evaluate, fit-world, train and tune."""

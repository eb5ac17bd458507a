"""Past decisions, of a home's table or of somebody's files, as the learner takes them."""

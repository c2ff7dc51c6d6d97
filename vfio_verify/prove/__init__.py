"""A subject decided for every input at once, by bounded model checking of its C text (specs/model)."""

"""The process in which a subject runs, confined, and what goes to it and comes back."""

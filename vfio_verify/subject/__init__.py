"""From what a reviewer holds in his hands to a function that can be called: the core, or C in any usual form."""

"""Many cases, here or on other machines, and each violation that they show."""

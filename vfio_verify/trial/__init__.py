"""One case run and judged, a violation confirmed, and its case made small."""

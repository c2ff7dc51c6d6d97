"""What comes out: text, JSON, JUnit, SARIF, annotations, and a case drawn."""

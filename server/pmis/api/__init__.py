"""HTTP: one way in for every verb, problem details for every refusal."""

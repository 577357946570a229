"""Tasks: things to do for a package, each with a due date, an assignee and a life cycle."""

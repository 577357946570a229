"""Comments on packages, tasks, parties and approvals."""

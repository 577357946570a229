"""Telling people: what waits for them, and what became of what they proposed; in the application and by mail.

`spread`   from what the outbox promised to a row for each person it concerns
`letter`   one mail with everything that is still untold
`tasks`    the jobs

A mail is a summary with links. Nothing can be decided by following one.
"""

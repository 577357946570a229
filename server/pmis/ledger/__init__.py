"""The write path's floor: events in, rows out, nothing else.

An event is appended by the database's own function, which chooses position, time and hashes. A row of state changes
only by applying an event, live and in replay alike, so the rows always equal a replay of the log. What a transaction
promises to the outside is written into the outbox, and what it answered is kept under its idempotency key; all of it
commits together or not at all. Events are sealed into a Merkle tree afterwards, by a process that can do nothing else.
"""

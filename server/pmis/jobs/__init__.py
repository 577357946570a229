"""Work that is done later, and never lost.

A job is accepted in the transaction that causes it (`queue.enqueue`, or a promise in the outbox): one row, one key. The
relay tells the broker the ids of jobs that are due, after the commit, and again until a worker has claimed them. A
worker claims a job with a lease and a number for the attempt, and ends it in one transaction that holds only while that
number is still the job's. A job whose worker is not heard of again is due again; one that had its attempts is a dead
letter.
The broker holds nothing but ids: whatever happens to it, the rows say what is to be done.
"""

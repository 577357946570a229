"""The governed path: a change is proposed, judged by the policy, agreed by others where it says so, applied once.

`propose` takes an ordered list of changes that stand or fall together and either applies them or records an
approval that waits. `decide` takes what people say to a waiting approval and, when enough agree, applies the changes in
the same transaction. Both lock what they touch in one fixed order: idempotency key, records, approvals.
"""

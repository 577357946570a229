"""The policy: who may do what, how risky a change is, and who must agree before it is applied.

Everything here is pure. A decision is made from its arguments alone: no clock, no database, no settings, so that the
same change, the same facts and the same policy document always give the same answer, on any machine, years later.

`levels`     impact and uncertainty (`Level`), and what a change must go through (`Route`)
`access`     roles, principals and `authorize`, the one answer to "may they?"
`lifecycle`  states and transitions of a package and a task
`strict`     the base of everything in a document
`document`   the versioned policy document, read strictly; `default.json` is the one that ships
`arbitrate`  facts and policy in, a decision that explains itself out
`approvers`  seats, quorum, delegation: nobody approves their own change, in any guise
"""

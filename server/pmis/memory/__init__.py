"""Memories: what is worth remembering of a record, who said it and what it rests on.

A memory belongs to a project, a package, a task or a party, and is seen by whoever sees their project. It is stored,
corrected and forgotten on the governed path like everything else; what somebody else remembers takes an approval. Its
text may be about people, so it lies in the vault: the log and the rows hold a reference, and what was forgotten is
erased after a while.

What memories are found by, words and vectors, is made from the texts and stands beside them (see `index`). It is no
state: a replay does not need it, and it goes at once when a memory is forgotten.
"""

"""E-mail as untrusted evidence: taken in once, kept as it came, read in a child process, filed, never obeyed.

`intake` accepts a mail, whichever way it came, and answers only after the commit. `reading` has it read by `child`,
a process that can do nothing but that. `routing` says where it belongs and whether its sender is known, `filing` writes
that down as events. What a mail asks for becomes a proposal only when a person says so, in `suggestions`.
"""

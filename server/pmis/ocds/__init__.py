"""Open Contracting Data Standard in and out: what others publish about a procurement becomes proposals here.

The story, in the order in which the modules tell it: `reader` takes a file apart into releases and refuses what is not
OCDS; `check` lists what is wrong in each, item by item; `upgrade` gives a release of version 1.0 the shape of 1.1;
`merge` folds it into what is known of its contracting process, by the standard's own rules; `lifecycle` and `views` say
what that process means in packages, tasks and parties; `mapping` compares the meaning before and after, so that only
news is proposed and a change made by a person here is not undone by a publisher who repeats himself; `writer` goes the
way back. All of it is pure: no database, no clock, no network.
"""

"""How fast PMIS is, beside the fastest honest program for the same answers and beside Redmine.

Only ratios taken in one run are worth anything: machines differ by a factor of three and one machine differs from
itself by a quarter from minute to minute. So one command starts everything on one embedded PostgreSQL, fills each
database with the same packages, and lets the contestants take turns: a short round each, several rounds, medians of
them.

`data` makes the packages; `floor` is the program to beat and `redmine` a peer; `targets` start them and say which
requests each scenario sends; `load` sends them; `measure` watches the processes and the database; `report` prints and
judges. `ladder` and `mail` stand for themselves: how long the overdue ladder takes, and a mail until it is filed.
"""

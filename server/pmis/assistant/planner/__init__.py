"""The planner without a model: a grammar of what project people say, and links from words to records.

`plan` reads a message in steps, each in a module of its own:

1. `text` makes it plain and puts quotations aside; `reasons` takes out why something is to be done.
2. `items` cuts each sentence into parts: codes, dates (`dates`), amounts (`amounts`), known `words`, and unknown ones.
3. `linking` finds the records that unknown words name (`knowledge` asks the database), and mends slips of the finger.
4. `stance` tells a command from a question, a prohibition, a report and a supposition.
5. `commands` reads commands: `slots` sorts out targets and values, `changes` and `creating` make proposals of them.
   `questions` reads questions, with `filters` for lists and totals.
6. `memories` reads what is to be remembered, told again and forgotten, before any of this.
7. `planning` puts it together, with what an earlier turn left open.

Two rules keep it from writing what nobody asked for. A command of which a word was not understood is asked back, not
carried out in part; and of several records that words may mean none is chosen. What is forbidden ("do not award P-003")
is answered with the word that nothing was changed; what others said, what is only considered and what hangs on a
condition is asked back; a question is answered, even where it looks like a command. A percentage of an amount is
rounded to the cent, halves up. "Next Friday" is the first Friday after today.
"""

from pmis.assistant.planner.planning import plan

__all__ = ["plan"]

"""What others wrote: mails, comments, descriptions and imported fields, of which a planner is given values alone.

`texts` finds a text as far as the person may read it, `extractor` has values taken out of it by a model that has no
tools, or by rules, `values` holds them to one strict schema and to what stands in the text, and `tools` is what a
planner may call. A change that is proposed afterwards says where its values are from (`plan.Taken`), and the policy is
told that others wrote them; neither is left to a model.
"""

"""The assistant: it answers questions with evidence, and turns what is asked for into proposals.

Whoever plans, the grammar or a model, gives one `Plan` and nothing else: questions to be answered, changes to be
proposed, a question back, or a refusal. It decides nothing, and can do nothing that the person it acts for may not do.
"""

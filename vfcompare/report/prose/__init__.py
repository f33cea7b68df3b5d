"""What is said of a study: how it was done, what is not comparable in it, and what follows, in sentences.

Rooms, each importing only from those before it: `sentences`, `method`, `fairness`, `learning`, `budgets`,
`credit`, `limits`, `claims`, `verdicts`.
"""

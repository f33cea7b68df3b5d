"""What both sides of the comparison on tokens are asked to do: nothing but numbers.

Every answer has the same length, so that both write as many tokens.
"""

PROMPTS, GROUP = 64, 8
PROMPT, NEW = 8, 24
VOCABULARY = 16
LAYERS, WIDTH, HEADS, EXPANSION = 2, 64, 4, 4

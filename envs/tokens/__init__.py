"""Tasks in tokens: a prompt is read, an answer is written token by token, and its end is judged."""

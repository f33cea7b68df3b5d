"""The truth: exact values, what agents measure against them, and what theory predicts of it."""

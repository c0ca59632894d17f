"""Exit codes of `samplers/deblur.py`, whose help explains them; the other scripts here use some of them."""

FAILED, USAGE, FILE, MEMORY, NOT_FINITE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

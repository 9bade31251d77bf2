"""What a query means: its terms, the vector they add up to, the score of a match, words, and duplicates."""

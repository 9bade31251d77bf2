"""What a person sees: tables, one picture of the results, and the progress of indexing."""

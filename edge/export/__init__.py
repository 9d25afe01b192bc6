"""Values of a range of an archive as files: which records they come from, and their rows as text or Parquet."""

"""Importers: tags from the files of other programs, one file per format. Pure: bytes in, tags and findings out."""

"""From untrusted files to studies, cells and runs, and what they are called for a reader.

Rooms, each importing only from those before it: `files`, `cells`, `labels`, `seeds`, `runs`, `data`,
`anonymous`, `renaming`.
"""

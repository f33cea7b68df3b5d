"""What is written: the report as a page, Markdown, LaTeX and data, its tables and figures alone, and exports.

Rooms, each importing only from those before it: `formats`, `venues`, `document`, `page`, `export`,
`writing`.
"""

"""HTML templates, SVG charts and thumbnails that reports and the server share.

Public names, by module:

- `render`: `render`, `download`, and the filters `percent`, `points`, `clock`, `risk_words`
- `svg`: `plot`, `interval`, `Axis`, `Line`, `Mark`, `Bar`, and the functions that make axes
- `thumbnails`: `most_attended`, `data_uri`

Charts that only one page shows are in the module of that page. The package may import `uncertainty` and the packages
below it, but not `reports` or `server`. This `__init__` imports nothing.
"""

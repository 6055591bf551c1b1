"""HTML templates, SVG charts and thumbnails shared by reports and the server."""
